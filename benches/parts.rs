//! The parts that need no network, with their allocations: `cargo bench --bench parts --features csv`.

#![allow(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anycloud::formats::csv::CsvExt as _;
use anycloud::local::FileStore;
use anycloud::object_store::{Crc32c, HeadOptions, ListOptions, Metadata, SignOptions};
use anycloud::{Cloud, Config, ObjectKey, ObjectStore, ObjectStoreExt as _, ObjectUri};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
/// In memory, so that no disk is measured.
static ROOT: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/anycloud-parts-{}", std::process::id())));

const ROWS: usize = 10_000;
const KEY: &str = "reports/2026/ä b.csv";

fn main() {
    divan::main();
    let _ = std::fs::remove_dir_all(&*ROOT);
}

fn key() -> ObjectKey {
    ObjectKey::new(KEY).unwrap()
}

/// A store without what the crate puts around every store.
fn bare() -> Arc<dyn ObjectStore> {
    Arc::new(FileStore::new(&*ROOT, "main").with_signed_url_base("http://127.0.0.1:1/files"))
}

/// The same store as users have it: checked, traced, and behind the engine for large reads.
fn whole() -> Arc<dyn ObjectStore> {
    Arc::clone(Cloud::connect(Config::local(&*ROOT)).unwrap().objects())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    week: String,
    channel: u32,
    spend: f64,
    sales: f64,
}

fn rows() -> Vec<Row> {
    let row = |number| Row {
        week: format!("2026-W{:02}", number % 53),
        channel: number % 7,
        spend: f64::from(number) * 1.37,
        sales: f64::from(number) / 3.0,
    };
    (0..ROWS as u32).map(row).collect()
}

mod checksum {
    use super::*;

    #[divan::bench(args = [1 << 10, 64 << 10, 1 << 20])]
    fn of(bencher: Bencher, bytes: usize) {
        let data = vec![0x5A; bytes];
        bencher.counter(BytesCount::new(bytes)).bench(|| Crc32c::of(black_box(&data)));
    }

    #[divan::bench]
    fn combine() -> Crc32c {
        black_box(Crc32c(1)).combine(black_box(Crc32c(2)), black_box(8 << 20))
    }

    #[divan::bench]
    fn to_and_from_base64() -> Option<Crc32c> {
        Crc32c::from_base64(&black_box(Crc32c(0xe306_9283)).to_base64())
    }
}

mod keys {
    use super::*;

    #[divan::bench]
    fn check() -> ObjectKey {
        ObjectKey::new(black_box(KEY)).unwrap()
    }

    #[divan::bench]
    fn address_to_and_from_text() -> ObjectUri {
        format!("s3://bucket/{}", black_box(KEY)).parse().unwrap()
    }

    #[divan::bench]
    fn metadata() -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert("source", black_box("grün")).unwrap();
        metadata
    }

    /// The key encoded for a URL, and the URL signed.
    #[divan::bench]
    fn signed_url(bencher: Bencher) {
        let (store, key) = (bare(), key());
        let sign = || store.sign(&key, SignOptions::get(Duration::from_secs(60)));
        bencher.bench_local(|| RUNTIME.block_on(sign()).unwrap());
    }
}

mod layers {
    use super::*;

    fn head(bencher: Bencher, store: &dyn ObjectStore) {
        let key = key();
        RUNTIME.block_on(store.put(&key, "x".into(), Default::default())).unwrap();
        bencher.bench_local(|| RUNTIME.block_on(store.head(&key, HeadOptions::default())).unwrap());
    }

    #[divan::bench]
    fn head_of_a_bare_store(bencher: Bencher) {
        head(bencher, &*bare());
    }

    #[divan::bench]
    fn head_as_users_have_it(bencher: Bencher) {
        head(bencher, &*whole());
    }

    fn get(bencher: Bencher, store: &Arc<dyn ObjectStore>) {
        let key = key();
        RUNTIME.block_on(store.put_bytes(&key, vec![7; 4096])).unwrap();
        bencher.bench_local(|| RUNTIME.block_on(store.get_bytes(&key)).unwrap());
    }

