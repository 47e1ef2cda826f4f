//! A byte-level proxy on the loopback that does to a request what only sockets can.
//!
//! It reads whole HTTP/1 requests, sends each over a connection of its own, and ends the client's connection after
//! each answer.

mod fault;
mod request;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anycloud::retry::RetryPolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use self::fault::{Extra, Said, SocketFault};
use self::request::{Request, read_request};

/// Longer than a client of this policy waits for an answer.
pub(crate) fn stall_of(policy: &RetryPolicy) -> Duration {
    policy.attempt_timeout + Duration::from_millis(300)
}

/// Is shown each request that the server got whole, and its answer.
pub(crate) type Watch = Arc<dyn Fn(&[u8], &[u8]) + Send + Sync>;

/// What a server in this process does with the bytes of a request: the bytes of its answer.
pub(crate) type Serve = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

/// What is behind a proxy.
#[derive(Clone)]
pub(crate) enum Upstream {
    /// The server at this address.
    At(String),
    /// A server in this process.
    Within(Arc<Serve>),
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
    /// Whether it met a fault.
    faulted: bool,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<JoinHandle<()>>,
}

struct Shared {
    here: String,
    upstream: Upstream,
    stall: Duration,
    seen: Mutex<Vec<Met>>,
    plan: Mutex<Vec<Planned>>,
    held: Mutex<Vec<Request>>,
    /// Nothing gets through.
    down: AtomicBool,
    watch: Mutex<Option<Watch>>,
    /// Requests that are being served.
    busy: AtomicUsize,
    /// What every answer is late by.
    late: Mutex<Duration>,
}

impl Proxy {
    pub(crate) async fn start(upstream: Upstream, stall: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("the port is known");
        let shared = Arc::new(Shared {
            here: address.to_string(),
            upstream,
            stall,
            seen: Mutex::default(),
            plan: Mutex::default(),
            down: AtomicBool::new(false),
            late: Mutex::default(),
            held: Mutex::default(),
            watch: Mutex::default(),
            busy: AtomicUsize::new(0),
        });
        let accepting = Mutex::new(tokio::spawn(accept(listener, shared.clone())));
        Self { url: format!("http://{address}"), address, shared, accepting }
    }

    /// Refuses connections for so long.
    pub(crate) async fn refuse(&self, pause: Duration) {
        let (address, shared) = (self.address, self.shared.clone());
        let (closed, closing) = tokio::sync::oneshot::channel::<()>();
        let reopening = tokio::spawn(async move {
            let _ = closing.await;
            tokio::time::sleep(pause).await;
            accept(TcpListener::bind(address).await.expect("the port is still free"), shared).await;
        });
        let accepting = std::mem::replace(&mut *self.accepting.lock().expect("no panic before"), reopening);
        accepting.abort();
        // The listener is gone when its task is.
        let _ = accepting.await;
        let _ = closed.send(());
    }

    /// The so-manieth request of this label in the scene from now, from 0, meets the fault. An empty name is any scene.
    pub(crate) fn plan(&self, scene: &str, label: &str, skip: usize, fault: SocketFault) {
        let planned = Planned { scene: scene.to_owned(), label: label.to_owned(), skip, fault };
        self.shared.plan.lock().expect("no panic before").push(planned);
    }

    /// From now on this is shown what the server gets.
    pub(crate) fn watch(&self, watch: Watch) {
        *self.shared.watch.lock().expect("no panic before") = Some(watch);
    }

    /// Waits until no request is being served.
    pub(crate) async fn idle(&self) {
        while self.shared.busy.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
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

    /// So many requests of a scene have met a fault; an empty name is any scene.
    pub(crate) fn injected(&self, scene: &str) -> usize {
        let seen = self.shared.seen.lock().expect("no panic before");
        seen.iter().filter(|met| met.faulted && (scene.is_empty() || met.scene == scene)).count()
    }

    /// How often the requests of a scene were sent, by their labels.
    pub(crate) fn sent(&self, scene: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for met in self.shared.seen.lock().expect("no panic before").iter().filter(|met| met.scene == scene) {
            *counts.entry(met.label.clone()).or_default() += 1;
        }
        counts
    }

    /// The labels of the requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().expect("no panic before").iter().map(|met| met.label.clone()).collect()
    }

