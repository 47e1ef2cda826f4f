use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};

use super::super::EcsRunner;
use crate::aws::connection::Connection;
use crate::object_store::{
    ByteStream, ContentHeaders, CopyOptions, DeleteOptions, GetOptions, GetResult, HeadOptions, ListEntry, ListOptions,
    Metadata, ObjectCapabilities, ObjectMeta, PutMode, PutResult, Scheme, SignOptions, SignedRequest, StaleUploads,
    Upload, Version,
};
use crate::{
    Config, Error, ErrorKind, JobName, JobRequest, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, WriteId,
};

pub(super) const DEFINITION: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/train:3";

/// One request, and how many of its operation came before it.
pub(super) struct Asked {
    pub(super) operation: String,
    pub(super) body: Value,
    pub(super) before: usize,
}

pub(super) enum Reply {
    Json(Value),
    /// An error: its code and message, with status 400.
    Error(&'static str, &'static str),
    /// An error with more than a message.
    Refusal(Value),
    /// The connection breaks after the request was sent.
    Lost,
    /// The answer comes after this long.
    Late(Duration, Value),
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// ECS by script, with what it was asked.
#[derive(Clone)]
pub(super) struct Ecs {
    script: Script,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl fmt::Debug for Ecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ecs")
    }
}

impl HttpConnector for Ecs {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let mut asked = self.asked.lock().unwrap();
        let before = asked.iter().filter(|(name, _)| *name == operation).count();
        asked.push((operation.clone(), body.clone()));
        drop(asked);
        let response = |status: u16, body: Value| {
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()));
            response.headers_mut().insert("content-type", "application/x-amz-json-1.1");
            Ok(response)
        };
        let answer = |status, body| HttpConnectorFuture::ready(response(status, body));
        match (self.script)(&Asked { operation, body, before }) {
            Reply::Json(body) => answer(200, body),
            Reply::Error(code, message) => answer(400, json!({"__type": code, "message": message})),
            Reply::Refusal(body) => answer(400, body),
            Reply::Late(wait, body) => {
                let late = response(200, body);
                HttpConnectorFuture::new(async move {
                    tokio::time::sleep(wait).await;
                    late
                })
            }
            Reply::Lost => HttpConnectorFuture::ready(Err(ConnectorError::io("connection reset".into()))),
        }
    }
}

impl Ecs {
    pub(super) fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), asked: Arc::default() }
    }

    pub(super) fn runner(&self, shelf: &Arc<Shelf>, change: impl FnOnce(&mut Config)) -> EcsRunner {
        let mut config = Config::local("unused");
        config.aws.region = Some("eu-west-1".to_owned());
        config.aws.ecs_cluster = Some("main".to_owned());
        config.aws.subnets = vec!["subnet-1".to_owned()];
        config.retry.first_backoff = Duration::from_millis(1);
        change(&mut config);
        let connector = self.clone();
        let http = http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone()));
        let connection = Connection::new(&config).unwrap().with_made_up_credentials().with_http_client(http);
        EcsRunner::with_connection(&config, connection, shelf.clone())
    }

    /// The bodies of the requests of one operation.
    pub(super) fn asked(&self, operation: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }
}

pub(super) fn job() -> JobName {
    JobName::new("train").unwrap()
}

