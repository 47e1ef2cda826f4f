//! How much memory a listing takes, however many keys there are: a process of its own, so that the peak is of nothing
//! else.
//!
//! `ANYCLOUD_TEST_KEYS` sets how many are listed; a million if it is not set. S3 needs credentials in the environment, and
//! any will do; without some it is skipped, which with `ANYCLOUD_TEST_REQUIRE_ALL` set is a failure.
#![allow(clippy::disallowed_methods, reason = "the environment says how many")]
#![allow(clippy::print_stdout, reason = "tests print their counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anycloud::object_store::{ListEntry, ListOptions};
use anycloud::{Cloud, Config};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};

const PAGE: u64 = 1000;
/// Two pages as they came and as they are handed out, the connection, and what the allocator keeps.
const ALLOWED: u64 = 12 << 20;

/// A bucket with very many keys, of which there is never more than a page.
struct Bucket {
    keys: u64,
    pages: AtomicU64,
}

impl Bucket {
    async fn start(keys: u64) -> (Arc<Self>, String) {
        let bucket = Arc::new(Self { keys, pages: AtomicU64::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::clone(&bucket);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                let service = service_fn(move |request| {
                    let answer = server.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let io = hyper_util::rt::TokioIo::new(connection);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        (bucket, endpoint)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let query = request.uri().query().unwrap_or_default();
        let token = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<u64>().ok());
        let (kind, text) = if query.contains("list-type=2") {
            ("application/xml", self.xml(token("continuation-token=").unwrap_or_default()))
        } else {
            ("application/json", self.json(token("pageToken=").unwrap_or_default()))
        };
        Response::builder().header("content-type", kind).body(Full::new(text.into())).unwrap()
    }

    fn rows(&self, first: u64) -> (std::ops::Range<u64>, Option<u64>) {
        let end = self.keys.min(first + PAGE);
        (first..end, (end < self.keys).then_some(end))
    }

    fn xml(&self, first: u64) -> String {
        let (rows, next) = self.rows(first);
        let mut text = "<ListBucketResult><EncodingType>url</EncodingType>".to_owned();
        for row in rows {
            let key = format!("<Key>{}</Key><LastModified>2026-06-01T12:00:00.000Z</LastModified>", key(row));
            write!(text, "<Contents>{key}<ETag>&quot;{row:032x}&quot;</ETag><Size>{row}</Size></Contents>").unwrap();
        }
        if let Some(next) = next {
            write!(text, "<NextContinuationToken>{next}</NextContinuationToken>").unwrap();
        }
        text + &format!("<IsTruncated>{}</IsTruncated></ListBucketResult>", next.is_some())
    }

    fn json(&self, first: u64) -> String {
        let (rows, next) = self.rows(first);
        let row = |row| {
            let name = key(row);
            format!(r#"{{"name":"{name}","size":"{row}","generation":"7","updated":"2026-06-01T12:00:00.000Z"}}"#)
        };
        let rows = rows.map(row).collect::<Vec<_>>().join(",");
        let next = next.map(|next| format!(r#""nextPageToken":"{next}","#)).unwrap_or_default();
        format!(r#"{{{next}"items":[{rows}]}}"#)
    }
}

fn key(row: u64) -> String {
    format!("a-directory/and-one-below-it/part-{row:010}.parquet")
}

fn cloud(provider: &str, endpoint: &str) -> Cloud {
    let config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => provider,
            "ANYCLOUD_BUCKET" => "many",
            "GOOGLE_CLOUD_PROJECT" => "test",
            "AWS_REGION" => "us-east-1",
            "STORAGE_EMULATOR_HOST" | "AWS_ENDPOINT_URL" => endpoint,
            _ => return None,
        };
        Some(value.to_owned())
    });
    Cloud::connect(config.unwrap()).unwrap()
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// One after the other: the peak is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_a_million_keys_is_flat_and_waits_for_its_reader() {
    let keys = std::env::var("ANYCLOUD_TEST_KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    let has = |name: &str| std::env::var_os(name).is_some();
    let aws = has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY");
    assert!(aws || !has("ANYCLOUD_TEST_REQUIRE_ALL"), "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set");
    for provider in ["gcp", "aws"] {
        if provider == "aws" && !aws {
            println!("aws: skipped, AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set");
            continue;
        }
        let (bucket, endpoint) = Bucket::start(keys).await;
        let cloud = cloud(provider, &endpoint);
        let mut listing = cloud.objects().list(ListOptions::default());
        // What the first page costs once: the client, its buffers, the code.
        let mut last = None;
        for _ in 0..PAGE {
            last = listing.try_next().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ahead = bucket.pages.load(Ordering::Relaxed) - 1;
        assert!(ahead <= 1, "{provider}: {ahead} pages were asked for ahead of a reader that stopped");
        // From here on the peak counts anew: https://docs.kernel.org/filesystems/proc.html
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (before, mut count) = (status("VmRSS"), PAGE);
        while let Some(entry) = listing.try_next().await.unwrap() {
            assert!(last.as_ref().is_none_or(|last: &ListEntry| last.name() < entry.name()));
            last = Some(entry);
            count += 1;
        }
        let over = status("VmHWM") - before;
        println!(
            "{provider}: {count} keys in {} pages, {} KiB more than after the first",
            bucket.pages.load(Ordering::Relaxed),
            over >> 10
        );
        assert_eq!(count, keys);
        assert_eq!(last.unwrap().name(), key(keys - 1));
        assert!(over <= ALLOWED, "{provider}: {} MiB more than after the first page", over >> 20);
    }
}
