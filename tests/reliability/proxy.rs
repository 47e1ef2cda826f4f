//! A byte-level proxy on the loopback that does to a request what only sockets can.
//!
//! It reads whole HTTP/1 requests, sends each over a connection of its own, and ends the client's connection after
//! each answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFault {
    /// The connection is reset before the server has a byte.
    CutBefore,
    /// The connection is reset with half of the request read, of which the server gets what was read.
    CutMid,
    /// The server does it, and the answer is lost.
    LoseAnswer,
    /// Half of the answer arrives.
    CutAnswer,
    /// The server does it, and the connection is closed in good order without a word.
    CloseAnswer,
    /// A bit of the answer's body is another one.
    FlipAnswer,
    /// A bit of the request's body is another one.
    FlipRequest,
    /// The server gets it a little later.
    Slow,
    /// Nothing happens for longer than anybody waits, and the server has nothing of it.
    Stall,
    /// The server does it, and the answer does not come for longer than anybody waits.
    StallAnswer,
    /// The first attempt is held back, and reaches the server after the second one.
    LateDuplicate,
    /// An answer in place of the server's, with this code of an error.
    Status(u16, &'static str),
}

/// What is behind a proxy.
#[derive(Clone)]
pub(crate) enum Upstream {
    /// The server at this address.
    At(String),
    /// A server in this process: the bytes of a request, and the bytes of its answer.
    Within(Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>),
}

/// A fault that waits for its request.
struct Planned {
    scene: String,
    label: String,
    skip: usize,
    fault: SocketFault,
}

/// A request as it is remembered.
struct Met {
    scene: String,
    label: String,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: Upstream,
    stall: Duration,
    seen: Mutex<Vec<Met>>,
    plan: Mutex<Vec<Planned>>,
    injected: AtomicUsize,
    held: Mutex<Vec<Request>>,
    /// Nothing gets through.
    down: AtomicBool,
    /// What every answer is late by.
    late: Mutex<Duration>,
    /// Answers everything so, without a server.
    always: Mutex<Option<(u16, String)>>,
}

struct Request {
    bytes: Vec<u8>,
    /// Where the body begins.
    body: usize,
    label: String,
    scene: String,
}

impl Request {
    /// Whether one may be the repetition of the other.
    fn is_like(&self, other: &Self) -> bool {
        let line = |request: &Self| request.bytes.split(|byte| *byte == b'\r').next().map(<[u8]>::to_vec);
        self.label == other.label && self.scene == other.scene && line(self) == line(other)
    }
}

impl Proxy {
    pub(crate) async fn start(upstream: Upstream, stall: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let url = format!("http://{}", listener.local_addr().expect("the port is known"));
        let shared = Arc::new(Shared {
            upstream,
            stall,
            seen: Mutex::default(),
            plan: Mutex::default(),
            injected: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            late: Mutex::default(),
            held: Mutex::default(),
            always: Mutex::default(),
        });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        Self { url, shared, accepting }
    }

    /// The so-manieth request of this label in the scene from now, from 0, meets the fault. An empty name is any scene.
    pub(crate) fn plan(&self, scene: &str, label: &str, skip: usize, fault: SocketFault) {
        let planned = Planned { scene: scene.to_owned(), label: label.to_owned(), skip, fault };
        self.shared.plan.lock().expect("no panic before").push(planned);
    }