pub(super) fn keyed(key: &str) -> JobRequest {
    JobRequest { idempotency_key: Some(crate::IdempotencyKey::new(key).unwrap()), ..JobRequest::default() }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTaskDefinition.html>
pub(super) fn definition() -> Reply {
    Reply::Json(json!({"taskDefinition": {
        "taskDefinitionArn": DEFINITION,
        "family": "train",
        "revision": 3,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "containerDefinitions": [
            {"name": "sidecar", "essential": false},
            {"name": "main", "essential": true, "logConfiguration": {"logDriver": "awslogs", "options": {
                "awslogs-group": "/jobs", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "train"}}},
        ],
    }}))
}

pub(super) fn id_of(number: usize) -> String {
    format!("{number:032x}")
}

/// A task as RunTask and DescribeTasks show it, started by this request:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html#API_RunTask_Examples>.
pub(super) fn task(number: usize, run: &Value, changes: Value) -> Value {
    let mut task = json!({
        "taskArn": format!("arn:aws:ecs:eu-west-1:123456789012:task/main/{}", id_of(number)),
        "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/main",
        "taskDefinitionArn": DEFINITION,
        "lastStatus": "PROVISIONING",
        "desiredStatus": "RUNNING",
        "createdAt": 1_700_000_000.5,
        "startedBy": run["startedBy"],
        "overrides": run["overrides"],
        "containers": [],
    });
    for (name, value) in changes.as_object().unwrap() {
        task[name] = value.clone();
    }
    task
}

pub(super) fn stopped(exit: i32) -> Value {
    json!({
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "startedAt": 1_700_000_001.0,
        "stoppedAt": 1_700_000_002.0,
        "containers": [{"name": "sidecar", "exitCode": 137}, {"name": "main", "exitCode": exit}],
    })
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>
pub(super) fn missing(asked: &Asked) -> Reply {
    let tasks = asked.body["tasks"].as_array().unwrap();
    let failures: Vec<Value> = tasks.iter().map(|task| json!({"arn": task, "reason": "MISSING"})).collect();
    Reply::Json(json!({"tasks": [], "failures": failures}))
}

/// Enough of an object store for records and payloads, in memory.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    objects: Mutex<HashMap<String, (u64, Bytes)>>,
}

impl Shelf {
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.objects.lock().unwrap().keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Changes every record.
    pub(super) fn change(&self, change: impl Fn(&mut Value)) {
        for (_, bytes) in self.objects.lock().unwrap().values_mut() {
            let mut record = serde_json::from_slice(bytes).unwrap();
            change(&mut record);
            *bytes = record.to_string().into();
        }
    }
}

fn refused<T>(kind: ErrorKind, key: &ObjectKey) -> Result<T> {
    Err(Error::new(kind, "shelf", key, ""))
}

#[async_trait]
impl ObjectStore for Shelf {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::S3, bucket: "shelf".to_owned(), key: key.clone() }
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        unimplemented!("not asked by the runner")
    }

    fn transfer(&self) -> crate::TransferPolicy {
        Default::default()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        let mut objects = self.objects.lock().unwrap();
        let current = objects.get(key.as_str()).map(|(version, _)| *version);
        match options.mode {
            PutMode::Create if current.is_some() => return refused(ErrorKind::AlreadyExists, key),
            PutMode::Replace(wanted) if current.map(version) != Some(wanted.clone()) => {
                return refused(ErrorKind::PreconditionFailed, key);
            }
            _ => {}
        }
        let next = current.unwrap_or(0) + 1;
        objects.insert(key.to_string(), (next, body));
        Ok(PutResult { version: version(next), write_id: WriteId::random(), crc32c: None })
    }

    async fn get(&self, key: &ObjectKey, _: GetOptions) -> Result<GetResult> {
        let Some((number, body)) = self.objects.lock().unwrap().get(key.as_str()).cloned() else {
            return refused(ErrorKind::NotFound, key);
        };
        let meta = ObjectMeta {
            key: key.clone(),
            size: body.len() as u64,
            version: version(number),
            last_modified: std::time::SystemTime::UNIX_EPOCH,
            headers: ContentHeaders::default(),
            metadata: Metadata::default(),
            crc32c: None,
            write_id: None,
            storage_class: None,
        };
        Ok(GetResult { range: 0..body.len() as u64, meta, body: ByteStream::once(body) })
    }

    async fn delete(&self, key: &ObjectKey, _: DeleteOptions) -> Result<()> {
        self.objects.lock().unwrap().remove(key.as_str());
        Ok(())
    }

    async fn start_upload(&self, key: &ObjectKey, _: PutOptions) -> Result<Box<dyn Upload>> {
        refused(ErrorKind::Unsupported, key)
    }

    async fn head(&self, key: &ObjectKey, _: HeadOptions) -> Result<ObjectMeta> {
        refused(ErrorKind::Unsupported, key)
    }

    fn list(&self, _: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        unimplemented!("not asked by the runner")
    }

    async fn delete_many(&self, _: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        unimplemented!("not asked by the runner")
    }

    async fn copy(&self, from: &ObjectKey, _: &ObjectKey, _: CopyOptions) -> Result<PutResult> {
        refused(ErrorKind::Unsupported, from)
    }

    async fn sign(&self, key: &ObjectKey, _: SignOptions) -> Result<SignedRequest> {
        refused(ErrorKind::Unsupported, key)
    }

    async fn abort_stale_uploads(&self, _: Duration) -> Result<StaleUploads> {
        unimplemented!("not asked by the runner")
    }
}

fn version(number: u64) -> Version {
    Version::new("shelf", number.to_string())
}
