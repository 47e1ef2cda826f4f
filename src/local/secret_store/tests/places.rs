//! Who may touch the directories, and what is put in their place.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::local::crash_states::Unsynced;
use crate::local::swapping::Swapping;

fn set_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_or_that_is_a_link_is_refused() {
    let (fixture, db) = (Fixture::new(), name("db"));
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    let secrets = fixture.root.join("secrets");
    for mode in [0o770, 0o702] {
        set_mode(&secrets, mode);
        let error = fixture.store.get(&db, &VersionSelector::Latest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(secrets.to_str().unwrap()), "{error}");
        assert!(put(&fixture.store, &db, "b", PutSecretOptions::default()).await.is_err());
    }
    set_mode(&secrets, 0o700);
    let aside = fixture.root.join("aside");
    std::fs::rename(&secrets, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &secrets).unwrap();
    let error = fixture.store.get(&db, &VersionSelector::Latest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_root_that_others_can_write_to_is_refused_and_named_before_anything_is_written() {
    let (fixture, db) = (Fixture::new(), name("db"));
    for mode in [0o775, 0o757, 0o1777] {
        std::fs::create_dir(&fixture.root).unwrap();
        set_mode(&fixture.root, mode);
        for there_are_secrets in [false, true] {
            if there_are_secrets {
                set_mode(&fixture.root, 0o755);
                put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
                set_mode(&fixture.root, mode);
            }
            let read = fixture.store.get(&db, &VersionSelector::Latest).await.unwrap_err();
            let written = put(&fixture.store, &db, "b", PutSecretOptions::default()).await.unwrap_err();
            let listed = fixture.store.list(ListSecrets::default()).try_collect::<Vec<_>>().await.unwrap_err();
            for error in [read, written, listed] {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                let (text, root) = (error.to_string(), fixture.root.to_str().unwrap());
                assert!(text.contains(root) && text.contains(&format!("mode {mode:o}")), "{text}");
            }
            assert_eq!(fixture.root.join("secrets").exists(), there_are_secrets);
        }
        std::fs::remove_dir_all(&fixture.root).unwrap();
    }
}

#[tokio::test]
async fn a_root_below_a_directory_for_everybody_is_no_problem() {
    let (fixture, db) = (Fixture::new(), name("db"));
    std::fs::create_dir(&fixture.root).unwrap();
    set_mode(&fixture.root, 0o1777);
    let store = FileSecretStore::new(fixture.root.join("own"));
    put(&store, &db, "a", PutSecretOptions::default()).await.unwrap();
    assert_eq!(value(&store, &db, VersionSelector::Latest).await, Ok("a".into()));
}

#[tokio::test]
async fn a_root_of_another_user_is_refused() {
    let (fixture, db) = (Fixture::new(), name("db"));
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    if std::os::unix::fs::chown(&fixture.root, Some(12_345), None).is_err() {
        println!("skipped: only the system administrator can give a directory away");
        return;
    }
    let error = fixture.store.get(&db, &VersionSelector::Latest).await.unwrap_err();
    assert!(error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("(12345)"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_read_or_written_outside_while_the_directory_is_swapped_for_a_link() {
    let (fixture, outside) = (Fixture::new(), Fixture::new());
    for (fixture, text) in [(&fixture, "inside"), (&outside, "outside")] {
        put(&fixture.store, &name("db"), text, PutSecretOptions::default()).await.unwrap();
    }
    let (secrets, other) = (fixture.root.join("secrets"), outside.root.join("secrets"));
    let before = std::fs::read(other.join("db")).unwrap();
    let store = fixture.store.clone().with_operations(Arc::new(Unsynced));
    let swapping = Swapping::start(vec![(secrets, other.clone())]);
    let mut read = 0;
    for round in 0..1000_u32 {
        let _ = put(&store, &name("new"), &round.to_string(), PutSecretOptions::default()).await;
        let _ = store.delete(&name("new"), DeleteSecret::Immediate).await;
        if let Ok(found) = value(&store, &name("db"), VersionSelector::Latest).await {
            assert_eq!(found, "inside");
            read += 1;
        }
        if round % 50 == 0 {
            let _ = store.list(ListSecrets::default()).count().await;
        }
    }
    let swaps = swapping.stop();
    assert!(swaps > 100 && read > 10, "{swaps} swaps, {read} reads");
    assert_eq!(std::fs::read(other.join("db")).unwrap(), before);
    assert_eq!(std::fs::read_dir(other).unwrap().count(), 1);
    put(&store, &name("db"), "after", PutSecretOptions::default()).await.unwrap();
}
