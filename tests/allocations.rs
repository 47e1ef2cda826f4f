//! How many allocations a small operation costs, against a budget: what an operation costs on a loaded machine is told
//! by its allocations far better than by a clock.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use anycloud::object_store::ListOptions;
#[cfg(feature = "local")]
use anycloud::secret_store::{CacheOptions, CachedSecrets};
use anycloud::{Cloud, Config, GetOptions, ObjectKey, ObjectStore, ObjectStoreExt as _};
#[cfg(feature = "local")]
use anycloud::{SecretName, SecretStore as _, VersionSelector};
use futures_util::TryStreamExt as _;
use tokio::runtime::Runtime;

/// An object, and its CRC32C.
const BODY: &str = "0123456789abcdef";
const CRC: &str = "QtMRng==";
const KEYS: usize = 1000;
const ROUNDS: u64 = 20;

/// Answers what the small operations ask, on threads of its own, whose allocations are not counted.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || converse(stream.unwrap()));
        }
    });
    address
}

fn converse(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        let (headers, body) = answer(head.lines().next().unwrap());
        let bytes = if head.starts_with("HEAD") { "" } else { &body };
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n{bytes}").unwrap();
    }
}

fn answer(line: &str) -> (String, String) {
    let path = line.split(' ').nth(1).unwrap();
    let numbers = || (0..KEYS).map(|number| format!("{number:08}"));
    if path.starts_with("/storage/v1/b/bench/o?") {
        let item = |key| {
            format!(
                r#"{{"name":"{key}","size":"16","generation":"1700000000000001","updated":"2026-06-01T00:00:00.000Z"}}"#
            )
        };
        return (String::new(), format!(r#"{{"items":[{}]}}"#, numbers().map(item).collect::<Vec<_>>().join(",")));
    }
    if path.contains("list-type=2") {
        let item = |key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-06-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>16</Size></Contents>"
            )
        };
        let items: String = numbers().map(item).collect();
        return (
            String::new(),
            format!("<ListBucketResult><EncodingType>url</EncodingType>{items}</ListBucketResult>"),
        );
    }
    if path.starts_with("/storage/v1/") || path.starts_with("/upload/") {
        let resource = format!(
            r#"{{"generation":"1700000000000001","size":"16","updated":"2026-06-01T00:00:00.000Z","crc32c":"{CRC}"}}"#
        );
        return (String::new(), resource);
    }
    let headers = format!(
        "etag: \"e\"\r\nlast-modified: Mon, 01 Jun 2026 00:00:00 GMT\r\nx-amz-checksum-crc32c: {CRC}\r\n\
         x-amz-checksum-type: FULL_OBJECT\r\nx-goog-generation: 1700000000000001\r\nx-goog-hash: crc32c={CRC}\r\n"
    );
    (headers, if line.starts_with("PUT") { String::new() } else { BODY.to_owned() })
}

fn connect(provider: &str, place: &str) -> Arc<dyn ObjectStore> {
    let config = Config::from_lookup(|name| {
        let value = match (provider, name) {
            (_, "CLOUD_PROVIDER") => provider,
            (_, "ANYCLOUD_BUCKET") => "bench",
            ("aws", "AWS_REGION") => "us-east-1",
            ("aws", "AWS_ENDPOINT_URL_S3") => place,
            ("gcp", "STORAGE_EMULATOR_HOST") => place,
            ("gcp", "GOOGLE_CLOUD_PROJECT") => "bench",
            ("local", "ANYCLOUD_LOCAL_ROOT") => place,
            _ => return None,
        };
        Some(value.to_owned())
    });
    Arc::clone(Cloud::connect(config.unwrap()).unwrap().objects())
}

/// The allocations of one call on the only thread of its runtime; those of blocking threads are not counted.
fn allocations<F: Future>(runtime: &Runtime, call: impl Fn() -> F) -> u64 {
    for _ in 0..3 {
        runtime.block_on(call());
    }
    let all = allocation_counter::measure(|| {
        for _ in 0..ROUNDS {
            runtime.block_on(call());
        }
    });
    all.count_total / ROUNDS
}

/// Fails if a GET, HEAD, PUT or a thousand keys of a LIST cost more than this.
fn check(provider: &str, place: &str, budgets: [u64; 4]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = connect(provider, place);
    let key = ObjectKey::new("key").unwrap();
    let (store, key) = (&store, &key);
    let put = allocations(&runtime, || async { store.put_bytes(key, BODY).await.unwrap() });
    let get = allocations(&runtime, || async {
        let got = store.get(key, GetOptions::default()).await.unwrap().bytes().await.unwrap();
        assert_eq!(got, BODY);
    });
    let head = allocations(&runtime, || async { store.head(key, Default::default()).await.unwrap() });
    let list = allocations(&runtime, || async {
        let entries: Vec<_> = store.list(ListOptions::default()).try_collect().await.unwrap();
        assert!(provider == "local" || entries.len() == KEYS);
    });
    println!("{provider}: GET {get}, HEAD {head}, PUT {put}, LIST {list}");
    for (operation, count, budget) in
        [("GET", get, budgets[0]), ("HEAD", head, budgets[1]), ("PUT", put, budgets[2]), ("LIST", list, budgets[3])]
    {
        assert!(count <= budget, "{provider}: a {operation} makes {count} allocations, of {budget} allowed");
    }
}

#[test]
#[cfg(feature = "gcp")]
fn small_operations_on_cloud_storage_keep_to_their_budget() {
    check("gcp", &serve(), [55, 43, 48, 2060]);
}

#[test]
#[cfg(feature = "aws")]
fn small_operations_on_s3_keep_to_their_budget() {
    const NAME: &str = "small_operations_on_s3_keep_to_their_budget";
    if std::env::var_os("AWS_SECRET_ACCESS_KEY").is_some_and(|key| key == "made-up") {
        return check("aws", &serve(), [52, 36, 45, 3064]);
    }
    // Credentials come from the environment, which only a new process can be given.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "made-up")
        .env_remove("AWS_SESSION_TOKEN")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

/// One is the future that every call of a contract is.
#[test]
#[cfg(feature = "local")]
fn a_hit_of_the_cache_of_secrets_makes_one_allocation() {
    let root = std::env::temp_dir().join(format!("anycloud-hits-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let secrets = Cloud::connect(Config::local(&root)).unwrap().secrets().clone();
    let cache = CachedSecrets::new(secrets, CacheOptions::default());
    let (name, selector) = (SecretName::new("database").unwrap(), VersionSelector::Latest);
    runtime.block_on(cache.put(&name, "value".into(), Default::default())).unwrap();
    runtime.block_on(cache.get(&name, &selector)).unwrap();
    let hit = allocations(&runtime, || async { cache.get(&name, &selector).await.unwrap() });
    println!("a hit of the cache of secrets: {hit}");
    assert!(hit <= 1, "{hit} allocations");
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
#[cfg(feature = "local")]
fn small_operations_on_files_keep_to_their_budget() {
    let root = std::env::temp_dir().join(format!("anycloud-allocations-{}", std::process::id()));
    check("local", root.to_str().unwrap(), [30, 14, 17, 16]);
    std::fs::remove_dir_all(root).unwrap();
}
