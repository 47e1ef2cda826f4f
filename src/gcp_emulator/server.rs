//! The way of a request: route, fault, check, room, check, fault, answer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::EmulatorConfig;
use super::cloud_run::CloudRun;
use super::connection::{Connection, Connections};
use super::discovery::Discovery;
use super::failure::Failure;
use super::faults::{Fault, FaultAction, Faults};
use super::identity::{self, Identity};
use super::logging::{self, Logs};
use super::routes::{self, Service};
use super::secret_manager::SecretManager;
use super::storage::{self, Storage};
use super::wire::{Call, Reply, decoded, query_pairs};

/// The largest body that is taken, so that a broken client cannot fill the memory.
const BODY_LIMIT: usize = 1 << 30;

/// Everything that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: EmulatorConfig,
    pub(super) url: String,
    pub(super) identity: Identity,
    pub(super) secrets: Mutex<SecretManager>,
    pub(super) run: CloudRun,
    pub(super) logs: Mutex<Logs>,
    pub(super) storage: Mutex<Storage>,
    pub(super) faults: Mutex<Faults>,
    pub(super) served: Mutex<Vec<Served>>,
    pub(super) violations: Mutex<Vec<String>>,
    discovery: Option<Discovery>,
}

impl Shared {
    pub(super) fn new(config: EmulatorConfig, url: String) -> io::Result<Self> {
        let discovery = config.discovery.as_deref().map(Discovery::load).transpose()?;
        let run = CloudRun::default();
        for (name, job) in &config.jobs {
            run.add_job(name, job.clone()).map_err(|failure| io::Error::other(format!("job {name}: {failure:?}")))?;
        }
        Ok(Self {
            identity: Identity::new(&config.identity, &config.signing_keys)?,
            secrets: Mutex::new(SecretManager::new(config.denied_kms_keys.clone())),
            run,
            logs: Mutex::default(),
            storage: Mutex::new(Storage::new(&config)),
            faults: Mutex::default(),
            served: Mutex::default(),
            violations: Mutex::default(),
            discovery,
            url,
            config,
        })
    }

    /// A name of Secret Manager as the service writes it.
    pub(super) fn with_project_number(&self, name: String) -> String {
        let rest = name.strip_prefix("projects/").and_then(|rest| rest.split_once('/'));
        match (self.config.project_number, rest) {
            (Some(number), Some((_, rest))) => format!("projects/{number}/{rest}"),
            _ => name,
        }
    }

    fn report(&self, id: &str, found: Vec<String>) {
        let mut violations = lock(&self.violations);
        violations.extend(found.into_iter().map(|text| format!("{id}: {text}")));
    }
}

/// A lock that a panic elsewhere does not poison for the rest of the run.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// The method's discovery id.
    pub method: String,
    /// The HTTP method.
    pub http: String,
    /// The path without the query.
    pub path: String,
    /// The HTTP status of the answer; 0 when the connection was reset.
    pub status: u16,
    /// The fault that the call met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultAction>,
}

/// Serves until dropped.
pub(super) async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let service = Router::new().fallback(answer).with_state(shared).into_make_service_with_connect_info::<Connection>();
    // It never returns, by its documentation.
    let _ = axum::serve(Connections(listener), service).await;
}

/// What has arrived is done, whether or not anybody still waits for the answer.
async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    match tokio::spawn(work(shared, connection, request)).await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    }
}

async fn work(shared: Arc<Shared>, connection: Connection, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        connection.cut();
        return respond(Reply::empty(StatusCode::BAD_REQUEST), &parts.method, None);
    };
    if let Some(control) = parts.uri.path().strip_prefix("/_emulator/") {
        let reply = steer(&shared, &parts.method, control, &body);
        return respond(reply, &parts.method, None);
    }
    let Some((route, path)) = routes::find(&parts.method, parts.uri.path()) else {
        shared.report("unknown", vec![format!("no method {} {}", parts.method, parts.uri.path())]);
        let failure = Failure::unimplemented("This emulator does not serve the method.");
        return respond(failure.reply(Service::Logging), &parts.method, None);
    };
    let mut name = resource_name(&parts.uri);
    if route.service() == Service::SecretManager {
        name = shared.with_project_number(name);
    }
    let call = Call {
        id: route.id,
        name,
        path,
        query: query_pairs(parts.uri.query().unwrap_or("")),
        headers: parts.headers,
        body,
    };

    let fault = lock(&shared.faults).meet(route.id, parts.method.as_str(), &decoded(parts.uri.path()));
    let mut served = Served {
        method: route.id.to_owned(),
        http: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        status: 0,
        fault: fault.clone(),
    };
    if let Some(delay) = fault.as_ref().and_then(FaultAction::delay) {
        tokio::time::sleep(delay).await;
    }
    check_request(&shared, route.service(), &parts.method, &parts.uri, &call);
    let reply = match &fault {
        Some(FaultAction::Reset) => {
            connection.cut();
            Reply::empty(StatusCode::OK)
        }
        Some(FaultAction::Status { code, retry_after_seconds }) => {
            let reply = Failure::scripted(*code).reply(route.service());
            match retry_after_seconds {
                Some(seconds) => reply.with("retry-after", &seconds.to_string()),
                None => reply,
            }
        }
        _ => dispatch(&shared, route.service(), &parts.method, &parts.uri, &call, fault.as_ref())
            .await
            .unwrap_or_else(|failure| failure.reply(route.service())),
    };
    if matches!(fault, Some(FaultAction::LoseAnswer | FaultAction::BreakAfter { .. })) {
        connection.cut();
    }
    if !fault.as_ref().is_some_and(FaultAction::leaves_no_answer) {
        served.status = reply.status.as_u16();
        if let Some(discovery) = shared.discovery.as_ref().filter(|_| is_described(route.service())) {
            shared.report(route.id, discovery.check_answer(route.id, &call, &reply));
        }
    }
    lock(&shared.served).push(served);
    let cut_after = match fault {
        Some(FaultAction::Truncate { after_bytes }) => Some(after_bytes),
        _ => None,
    };
    respond(reply, &parts.method, cut_after)
}

