//! An object store in memory that speaks enough of S3 and of Cloud Storage for every peer, in a process of its own, so
//! that what is measured is the client. It can be as far away and as narrow as a real one, and it counts.

mod gcs;
mod listing;
mod objects;
mod outgoing;
mod pace;
mod related;
mod s3;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use self::objects::State;
use self::outgoing::Outgoing;
use self::pace::Pace;
use crate::Failure;

/// How far away and how narrow the store is.
#[derive(Clone, Copy, Default)]
pub struct Network {
    /// How long every answer waits.
    pub latency: Duration,
    /// Bytes a second on each connection and in each direction; as fast as it goes if 0.
    pub bandwidth: u64,
}

type Answer = Response<Outgoing>;

/// One request, with its body already received.
struct Call {
    method: hyper::Method,
    path: String,
    query: Vec<(String, String)>,
    headers: hyper::HeaderMap,
    body: objects::Received,
    pace: Arc<Pace>,
}

impl Call {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Serves until the process is killed; prints the port first.
pub async fn serve(network: Network) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    println!("{}", address.port());
    let state = Arc::new(State::new(format!("http://{address}")));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Arc::clone(&state);
        let pace = Arc::new(Pace::new(network.bandwidth));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (state, pace) = (Arc::clone(&state), Arc::clone(&pace));
                async move { Ok::<_, Infallible>(answer(&state, pace, network, request).await) }
            });
            // A client that goes away is no matter.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: &Arc<State>, pace: Arc<Pace>, network: Network, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = match objects::receive(body, &head.headers, &pace).await {
        Ok(body) => body,
        Err(_) => return status(StatusCode::BAD_REQUEST),
    };
    let query = head.uri.query().unwrap_or_default();
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    let call = Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: query.collect(),
        headers: head.headers,
        body,
        pace,
    };
    if let Some(command) = call.path.strip_prefix("/_") {
        return state.command(command, &call);
    }
    state.request();
    if !network.latency.is_zero() {
        tokio::time::sleep(network.latency).await;
    }
    if call.path.starts_with("/storage/v1/") || call.path.starts_with("/upload/") || call.path.starts_with("/download/")
    {
        gcs::answer(state, &call)
    } else {
        s3::answer(state, &call)
    }
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn status(status: StatusCode) -> Answer {
    text(status, "text/plain", "")
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Outgoing::uncounted(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(content_type));
    answer
}
