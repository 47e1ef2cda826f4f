//! A byte-level proxy on the loopback that does to a request what only sockets can.
//!
//! It reads whole HTTP/1 requests, sends each over a connection of its own, and ends the client's connection after
//! each answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFault {
    /// The connection is reset before the server has a byte.
    CutBefore,
    /// The server gets half of the request.
    CutMid,
    /// The server does it, and the answer is lost.
    LoseAnswer,
    /// Half of the answer arrives.
    CutAnswer,
    /// Nothing happens for longer than anybody waits, and the server has nothing of it.
    Stall,
    /// The server does it, and the answer does not come for longer than anybody waits.
    StallAnswer,
    /// The first attempt is held back, and reaches the server after the second one.
    LateDuplicate,
    /// An answer in place of the server's.
    Status(u16),
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: String,
    stall: Duration,
    seen: Mutex<Vec<String>>,
    plan: Mutex<Vec<(String, usize, SocketFault)>>,
    held: Mutex<Vec<(String, Vec<u8>)>>,
    /// Answers everything so, without a server.
    always: Mutex<Option<(u16, String)>>,
}

struct Request {
    bytes: Vec<u8>,
    label: String,
}

impl Proxy {
    /// A proxy to the server at this URL.
    pub(crate) async fn start(upstream: &str, stall: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let url = format!("http://{}", listener.local_addr().expect("the port is known"));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let shared = Arc::new(Shared {
            upstream,
            stall,
            seen: Mutex::default(),
            plan: Mutex::default(),
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

    /// The so-manieth request of this label from now, from 0, meets the fault.
    pub(crate) fn plan(&self, label: &str, skip: usize, fault: SocketFault) {
        self.shared.plan.lock().expect("no panic before").push((label.to_owned(), skip, fault));
    }

    pub(crate) fn always(&self, status: u16, body: &str) {
        *self.shared.always.lock().expect("no panic before") = Some((status, body.to_owned()));
    }

    /// The labels of the requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().expect("no panic before").clone()
    }

    /// Faults that nothing has met.
    pub(crate) fn left(&self) -> usize {
        self.shared.plan.lock().expect("no panic before").len()
    }

    /// Sends what is still held back.
    pub(crate) async fn release(&self) {
        let held = std::mem::take(&mut *self.shared.held.lock().expect("no panic before"));
        for (_, bytes) in held {
            let _ = self.shared.forward(&bytes, bytes.len()).await;
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

async fn read_request(stream: &mut TcpStream, upstream: &str) -> Option<Request> {
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
        Some((name, _)) if reads && name.eq_ignore_ascii_case("host") => format!("host: {upstream}"),
        _ => line.to_owned(),
    });
    let mut sent: Vec<u8> = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    sent.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    sent.extend_from_slice(&bytes[end..]);
    Some(Request { label: label(&head), bytes: sent })
}

fn reset(stream: &TcpStream) {
    // Without lingering, closing sends a reset.
    let _ = stream.set_zero_linger();
}

impl Shared {
    fn meet(&self, label: &str) -> Option<SocketFault> {
        self.seen.lock().expect("no panic before").push(label.to_owned());
        let mut plan = self.plan.lock().expect("no panic before");
        let mut met = None;
        let mut kept = Vec::new();
        for (own, skip, fault) in plan.drain(..) {
            if own != label {
                kept.push((own, skip, fault));
            } else if skip > 0 {
                kept.push((own, skip - 1, fault));
            } else if met.is_none() {
                met = Some(fault);
            }
        }
        *plan = kept;
        met
    }

    /// Sends so many bytes of a request, and reads the answer if that is all of it.
    async fn forward(&self, bytes: &[u8], count: usize) -> std::io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.upstream).await?;
        server.write_all(&bytes[..count]).await?;
        let mut answer = Vec::new();
        if count == bytes.len() {
            server.read_to_end(&mut answer).await?;
        }
        Ok(answer)
    }

    async fn serve(&self, mut client: TcpStream) {
        let Some(Request { bytes, label }) = read_request(&mut client, &self.upstream).await else { return };
        let fault = self.meet(&label);
        let always = self.always.lock().expect("no panic before").clone();
        if let Some((status, body)) = always {
            let _ = client.write_all(&answer(status, &body)).await;
            return;
        }
        match fault {
            Some(SocketFault::CutBefore) => return reset(&client),
            Some(SocketFault::CutMid) => {
                let _ = self.forward(&bytes, bytes.len() / 2).await;
                return reset(&client);
            }
            Some(SocketFault::LoseAnswer) => {
                let _ = self.forward(&bytes, bytes.len()).await;
                return reset(&client);
            }
            Some(SocketFault::Stall) => return tokio::time::sleep(self.stall).await,
            Some(SocketFault::StallAnswer) => {
                let _ = self.forward(&bytes, bytes.len()).await;
                return tokio::time::sleep(self.stall).await;
            }
            Some(SocketFault::LateDuplicate) => {
                self.held.lock().expect("no panic before").push((label, bytes));
                return reset(&client);
            }
            Some(SocketFault::Status(status)) => {
                let _ = client.write_all(&answer(status, "{}")).await;
                return;
            }
            Some(SocketFault::CutAnswer) | None => {}
        }
        let Ok(answer) = self.forward(&bytes, bytes.len()).await else { return reset(&client) };
        let late = {
            let mut held = self.held.lock().expect("no panic before");
            held.iter().position(|(own, _)| *own == label).map(|place| held.swap_remove(place).1)
        };
        if let Some(late) = late {
            let _ = self.forward(&late, late.len()).await;
        }
        let sent = if fault == Some(SocketFault::CutAnswer) { answer.len() / 2 } else { answer.len() };
        let _ = client.write_all(&answer[..sent]).await;
        let _ = client.shutdown().await;
    }
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}
