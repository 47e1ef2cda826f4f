//! S3 and Secrets Manager as lane A has them, in a process of their own, where one request in so many goes wrong.

#[allow(dead_code, reason = "lane A uses the rest")]
#[path = "../../reliability/aws/s3.rs"]
mod s3;
#[allow(dead_code, reason = "lane A uses the rest")]
#[path = "../../reliability/aws/secrets_manager.rs"]
mod secrets_manager;
#[allow(dead_code, reason = "lane A uses the rest")]
#[path = "../../reliability/aws/wire.rs"]
mod wire;

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};

/// The argument of the process that serves.
pub(crate) const ARGUMENT: &str = "serve-aws";
/// One request in so many meets a fault.
const RARITY: u64 = 20;

#[derive(Default)]
struct State {
    s3: s3::S3,
    secrets: secrets_manager::SecretsManager,
    random: fastrand::Rng,
    requests: u64,
    faults: u64,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused,
    /// The connection ends before the server has done it, or after.
    Reset,
    LostAnswer,
    CutAnswer,
    Delay,
}

const FAULTS: [Fault; 5] = [Fault::Refused, Fault::Reset, Fault::LostAnswer, Fault::CutAnswer, Fault::Delay];

impl State {
    fn fault(&mut self) -> Option<Fault> {
        self.requests += 1;
        let fault = (self.random.u64(..RARITY) == 0).then(|| FAULTS[self.random.usize(..FAULTS.len())]);
        self.faults += u64::from(fault.is_some());
        fault
    }

    fn serve(&mut self, request: &wire::Request) -> Vec<u8> {
        match request.header("x-amz-target") {
            Some(target) => self.secrets.serve(target, request),
            None => self.s3.serve(request),
        }
    }
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Closed>>>>;

/// Ends the connection.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is closed")
    }
}

impl std::error::Error for Closed {}

/// The request in the words of the servers.
async fn taken(request: Request<Incoming>) -> Option<wire::Request> {
    let (parts, body) = request.into_parts();
    let mut bytes = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body.collect().await.ok()?.to_bytes());
    wire::Request::parse(&bytes)
}

/// What the servers say, but for a part of it that gets lost.
fn told(answer: &[u8], is_head: bool, cut: bool) -> Response<Body> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let mut response = Response::builder().status(lines.next().unwrap().split(' ').nth(1).unwrap());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")).filter(|(name, _)| *name != "connection") {
        response = response.header(name, value);
    }
    let body = Bytes::copy_from_slice(if is_head { &[] } else { &answer[end + 4..] });
    let pieces = match cut && !body.is_empty() {
        true => vec![Ok(Frame::data(body.slice(..body.len() / 2))), Err(Closed)],
        false => vec![Ok(Frame::data(body))],
    };
    response.body(StreamBody::new(stream::iter(pieces))).unwrap()
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
    let is_head = request.method() == "HEAD";
    let is_secret = request.headers().contains_key("x-amz-target");
    let fault = state.lock().unwrap().fault();
    let request = taken(request).await.ok_or(Closed)?;
    match fault {
        Some(Fault::Reset) => return Err(Closed),
        Some(Fault::Refused) => {
            let body = match is_secret {
                true => r#"{"__type":"InternalServiceError","message":"said so"}"#,
                false => "<Error><Code>SlowDown</Code><Message>said so</Message></Error>",
            };
            let length = body.len();
            let text = format!("HTTP/1.1 503 Said\r\ncontent-length: {length}\r\n\r\n{body}");
            return Ok(told(text.as_bytes(), is_head, false));
        }
        Some(Fault::Delay) => tokio::time::sleep(Duration::from_millis(50)).await,
        _ => {}
    }
    let answer = state.lock().unwrap().serve(&request);
    if fault == Some(Fault::LostAnswer) {
        Err(Closed)
    } else {
        Ok(told(&answer, is_head, fault == Some(Fault::CutAnswer)))
    }
}

/// The process that serves, until its input ends; then it tells its counts.
pub(crate) fn serve() {
    let state = Arc::new(Mutex::new(State { random: fastrand::Rng::with_seed(7), ..State::default() }));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let serving = Arc::clone(&state);
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        while let Ok((connection, _)) = listener.accept().await {
            let state = Arc::clone(&serving);
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let io = hyper_util::rt::TokioIo::new(connection);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
        Ok::<_, Infallible>(())
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let state = state.lock().unwrap();
    println!("{} {}", state.requests, state.faults);
}

/// That process, seen from here.
pub(crate) struct Server {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        output.read_line(&mut url).unwrap();
        Self { child, output, url: url.trim().to_owned() }
    }

    /// How many requests it got, and how many of them met a fault.
    pub(crate) fn end(mut self) -> (u64, u64) {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let (requests, faults) = line.trim().split_once(' ').unwrap();
        (requests.parse().unwrap(), faults.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
