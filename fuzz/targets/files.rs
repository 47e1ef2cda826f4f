//! What the `local` provider and the formats read from files that somebody has damaged, or made up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anycloud::formats::csv::CsvExt as _;
use anycloud::formats::parquet::{ParquetExt as _, ParquetRead};
use anycloud::job_runner::{ListExecutions, LogMode, LogOptions};
use anycloud::local::{FileSecretStore, FileStore};
use anycloud::object_store::{Crc32c, HeadOptions};
use anycloud::secret_store::ListSecrets;
use anycloud::{
    Cloud, Config, ErrorKind, ExecutionId, ObjectKey, ObjectStore as _, ObjectStoreExt as _, SecretName,
    SecretStore as _, SecretStoreExt as _,
};
use futures_util::StreamExt as _;

use super::{RUNTIME, root};

struct Planted {
    store: Arc<FileStore>,
    key: ObjectKey,
    file: std::path::PathBuf,
}

fn planted(name: &str) -> Planted {
    let root = root(name);
    let (store, key) = (Arc::new(FileStore::new(&root, "main")), ObjectKey::new("k").unwrap());
    RUNTIME.block_on(store.put_bytes(&key, "first")).unwrap();
    Planted { store, key, file: root.join("objects/main/objects/k.o") }
}

/// A file in the place of an object: as it is, and with a footer that fits, so that the record itself is read.
pub fn object_file(input: &[u8]) {
    static PLANTED: LazyLock<Planted> = LazyLock::new(|| planted("object"));
    let Planted { store, key, file } = &*PLANTED;
    let length = u32::try_from(input.len()).unwrap_or(u32::MAX).to_be_bytes();
    let sealed = [input, &Crc32c::of(input).0.to_be_bytes(), &length, b"anycobj1"].concat();
    for bytes in [input, &sealed] {
        fs::write(file, bytes).unwrap();
        RUNTIME.block_on(async {
            let head = store.head(key, HeadOptions::default()).await;
            let whole = store.get_bytes(key).await;
            match (head, whole) {
                (Ok(meta), Ok(bytes)) => assert_eq!(meta.size, bytes.len() as u64),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
                (Err(error), Ok(_)) => panic!("read, but not described: {error}"),
            }
            let _ = store.list_all("").await;
        });
    }
}

/// A file of any name among the objects stands for a key that can be read, or is not listed.
pub fn object_tree(input: &[u8]) {
    static PLANTED: LazyLock<Planted> = LazyLock::new(|| planted("tree"));
    let Planted { store, file, .. } = &*PLANTED;
    let Ok(name) = std::str::from_utf8(input) else { return };
    if name.is_empty() || name.len() > 200 || name.contains(['/', '\0']) || name == "." || name == ".." {
        return;
    }
    let path = file.with_file_name(name);
    if path == *file || fs::write(&path, "not an object").is_err() {
        return;
    }
    let listed = RUNTIME.block_on(store.list_all(""));
    fs::remove_file(&path).unwrap();
    for object in listed.into_iter().flatten() {
        assert!(object.key.as_str() == "k", "{name:?} is listed as {:?}", object.key);
    }
    if let Ok(key) = ObjectKey::new(name) {
        RUNTIME.block_on(async {
            store.put_bytes(&key, name.to_owned()).await.unwrap();
            assert_eq!(store.get_text(&key).await.unwrap(), name);
            assert!(store.list_all("").await.unwrap().iter().any(|object| object.key == key));
            if name != "k" {
                store.delete(&key, Default::default()).await.unwrap();
            }
        });
    }
}

