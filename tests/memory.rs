//! How much memory a transfer takes: a process of its own, so that the peak is of nothing else.
//!
//! `ANYCLOUD_TEST_MEMORY_MIB` sets how much is moved each time; 2048 if it is not set, and 8192 for a long run.
#![allow(clippy::print_stdout, reason = "tests print their figures")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anycloud::object_store::{ByteStream, Crc32c};
use anycloud::{Cloud, Config, GetOptions, ObjectKey, ObjectStore, ObjectStoreExt as _, PutOptions};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};

const PIECE: u64 = 1 << 16;
/// The budget of a transfer by default, and what the connections, the runtime and the allocator take beside it.
const ALLOWED: u64 = (64 + 16) << 20;

type Body = StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A bucket with one object, of zeros, that no memory holds, and which takes in whatever it is sent and forgets it.
struct Zeros {
    provider: &'static str,
    size: u64,
    crc: Crc32c,
    /// How long each piece takes.
    pause: Duration,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Zeros {
    async fn start(provider: &'static str, size: u64, pause: Duration) -> (Arc<Self>, Arc<dyn ObjectStore>) {
        let piece = Crc32c::of(&vec![0; PIECE as usize]);
        let crc = (0..size / PIECE).fold(Crc32c(0), |crc, _| crc.combine(piece, PIECE));
        let zeros = Arc::new(Self { provider, size, crc, pause, sent: AtomicU64::new(0), received: AtomicU64::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::clone(&zeros);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                let service = service_fn(move |request| {
                    let server = Arc::clone(&server);
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let io = hyper_util::rt::TokioIo::new(connection);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        let config = Config::from_lookup(|name| {
            let value = match name {
                "CLOUD_PROVIDER" => provider,
                "ANYCLOUD_BUCKET" => "zeros",
                "GOOGLE_CLOUD_PROJECT" => "test",
                "AWS_REGION" => "us-east-1",
                "STORAGE_EMULATOR_HOST" | "AWS_ENDPOINT_URL" => &endpoint,
                _ => return None,
            };
            Some(value.to_owned())
        });
        (zeros, Arc::clone(Cloud::connect(config.unwrap()).unwrap().objects()))
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        if request.method() == "GET" && (self.provider == "aws" || path.starts_with("/zeros/")) {
            return self.read(&request);
        }
        let method = request.method().clone();
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.received.fetch_add(bytes, Ordering::Relaxed);
            if !self.pause.is_zero() {
                // As long as a piece takes on the way down.
                tokio::time::sleep(self.pause.mul_f64(bytes as f64 / PIECE as f64)).await;
            }
        }
        let answer = match self.provider {
            "aws" if path.contains("uploads") => {
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            }
            "aws" if method == "POST" => {
                "<CompleteMultipartUploadResult><ETag>&quot;1&quot;</ETag></CompleteMultipartUploadResult>"
            }
            "aws" => "",
            _ => {
                r#"{"generation":"1","storageClass":"STANDARD","permissions":["storage.objects.create",
                    "storage.objects.get","storage.objects.delete","storage.objects.list"]}"#
            }
        };
        let whole = stream::iter([Ok(Frame::data(Bytes::from_static(answer.as_bytes())))]);
        let answer = Response::builder().header("etag", "\"1\"").header("content-length", answer.len());
        answer.body(StreamBody::new(whole.boxed())).unwrap()
    }

    fn read(self: Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        use base64::Engine as _;
        let asked = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
        let (start, end) = match &asked {
            Some(range) => {
                let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                (first.parse().unwrap(), last.parse::<u64>().unwrap() + 1)
            }
            None => (0, self.size),
        };
        let crc = base64::engine::general_purpose::STANDARD.encode(self.crc.0.to_be_bytes());
        let mut answer = Response::builder()
            .header("content-length", end - start)
            .header("x-goog-generation", "1")
            .header("last-modified", "Mon, 05 Jan 2026 10:00:00 GMT")
            .header("x-goog-hash", format!("crc32c={crc}"))
            .header("etag", "\"1\"");
        if self.provider == "aws" && asked.is_none() {
            answer = answer.header("x-amz-checksum-crc32c", &crc).header("x-amz-checksum-type", "FULL_OBJECT");
        }
        if asked.is_some() {
            answer = answer.status(206).header("content-range", format!("bytes {start}-{}/{}", end - 1, self.size));
        }
        let zeros = Bytes::from(vec![0; PIECE as usize]);
        let pieces = stream::unfold(end - start, move |left| {
            let (server, piece) = (Arc::clone(&self), zeros.slice(..left.min(PIECE) as usize));
            async move {
                if left == 0 {
                    return None;
                }
                if !server.pause.is_zero() {
                    tokio::time::sleep(server.pause).await;
                }
                let bytes = piece.len() as u64;
                server.sent.fetch_add(bytes, Ordering::Relaxed);
                Some((Ok(Frame::data(piece)), left - bytes))
            }
        });
        answer.body(StreamBody::new(pieces.boxed())).unwrap()
    }
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

async fn body(store: &Arc<dyn ObjectStore>) -> ByteStream {
    store.get(&ObjectKey::new("object").unwrap(), GetOptions::default()).await.unwrap().body
}

/// The size of what is moved: the environment is the only way to tell a test.
#[allow(clippy::disallowed_methods, reason = "a test has no other settings")]
fn size() -> u64 {
    std::env::var("ANYCLOUD_TEST_MEMORY_MIB").map_or(2048, |mib| mib.parse().unwrap()) << 20
}

/// What the process takes beyond what it took before, at most, while this runs.
async fn over_idle(work: impl Future<Output = ()>) -> u64 {
    // From here on the peak counts anew: https://docs.kernel.org/filesystems/proc.html
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let idle = status("VmRSS");
    work.await;
    status("VmHWM") - idle
}

async fn read(provider: &'static str, pause: Duration, size: u64) {
    let (server, store) = Zeros::start(provider, size, pause).await;
    let over = over_idle(async {
        let mut body = body(&store).await;
        let mut came = 0;
        while let Some(chunk) = body.try_next().await.unwrap() {
            came += chunk.len() as u64;
        }
        assert_eq!(came, size);
    });
    let over = over.await;
    println!("{provider}: {} MiB down, pauses of {pause:?}: {} MiB over idle", size >> 20, over >> 20);
    assert!(server.sent.load(Ordering::Relaxed) <= size + (64 << 20));
    assert!(over <= ALLOWED, "{provider}: {} MiB over idle", over >> 20);
}

async fn write(provider: &'static str, pause: Duration, size: u64) {
    let (server, store) = Zeros::start(provider, size, pause).await;
    let ahead = Arc::new(AtomicU64::new(0));
    let (most, receiving) = (Arc::clone(&ahead), Arc::clone(&server));
    let pieces = stream::iter((0..size).step_by(1 << 20)).map(move |start| {
        // A slow server slows the source.
        let received = receiving.received.load(Ordering::Relaxed);
        most.fetch_max(start.saturating_sub(received), Ordering::Relaxed);
        Ok(Bytes::from(vec![0; 1 << 20]))
    });
    let over = over_idle(async {
        store.put_stream(&ObjectKey::new("object").unwrap(), pieces, PutOptions::default()).await.unwrap();
    });
    let (over, ahead) = (over.await, ahead.load(Ordering::Relaxed));
    println!(
        "{provider}: {} MiB up, pauses of {pause:?}: {} MiB over idle, {} MiB ahead of what had arrived",
        size >> 20,
        over >> 20,
        ahead >> 20
    );
    assert!(server.received.load(Ordering::Relaxed) >= size);
    assert!(over <= ALLOWED, "{provider}: {} MiB over idle", over >> 20);
    assert!(ahead <= 64 << 20, "{provider}: {} MiB were taken ahead of what had arrived", ahead >> 20);
}

/// One after the other: the peak is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_stays_within_its_budget_and_a_slow_other_side_slows_it() {
    for provider in ["gcp", "aws"] {
        // On fast connections, and on ones that are slow enough for many at a time.
        for (pause, size) in [(Duration::ZERO, size()), (Duration::from_millis(2), size() / 4)] {
            read(provider, pause, size).await;
            write(provider, pause, size).await;
        }
        let (server, store) = Zeros::start(provider, 1 << 30, Duration::from_millis(2)).await;
        let mut body = body(&store).await;
        let mut came = 0;
        while came < 64 << 20 {
            came += body.try_next().await.unwrap().unwrap().len() as u64;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ahead = server.sent.load(Ordering::Relaxed) - came;
        println!("{provider}: {} MiB ahead of a reader that stopped", ahead >> 20);
        assert!(ahead <= ALLOWED, "{} MiB were sent ahead of a reader that stopped", ahead >> 20);
    }
}
