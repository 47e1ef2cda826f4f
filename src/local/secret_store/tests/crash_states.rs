//! Secrets after a power cut: records are whole, and what was acknowledged is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::AsFd as _;

use bytes::Bytes;

use super::*;
use crate::local::crash_states::{Recording, SECRETS, Unsynced, play};
use crate::local::file_operations::{FileOperations as _, Place, open_root};

/// All that can be seen of a secret but its times.
async fn state(store: &FileSecretStore, secret: &SecretName) -> Option<Bytes> {
    let meta = match store.describe(secret).await {
        Ok(meta) => meta,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            return None;
        }
    };
    let mut text = format!("{:?}", std::mem::discriminant(&meta.state));
    let versions: Vec<_> = store.list_versions(secret).try_collect().await.unwrap();
    for version in versions {
        let read = value(store, secret, VersionSelector::Id(version.id.clone())).await;
        let (id, state, current, aliases) = (version.id, version.state, version.current, version.aliases);
        write!(text, "; {id} {state:?} {current} {aliases:?} {read:?}").unwrap();
    }
    let (latest, previous) = (VersionSelector::Latest, VersionSelector::Previous);
    write!(text, "; {:?} {:?}", value(store, secret, latest).await, value(store, secret, previous).await).unwrap();
    Some(text.into())
}

/// A change by chance; whether it is refused is no matter.
async fn change(store: &FileSecretStore, secret: &SecretName, kind: u8, number: u64) {
    let version = id(number % 4 + 1);
    let text = number.to_string().repeat(1 + number as usize % 30);
    let stage = if kind == 0 { SecretStage::Staged } else { SecretStage::Current };
    let _ = match kind {
        0..4 => put(store, secret, &text, PutSecretOptions { stage, ..PutSecretOptions::default() }).await.map(drop),
        4 => store.create(secret, text.as_str().into(), CreateSecretOptions::default()).await.map(drop),
        5 => store.promote(secret, &version).await.map(drop),
        6 => store.disable(secret, &version).await,
        7 => store.enable(secret, &version).await,
        8 => store.destroy(secret, &version).await,
        9 => store.set_alias(secret, &SecretAlias::new("stable").unwrap(), Some(&version)).await,
        10 => store.delete(secret, DeleteSecret::Recoverable { days: 7 }).await,
        11 => store.restore(secret).await,
        _ => store.delete(secret, DeleteSecret::Immediate).await,
    };
}

#[tokio::test]
async fn after_a_power_cut_at_any_point_secrets_are_whole_and_acknowledged_ones_are_there() {
    let (fixture, shadow) = (Fixture::new(), Fixture::new());
    std::fs::create_dir(&fixture.root).unwrap();
    let recording = Arc::new(Recording::below(&fixture.root));
    // Somebody was killed who had just made the directory.
    let root = open_root(&*recording, &fixture.root).unwrap();
    recording.make_directory(Place { directory: root.as_fd(), name: "secrets" }, 0o700).unwrap();
    let store = fixture.store.clone().with_operations(recording.clone());
    let shadow = shadow.store.clone().with_operations(Arc::new(Unsynced));
    let mut random = fastrand::Rng::with_seed(3);
    for number in 0..650 {
        let secret = name(["a", "b", "c"][random.usize(..3)]);
        let kind = random.u8(..13);
        // What it will be is what becomes of another store.
        change(&shadow, &secret, kind, number).await;
        recording.begin(secret.as_str(), state(&shadow, &secret).await);
        change(&store, &secret, kind, number).await;
        recording.acknowledge(secret.as_str());
    }
    let states = play(&recording, 40, async |path, names| {
        let store = FileSecretStore::new(path).with_operations(Arc::new(Unsynced));
        let all = ListSecrets { include_pending_deletion: true, ..ListSecrets::default() };
        let listed: Vec<_> = store.list(all).map_ok(|meta| meta.name).try_collect().await.unwrap();
        let mut there = BTreeMap::new();
        for text in names {
            there.extend(state(&store, &name(&text)).await.map(|state| (text, state)));
        }
        assert!(listed.iter().map(SecretName::as_str).eq(there.keys().map(String::as_str)));
        // Nothing stands in the way of the next change.
        put(&store, &name("next"), "value", PutSecretOptions::default()).await.unwrap();
        there
    });
    let states = states.await;
    assert!(states >= SECRETS, "{states}");
}