/// `projects/p/secrets/s` of `/v1/projects/p/secrets/s:addVersion`.
fn resource_name(uri: &Uri) -> String {
    let path = decoded(uri.path());
    let path = path.trim_start_matches('/');
    let path = path.split_once('/').map_or("", |(_, rest)| rest);
    match path.rsplit_once('/') {
        Some((parent, last)) => {
            let last = last.split_once(':').map_or(last, |(name, _)| name);
            format!("{parent}/{last}")
        }
        None => path.to_owned(),
    }
}

/// Whether there is a discovery document that is checked against. The documents of the services that hand out tokens
/// are not asked of users; those of OAuth and of the metadata server do not exist.
fn is_described(service: Service) -> bool {
    !matches!(service, Service::Xml | Service::Iam | Service::Tokens)
}

fn check_request(shared: &Shared, service: Service, method: &Method, uri: &Uri, call: &Call) {
    let Some(discovery) = shared.discovery.as_ref().filter(|_| is_described(service)) else {
        return;
    };
    let body = if service == Service::Storage {
        storage::json_part(method, call)
    } else {
        Some(call.body.clone()).filter(|body| !body.is_empty())
    };
    let found = discovery.check_request(method, uri.path(), call, body.as_deref());
    shared.report(call.id, found);
}

async fn dispatch(
    shared: &Arc<Shared>,
    service: Service,
    method: &Method,
    uri: &Uri,
    call: &Call,
    fault: Option<&FaultAction>,
) -> Result<Reply, Failure> {
    if !matches!(service, Service::Iam | Service::Tokens) {
        shared.identity.admit(call)?;
    }
    match service {
        Service::Iam | Service::Tokens => identity::call(shared, call),
        Service::SecretManager => lock(&shared.secrets).call(call),
        Service::CloudRun => super::cloud_run::call(shared, call).await,
        Service::Logging => logging::list(&lock(&shared.logs), call),
        Service::Storage => storage::call(shared, method, call, fault),
        Service::Xml => storage::signed_call(shared, method, uri, call),
    }
}

/// The control paths.
fn steer(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Reply {
    match (method.as_str(), path) {
        ("GET", "health") => Reply::json(&json!({"status": "ok"})),
        ("GET", "requests") => Reply::json(&json!(*lock(&shared.served))),
        ("GET", "violations") => Reply::json(&json!(*lock(&shared.violations))),
        ("GET", "faults") => Reply::json(&json!(lock(&shared.faults).waiting())),
        ("DELETE", "faults") => {
            lock(&shared.faults).clear();
            Reply::json(&json!({}))
        }
        ("POST", "faults") => match faults_of(body) {
            Ok(faults) => {
                faults.into_iter().for_each(|fault| lock(&shared.faults).add(fault));
                Reply::json(&json!({}))
            }
            Err(problem) => Failure::invalid(problem.to_string()).reply(Service::Logging),
        },
        _ => Failure::not_found("No such control path.").reply(Service::Logging),
    }
}

fn faults_of(body: &[u8]) -> Result<Vec<Fault>, serde_json::Error> {
    let value: Value = serde_json::from_slice(body)?;
    if value.is_array() { serde_json::from_value(value) } else { Ok(vec![serde_json::from_value(value)?]) }
}

fn respond(reply: Reply, method: &Method, cut_after: Option<usize>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    let bodiless =
        method == Method::HEAD || reply.status == StatusCode::NOT_MODIFIED || reply.status == StatusCode::NO_CONTENT;
    if bodiless {
        return response;
    }
    let length = HeaderValue::from(reply.body.len());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    *response.body_mut() = match cut_after {
        Some(after) if after < reply.body.len() => Body::from_stream(broken_off(reply.body.slice(..after))),
        _ => Body::from(reply.body),
    };
    response
}

/// The bytes, then an error, which ends the connection without the end of the answer.
fn broken_off(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> {
    // What is written is sent only while the body waits for more, so the error comes late, and the
    // bytes come in pieces, of which few are kept back at a time.
    const PIECE: usize = 64 * 1024;
    stream::unfold(Some(bytes), |left| async {
        let mut left = left?;
        if left.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Some((Err(io::ErrorKind::ConnectionReset.into()), None));
        }
        let piece = left.split_to(left.len().min(PIECE));
        Some((Ok(piece), Some(left)))
    })
}