    /// From now on no request gets through, or all do again.
    pub(crate) fn break_off(&self) {
        self.shared.down.store(true, Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        self.shared.down.store(false, Ordering::Relaxed);
    }

    /// From now on every answer is late by so much.
    pub(crate) fn slow_down(&self, by: Duration) {
        *self.shared.late.lock().expect("no panic before") = by;
    }

    /// So many requests have met a fault.
    pub(crate) fn injected(&self) -> usize {
        self.shared.injected.load(Ordering::Relaxed)
    }

    /// How often the requests of a scene were sent, by their labels.
    pub(crate) fn sent(&self, scene: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for met in self.shared.seen.lock().expect("no panic before").iter().filter(|met| met.scene == scene) {
            *counts.entry(met.label.clone()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn always(&self, status: u16, body: &str) {
        *self.shared.always.lock().expect("no panic before") = Some((status, body.to_owned()));
    }

    /// The labels of the requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().expect("no panic before").iter().map(|met| met.label.clone()).collect()
    }

    /// Faults that nothing has met.
    pub(crate) fn left(&self) -> usize {
        self.shared.plan.lock().expect("no panic before").len()
    }

    /// Sends what is still held back of a scene; an empty name is any.
    pub(crate) async fn release(&self, scene: &str) {
        while let Some(late) = self.shared.held_back(|held| scene.is_empty() || held.scene == scene) {
            let _ = self.shared.forward(&late.bytes, late.bytes.len()).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value.trim())
}

/// What a request is called: the operation where a header names it, else the method and what the query asks for.
fn label(head: &str) -> String {
    if let Some(target) = header(head, "x-amz-target") {
        return target.to_owned();
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let told = |pair: &&str| {
        ["x-id=", "uploads", "uploadId", "list-type", "uploadType", "alt=media"].iter().any(|one| pair.starts_with(one))
    };
    let asked: Vec<&str> = query
        .split('&')
        .filter(told)
        .map(|pair| if pair.starts_with("uploadId") { "uploadId" } else { pair })
        .collect();
    let verb = path.rsplit_once(':').map(|(_, verb)| verb).filter(|verb| verb.chars().all(char::is_alphabetic));
    let kind = ["rewriteTo", "/versions", "/secrets", "/executions", "/jobs", "/upload/"]
        .iter()
        .find(|part| path.contains(**part));
    format!("{method} {} {} {}", kind.unwrap_or(&""), verb.unwrap_or(""), asked.join("&"))
}

/// The scene whose name is in a request.
fn scene_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let name = text.split_once("scene-").and_then(|(_, rest)| rest.split_once("-end"));
    name.map(|(number, _)| format!("scene-{number}-end")).unwrap_or_default()
}

async fn read_request(stream: &mut TcpStream, shared: &Shared) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(place) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break place + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if header(&head, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let chunked = header(&head, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
    let length: usize = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or_default();
    let label = label(&head);
    let cut = shared.next(&label) == Some(SocketFault::CutMid);
    let length = if cut { length / 2 } else { length };
    while if chunked { !bytes.ends_with(b"0\r\n\r\n") } else { bytes.len() < end + length } {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let reads = head.starts_with("GET ") && header(&head, "authorization").is_none();
    // One request a connection, so that the end of an answer is the end of the connection.
    let lines = head.trim_end().lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("expect")
    });
    let lines = lines.map(|line| match line.split_once(':') {
        // A read may be routed by the name of its host.
        Some((name, _)) if reads && name.eq_ignore_ascii_case("host") => match &shared.upstream {
            Upstream::At(address) => format!("host: {address}"),
            Upstream::Within(_) => line.to_owned(),
        },
        _ => line.to_owned(),
    });
    let mut sent: Vec<u8> = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    sent.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    let body = sent.len();
    sent.extend_from_slice(&bytes[end..]);
    let scene = scene_of(&sent);
    Some(Request { body, label, scene, bytes: sent })
}

fn reset(stream: &TcpStream) {
    // Without lingering, closing sends a reset.
    let _ = stream.set_zero_linger();
}

impl Shared {
    fn held_back(&self, which: impl Fn(&Request) -> bool) -> Option<Request> {
        let mut held = self.held.lock().expect("no panic before");
        held.iter().position(which).map(|place| held.swap_remove(place))
    }

    /// What a request of this label, whose body has not been read, is going to meet.
    fn next(&self, label: &str) -> Option<SocketFault> {
        let plan = self.plan.lock().expect("no panic before");
        plan.iter()
            .find(|one| (one.label.is_empty() || one.label == label) && one.skip == 0 && one.scene.is_empty())
            .map(|one| one.fault)
    }

    fn meet(&self, request: &Request) -> Option<SocketFault> {
        let (scene, label) = (request.scene.clone(), request.label.clone());
        self.seen.lock().expect("no panic before").push(Met { scene, label });
        let mut met = None;
        self.plan.lock().expect("no panic before").retain_mut(|one| {
            let waits = (one.label.is_empty() || one.label == request.label)
                && (one.scene.is_empty() || one.scene == request.scene);
            match waits {
                true if one.skip > 0 => one.skip -= 1,
                true if met.is_none() => {
                    met = Some(one.fault);
                    return false;
                }
                _ => {}
            }
            true
        });
        self.injected.fetch_add(usize::from(met.is_some()), Ordering::Relaxed);
        met
    }

    /// Sends so many bytes of a request, and reads the answer if that is all of it.
    async fn forward(&self, bytes: &[u8], count: usize) -> std::io::Result<Vec<u8>> {
        let address = match &self.upstream {
            Upstream::At(address) => address,
            Upstream::Within(serve) => return Ok(serve(&bytes[..count])),
        };
        let mut server = TcpStream::connect(address).await?;
        server.write_all(&bytes[..count]).await?;
        let mut answer = Vec::new();
        if count == bytes.len() {
            server.read_to_end(&mut answer).await?;
        }
        Ok(answer)
    }

    async fn serve(&self, mut client: TcpStream) {
        let Some(mut request) = read_request(&mut client, self).await else { return };
        let fault = self.meet(&request);
        let always = self.always.lock().expect("no panic before").clone();
        if let Some((status, body)) = always {
            let _ = client.write_all(&answer(status, &body)).await;
            return;
        }
        if self.down.load(Ordering::Relaxed) {
            return reset(&client);
        }
        let late = *self.late.lock().expect("no panic before");
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        match fault {
            Some(SocketFault::CutBefore) => return reset(&client),
            Some(SocketFault::CutMid) => {
                let count = request.bytes.len() - (request.bytes.len() - request.body) / 2 - 1;
                let _ = self.forward(&request.bytes, count).await;
                return reset(&client);
            }
            Some(SocketFault::LoseAnswer) => {
                let _ = self.forward(&request.bytes, request.bytes.len()).await;
                return reset(&client);
            }
            Some(SocketFault::CloseAnswer) => {
                let _ = self.forward(&request.bytes, request.bytes.len()).await;
                return;
            }
            Some(SocketFault::Stall) => return tokio::time::sleep(self.stall).await,
            Some(SocketFault::StallAnswer) => {
                let _ = self.forward(&request.bytes, request.bytes.len()).await;
                return tokio::time::sleep(self.stall).await;
            }
            Some(SocketFault::LateDuplicate) => {
                self.held.lock().expect("no panic before").push(request);
                return reset(&client);
            }
            Some(SocketFault::Status(status, code)) => {
                let body = match request.label.contains("secretsmanager") {
                    true => format!(r#"{{"__type":"{code}","message":"said so"}}"#),
                    false => format!("<Error><Code>{code}</Code><Message>said so</Message></Error>"),
                };
                let _ = client.write_all(&answer(status, &body)).await;
                return;
            }
            Some(SocketFault::FlipRequest) => {
                if let Some(byte) = request.bytes[request.body..].last_mut() {
                    *byte ^= 1;
                }
            }
            Some(SocketFault::Slow) => tokio::time::sleep(SLOW).await,
            Some(SocketFault::CutAnswer | SocketFault::FlipAnswer) | None => {}
        }
        let Ok(mut answer) = self.forward(&request.bytes, request.bytes.len()).await else { return reset(&client) };
        // Those of other keys belong to calls that have not been repeated yet.
        while let Some(late) = self.held_back(|held| held.is_like(&request)) {
            let _ = self.forward(&late.bytes, late.bytes.len()).await;
        }
        if fault == Some(SocketFault::FlipAnswer)
            && let Some(byte) = answer.last_mut()
        {
            *byte ^= 1;
        }
        let sent = if fault == Some(SocketFault::CutAnswer) { answer.len() / 2 } else { answer.len() };
        let _ = client.write_all(&answer[..sent]).await;
        let _ = client.shutdown().await;
    }
}

/// A pause that nobody gives up for.
const SLOW: Duration = Duration::from_millis(20);

fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}