    /// Sends what is still held back of a scene; an empty name is any.
    pub(crate) async fn release(&self, scene: &str) {
        while let Some(late) = self.shared.held_back(|held| scene.is_empty() || held.scene == scene) {
            let _ = self.shared.forward(&late.bytes).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.lock().expect("no panic before").abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move { shared.serve(stream).await });
    }
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
        self.seen.lock().expect("no panic before").push(Met { scene, label, faulted: met.is_some() });
        met
    }

    /// Sends a request, and reads the answer.
    async fn forward(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let answer = match &self.upstream {
            Upstream::At(address) => {
                let mut server = TcpStream::connect(address).await?;
                server.write_all(bytes).await?;
                let mut answer = Vec::new();
                server.read_to_end(&mut answer).await?;
                self.readdress(answer, address)
            }
            Upstream::Within(serve) => serve(bytes),
        };
        let watch = self.watch.lock().expect("no panic before").clone();
        if let Some(watch) = watch {
            watch(bytes, &answer);
        }
        Ok(answer)
    }

    /// What an answer says to go on with is here, and not behind the proxy.
    fn readdress(&self, answer: Vec<u8>, server: &str) -> Vec<u8> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
        let head = String::from_utf8_lossy(&answer[..end]);
        match head.contains(server) {
            true => [head.replace(server, &self.here).as_bytes(), &answer[end..]].concat(),
            false => answer,
        }
    }

    /// Sends the beginning of a request, and waits until the server has done with it.
    async fn forward_torn(&self, bytes: &[u8]) -> std::io::Result<()> {
        let address = match &self.upstream {
            Upstream::At(address) => address,
            Upstream::Within(serve) => {
                serve(bytes);
                return Ok(());
            }
        };
        let mut server = TcpStream::connect(address).await?;
        server.write_all(bytes).await?;
        server.shutdown().await?;
        let _ = tokio::time::timeout(TORN, server.read_to_end(&mut Vec::new())).await;
        Ok(())
    }

    async fn serve(&self, mut client: TcpStream) {
        let Some(request) = read_request(&mut client, self).await else { return };
        self.busy.fetch_add(1, Ordering::SeqCst);
        self.answer(client, request).await;
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    async fn answer(&self, mut client: TcpStream, mut request: Request) {
        let fault = self.meet(&request);
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
                let _ = self.forward_torn(&request.bytes[..count]).await;
                return reset(&client);
            }
            Some(SocketFault::LoseAnswer) => {
                let _ = self.forward(&request.bytes).await;
                return reset(&client);
            }
            Some(SocketFault::CloseAnswer) => {
                let _ = self.forward(&request.bytes).await;
                return;
            }
            Some(SocketFault::Stall) => return tokio::time::sleep(self.stall).await,
            Some(SocketFault::StallAnswer) => {
                let _ = self.forward(&request.bytes).await;
                return tokio::time::sleep(self.stall).await;
            }
            Some(SocketFault::LateDuplicate) => {
                self.held.lock().expect("no panic before").push(request);
                return reset(&client);
            }
            Some(SocketFault::Status(status, code)) => {
                let said = Said { status, code, extra: Extra::Nothing };
                let _ = client.write_all(&said.answer(&request.label)).await;
                return;
            }
            Some(SocketFault::Say(said)) => {
                let _ = client.write_all(&said.answer(&request.label)).await;
                return;
            }
            Some(SocketFault::FlipRequest) => {
                if let Some(byte) = request.bytes[request.body..].last_mut() {
                    *byte ^= 1;
                }
            }
            Some(SocketFault::Slow) => tokio::time::sleep(SLOW).await,
            Some(SocketFault::CutAnswer | SocketFault::FlipAnswer | SocketFault::Refuse) | None => {}
        }
        let Ok(mut told) = self.forward(&request.bytes).await else { return reset(&client) };
        // Those of other keys belong to calls that have not been repeated yet.
        while let Some(late) = self.held_back(|held| held.is_like(&request)) {
            let _ = self.forward(&late.bytes).await;
        }
        if fault == Some(SocketFault::FlipAnswer)
            && let Some(byte) = told.last_mut()
        {
            *byte ^= 1;
        }
        let sent = if fault == Some(SocketFault::CutAnswer) { told.len() / 2 } else { told.len() };
        let _ = client.write_all(&told[..sent]).await;
        let _ = client.shutdown().await;
    }
}

/// What became of a torn request is settled before its repetition comes. LocalStack keeps the bytes of a key in one
/// place, which a torn request takes away when it fails: coming after its repetition it would leave an object without
/// bytes.
const TORN: Duration = Duration::from_millis(500);

/// A pause that nobody gives up for.
const SLOW: Duration = Duration::from_millis(20);