    #[divan::bench]
    fn get_of_a_bare_store(bencher: Bencher) {
        get(bencher, &bare());
    }

    #[divan::bench]
    fn get_as_users_have_it(bencher: Bencher) {
        get(bencher, &whole());
    }

    #[divan::bench]
    fn put_as_users_have_it(bencher: Bencher) {
        let (store, key) = (whole(), key());
        bencher.bench_local(|| RUNTIME.block_on(store.put_bytes(&key, vec![7; 4096])).unwrap());
    }

    #[divan::bench]
    fn list_of_1000_as_users_have_it(bencher: Bencher) {
        let store = whole();
        for number in 0..1000 {
            let key = ObjectKey::new(format!("many/{number}")).unwrap();
            RUNTIME.block_on(store.put_bytes(&key, "x")).unwrap();
        }
        let list = || store.list(ListOptions::prefix("many/")).try_collect::<Vec<_>>();
        bencher.counter(ItemsCount::new(1000_usize)).bench_local(|| RUNTIME.block_on(list()).unwrap());
    }
}

mod cache {
    use anycloud::secret_store::CachedSecrets;
    use anycloud::{SecretName, SecretStore as _, VersionSelector};

    use super::*;

    #[divan::bench]
    fn hit_of_a_secret(bencher: Bencher) {
        let secrets = Arc::clone(Cloud::connect(Config::local(&*ROOT)).unwrap().secrets());
        let cache = CachedSecrets::new(secrets, Default::default());
        let name = SecretName::new("database").unwrap();
        RUNTIME.block_on(cache.put(&name, "value".into(), Default::default())).unwrap();
        let read = || cache.get(&name, &VersionSelector::Latest);
        // Entering the runtime is no part of a hit.
        RUNTIME.block_on(read()).unwrap();
        let _entered = RUNTIME.enter();
        bencher.bench_local(|| futures_util::future::FutureExt::now_or_never(read()).unwrap().unwrap());
    }
}

mod formats {
    use super::*;

    fn typed(bencher: Bencher, name: &str, fill: impl AsyncFn(&ObjectKey), read: impl AsyncFn(&ObjectKey) -> usize) {
        let key = ObjectKey::new(name).unwrap();
        RUNTIME.block_on(fill(&key));
        bencher.counter(ItemsCount::new(ROWS)).bench_local(|| assert_eq!(RUNTIME.block_on(read(&key)), ROWS));
    }

    #[divan::bench]
    fn csv_read(bencher: Bencher) {
        let (store, rows) = (whole(), rows());
        typed(
            bencher,
            "rows.csv",
            async |key| drop(store.put_csv(key, &rows).await.unwrap()),
            async |key| store.get_csv::<Row>(key).await.unwrap().len(),
        );
    }

    #[divan::bench]
    fn csv_write(bencher: Bencher) {
        let (store, rows) = (whole(), rows());
        let write = async |key: &ObjectKey| store.put_csv(key, &rows).await.map(|_| rows.len()).unwrap();
        typed(bencher, "rows.csv", async |_| {}, write);
    }

    #[divan::bench]
    fn json_read(bencher: Bencher) {
        let (store, rows) = (whole(), rows());
        typed(
            bencher,
            "rows.json",
            async |key| drop(store.put_json(key, &rows).await.unwrap()),
            async |key| store.get_json::<Vec<Row>>(key).await.unwrap().len(),
        );
    }

    #[divan::bench]
    fn json_of_a_map(bencher: Bencher) {
        let map: BTreeMap<String, f64> = (0..ROWS).map(|number| (format!("k{number}"), number as f64)).collect();
        let store = whole();
        let write = async |key: &ObjectKey| store.put_json(key, &map).await.map(|_| map.len()).unwrap();
        typed(bencher, "map.json", async |_| {}, write);
    }
}