/// A file in the place of a secret's record.
pub fn secret_file(input: &[u8]) {
    static STORE: LazyLock<FileSecretStore> = LazyLock::new(|| {
        let store = FileSecretStore::new(root("secret"));
        RUNTIME.block_on(store.put_value(&SecretName::new("db").unwrap(), "first")).unwrap();
        store
    });
    let (store, name) = (&*STORE, SecretName::new("db").unwrap());
    fs::write(root("secret").join("secrets/db"), input).unwrap();
    RUNTIME.block_on(async {
        let found = store.get_latest(&name).await;
        if let Err(error) = found {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::VersionDisabled), "{error}");
        }
        let _ = store.describe(&name).await;
        let _: Vec<_> = store.list(ListSecrets::default()).collect().await;
        let _: Vec<_> = store.list_versions(&name).collect().await;
        let _ = store.put_value(&name, "next").await;
    });
}

const EXECUTION: &str = "job-2e121809adddcdf5b01dfcd257d2f0c9";

/// The claim, the state and the log of an execution; the input is the one that its first byte chooses.
pub fn job_files(input: &[u8]) {
    static CLOUD: LazyLock<Cloud> = LazyLock::new(|| Cloud::connect(Config::local(root("jobs"))).unwrap());
    let directory = root("jobs").join("jobs/job").join(EXECUTION);
    let [which, input @ ..] = input else { return };
    fs::create_dir_all(&directory).unwrap();
    private(&directory);
    let claim = r#"{"job":"job","submission":"2e121809adddcdf5b01dfcd257d2f0c9","key":"once","attempt":1,
        "fingerprint":"x","tasks":1,"labels":{},"created":1800000000000000000,"marker":"nobody-has-this"}"#;
    let state = r#"{"supervisor":0,"started":1,"finished":2,"tasks":{"total":1,"running":0,"succeeded":1,"failed":0},
        "outcome":"succeeded","reason":null,"details":{}}"#;
    for (name, valid) in [("request.json", claim), ("state.json", state), ("log.jsonl", ""), ("lock", "")] {
        fs::write(directory.join(name), valid).unwrap();
    }
    let names = ["request.json", "state.json", "log.jsonl"];
    fs::write(directory.join(names[usize::from(*which) % names.len()]), input).unwrap();
    RUNTIME.block_on(async {
        let id = ExecutionId::new(EXECUTION).unwrap();
        let jobs = CLOUD.jobs();
        let _ = jobs.get(&id).await;
        let _: Vec<_> = jobs.list(ListExecutions::default()).collect().await;
        let _: Vec<_> = jobs.logs(&id, LogOptions { mode: LogMode::All }).take(1_000).collect().await;
    });
}

fn private(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Rows of any shape.
pub fn csv(input: &[u8]) {
    static PLANTED: LazyLock<Planted> = LazyLock::new(|| planted("csv"));
    let Planted { store, key, .. } = &*PLANTED;
    RUNTIME.block_on(async {
        store.put_bytes(key, input.to_vec()).await.unwrap();
        let _ = store.get_csv::<std::collections::BTreeMap<String, String>>(key).await;
        let _ = store.get_csv::<(i64, Option<f64>, String)>(key).await;
        let _ = store.get_json::<serde_json::Value>(key).await;
    });
}

/// A Parquet file that was damaged after it was written. Panics of the decoder are caught by the crate: only one that is
/// not counts.
pub fn parquet(input: &[u8]) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_of = |crates: &str| panic.location().is_some_and(|place| place.file().contains(crates));
            if !is_of("/parquet-") && !is_of("/arrow-") {
                shown(panic);
            }
        }));
    });
    static PLANTED: LazyLock<Planted> = LazyLock::new(|| planted("parquet"));
    let Planted { store, key, .. } = &*PLANTED;
    RUNTIME.block_on(async {
        store.put_bytes(key, input.to_vec()).await.unwrap();
        if let Ok(mut batches) = store.read_parquet(key, ParquetRead::default()).await {
            let mut rows = 0;
            while let Some(Ok(batch)) = batches.next().await {
                rows += batch.num_rows();
                assert!(rows < 10_000_000, "more rows than such a file can hold");
            }
        }
    });
}
