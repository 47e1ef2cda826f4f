//! Objects after a power cut.

use std::collections::BTreeMap;

use super::*;
use crate::local::crash_states::{OBJECTS, Recording, play};

async fn work(store: &Arc<FileStore>, log: &Recording, calls: usize) {
    let mut random = fastrand::Rng::with_seed(5);
    let keys = ["a", "a/b", "d/e/f", "d/e/g", "long/".repeat(20).leak()];
    for call in 0..calls {
        let name = keys[random.usize(..keys.len())];
        let bytes = Bytes::from(format!("{call}").repeat(random.usize(1..40)));
        let kind = random.u8(..8);
        let source = keys[random.usize(..keys.len())];
        let after = match kind {
            0..3 => None,
            3 => store.get_bytes(&key(source)).await.ok(),
            _ => Some(bytes.clone()),
        };
        if kind == 3 && after.is_none() {
            continue;
        }
        log.begin(name, after);
        match kind {
            0..3 => store.delete(&key(name), DeleteOptions::default()).await.unwrap(),
            3 => drop(store.copy(&key(source), &key(name), CopyOptions::default()).await.unwrap()),
            4 => {
                let mut upload = store.start_upload(&key(name), PutOptions::default()).await.unwrap();
                upload.put_part(bytes.slice(..1).into()).await.unwrap();
                if bytes.len() > 1 {
                    upload.put_part(bytes.slice(1..).into()).await.unwrap();
                }
                drop(upload.finish(Crc32c::of(&bytes)).await.unwrap());
            }
            _ => drop(store.put_bytes(&key(name), bytes).await.unwrap()),
        }
        log.acknowledge(name);
    }
}

#[tokio::test]
async fn after_a_power_cut_at_any_point_objects_are_whole_and_acknowledged_ones_are_there() {
    let scratch = Scratch::new();
    std::fs::create_dir(&scratch.0).unwrap();
    let recording = Arc::new(Recording::below(&scratch.0));
    let store = Arc::new(FileStore::with_operations(&scratch.0, "main".to_owned(), recording.clone()));
    work(&store, &recording, 150).await;
    let states = play(&recording, 28, async |path, names| {
        let reopened = FileStore::with_operations(path, "main".to_owned(), Arc::new(Unsynced));
        let mut there = BTreeMap::new();
        for name in names {
            match reopened.get_bytes(&key(&name)).await {
                Ok(bytes) => drop(there.insert(name, bytes)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
        }
        let listed = reopened.list_all("").await.unwrap();
        assert!(listed.iter().map(|object| object.key.as_str()).eq(there.keys().map(String::as_str)));
        there
    });
    let states = states.await;
    assert!(states >= OBJECTS, "{states}");
}
