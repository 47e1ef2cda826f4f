use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::secret_store::SecretState;

mod crash_states;
mod faults;
mod places;
mod processes;

struct Fixture {
    root: PathBuf,
    store: FileSecretStore,
    days: Arc<AtomicU64>,
}

impl Fixture {
    /// A store in a directory of its own, whose clock is ahead by a settable number of days.
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("anycloud-secrets-{}", crate::random::uuid()));
        let days = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&days);
        let store = FileSecretStore::new(&root)
            .with_clock(move || SystemTime::now() + Duration::from_secs(clock.load(Ordering::Relaxed) * 24 * 60 * 60));
        Self { root, store, days }
    }

    fn record(&self, name: &SecretName) -> PathBuf {
        self.root.join("secrets").join(name.as_str())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn id(number: u64) -> SecretVersionId {
    SecretVersionId::new(number.to_string()).unwrap()
}

async fn put(
    store: &FileSecretStore,
    secret: &SecretName,
    value: &str,
    options: PutSecretOptions,
) -> Result<(u64, bool)> {
    let result = store.put(secret, value.into(), options).await?;
    Ok((result.version.as_str().parse().unwrap(), result.added))
}

async fn value(store: &FileSecretStore, secret: &SecretName, selector: VersionSelector) -> Result<String, ErrorKind> {
    let read = store.get(secret, &selector).await.map_err(|error| error.kind())?;
    Ok(read.value.expose_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_put_creates_then_adds_and_leaves_an_unchanged_value_alone() {
    let (fixture, db) = (Fixture::new(), name("db"));
    let default = PutSecretOptions::default;
    assert_eq!(put(&fixture.store, &db, "a", default()).await.unwrap(), (1, true));
    assert_eq!(put(&fixture.store, &db, "a", default()).await.unwrap(), (1, false));
    let again = PutSecretOptions { add_unchanged: true, ..default() };
    assert_eq!(put(&fixture.store, &db, "a", again).await.unwrap(), (2, true));
    assert_eq!(put(&fixture.store, &db, "b", default()).await.unwrap(), (3, true));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Ok("b".into()));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Previous).await, Ok("a".into()));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Id(id(4))).await, Err(ErrorKind::NotFound));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Id(id(1))).await, Ok("a".into()));
}

#[tokio::test]
async fn a_missing_directory_has_no_secrets_and_reading_makes_none() {
    let (fixture, db) = (Fixture::new(), name("db"));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Err(ErrorKind::NotFound));
    assert_eq!(fixture.store.list(ListSecrets::default()).count().await, 0);
    assert!(!fixture.root.exists());
}

#[tokio::test]
async fn a_conditional_put_needs_the_named_version_to_be_current() {
    let (fixture, db) = (Fixture::new(), name("db"));
    let on = |version| PutSecretOptions { if_current: Some(id(version)), ..PutSecretOptions::default() };
    let absent = put(&fixture.store, &db, "a", on(1)).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::PreconditionFailed);
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    assert_eq!(put(&fixture.store, &db, "b", on(1)).await.unwrap(), (2, true));
    assert_eq!(put(&fixture.store, &db, "c", on(1)).await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_repeated_write_returns_the_version_that_it_made() {
    let (fixture, db) = (Fixture::new(), name("db"));
    let create = CreateSecretOptions { write_id: Some(WriteId::random()), ..Default::default() };
    for _ in 0..2 {
        assert_eq!(fixture.store.create(&db, "a".into(), create.clone()).await.unwrap(), id(1));
    }
    let again = fixture.store.create(&db, "a".into(), CreateSecretOptions::default()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let options =
        PutSecretOptions { if_current: Some(id(1)), write_id: Some(WriteId::random()), ..PutSecretOptions::default() };
    assert_eq!(put(&fixture.store, &db, "b", options.clone()).await.unwrap(), (2, true));
    put(&fixture.store, &db, "c", PutSecretOptions::default()).await.unwrap();
    assert_eq!(put(&fixture.store, &db, "b", options.clone()).await.unwrap(), (2, false));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Ok("c".into()));
    let error = put(&fixture.store, &db, "hunter2", options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_staged_version_is_read_by_id_until_it_is_promoted() {
    let (fixture, db) = (Fixture::new(), name("db"));
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    let staged = PutSecretOptions { stage: SecretStage::Staged, ..PutSecretOptions::default() };
    assert_eq!(put(&fixture.store, &db, "b", staged).await.unwrap(), (2, true));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Ok("a".into()));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Id(id(2))).await, Ok("b".into()));
    fixture.store.disable(&db, &id(1)).await.unwrap();
    assert_eq!(value(&fixture.store, &db, VersionSelector::LatestEnabled).await, Err(ErrorKind::VersionDisabled));
    fixture.store.enable(&db, &id(1)).await.unwrap();
    assert_eq!(fixture.store.promote(&db, &id(2)).await.unwrap(), id(2));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Ok("b".into()));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Previous).await, Ok("a".into()));
    assert_eq!(fixture.store.promote(&db, &id(9)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_disabled_version_comes_back_and_a_destroyed_one_does_not() {
    let (fixture, db) = (Fixture::new(), name("db"));
    for text in ["first-canary", "b"] {
        put(&fixture.store, &db, text, PutSecretOptions::default()).await.unwrap();
    }
    fixture.store.disable(&db, &id(2)).await.unwrap();
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Err(ErrorKind::VersionDisabled));
    assert_eq!(value(&fixture.store, &db, VersionSelector::LatestEnabled).await, Ok("first-canary".into()));
    fixture.store.enable(&db, &id(2)).await.unwrap();
    for _ in 0..2 {
        fixture.store.destroy(&db, &id(1)).await.unwrap();
    }
    assert_eq!(value(&fixture.store, &db, VersionSelector::Id(id(1))).await, Err(ErrorKind::VersionDisabled));
    assert_eq!(fixture.store.enable(&db, &id(1)).await.unwrap_err().kind(), ErrorKind::VersionDisabled);
    assert_eq!(fixture.store.promote(&db, &id(1)).await.unwrap_err().kind(), ErrorKind::VersionDisabled);
    use base64::Engine as _;
    let gone = base64::engine::general_purpose::STANDARD.encode("first-canary");
    assert!(!std::fs::read_to_string(fixture.record(&db)).unwrap().contains(&gone));
    let versions: Vec<_> = fixture.store.list_versions(&db).try_collect().await.unwrap();
    assert_eq!(versions.iter().map(|version| version.id.clone()).collect::<Vec<_>>(), [id(2), id(1)]);
    assert!(versions[0].current && !versions[1].current);
}

#[tokio::test]
async fn aliases_point_move_and_vanish() {
    let (fixture, db, alias) = (Fixture::new(), name("db"), SecretAlias::new("stable").unwrap());
    for text in ["a", "b"] {
        put(&fixture.store, &db, text, PutSecretOptions::default()).await.unwrap();
    }
    let by_alias = || VersionSelector::Alias(alias.clone());
    for (version, expected) in [(1, "a"), (2, "b")] {
        fixture.store.set_alias(&db, &alias, Some(&id(version))).await.unwrap();
        assert_eq!(value(&fixture.store, &db, by_alias()).await, Ok(expected.into()));
    }
    assert_eq!(fixture.store.set_alias(&db, &alias, Some(&id(7))).await.unwrap_err().kind(), ErrorKind::NotFound);
    for _ in 0..2 {
        fixture.store.set_alias(&db, &alias, None).await.unwrap();
    }
    assert_eq!(value(&fixture.store, &db, by_alias()).await, Err(ErrorKind::NotFound));
}

#[tokio::test]
async fn a_recoverable_deletion_can_be_taken_back_until_its_time_has_come() {
    let (fixture, db) = (Fixture::new(), name("db"));
    let week = DeleteSecret::Recoverable { days: 7 };
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    fixture.store.delete(&db, week).await.unwrap();
    let error = fixture.store.get(&db, &VersionSelector::Latest).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("until 20"), "{error}");
    assert!(matches!(
        fixture.store.describe(&db).await.unwrap().state,
        SecretState::PendingDeletion { until: Some(_) }
    ));
    assert_eq!(fixture.store.delete(&db, week).await.unwrap_err().kind(), ErrorKind::NotFound);
    let taken = fixture.store.create(&db, "b".into(), CreateSecretOptions::default()).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fixture.store.list(ListSecrets::default()).count().await, 0);
    let all = ListSecrets { include_pending_deletion: true, ..ListSecrets::default() };
    assert_eq!(fixture.store.list(all.clone()).count().await, 1);
    for _ in 0..2 {
        fixture.store.restore(&db).await.unwrap();
    }
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Ok("a".into()));

    fixture.store.delete(&db, week).await.unwrap();
    fixture.days.store(6, Ordering::Relaxed);
    assert_eq!(put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap(), (1, false));
    assert_eq!(value(&fixture.store, &db, VersionSelector::Latest).await, Ok("a".into()));
    fixture.store.delete(&db, week).await.unwrap();
    fixture.days.store(14, Ordering::Relaxed);
    assert_eq!(fixture.store.list(all).count().await, 0);
    assert!(fixture.record(&db).exists());
    assert_eq!(fixture.store.restore(&db).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!fixture.record(&db).exists());
    assert_eq!(put(&fixture.store, &db, "c", PutSecretOptions::default()).await.unwrap(), (1, true));
}

#[tokio::test]
async fn an_immediate_deletion_frees_the_name() {
    let (fixture, db) = (Fixture::new(), name("db"));
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    fixture.store.delete(&db, DeleteSecret::Recoverable { days: 30 }).await.unwrap();
    fixture.store.delete(&db, DeleteSecret::Immediate).await.unwrap();
    assert_eq!(fixture.store.delete(&db, DeleteSecret::Immediate).await.unwrap_err().kind(), ErrorKind::NotFound);
    fixture.store.create(&db, "b".into(), CreateSecretOptions::default()).await.unwrap();
    for days in [0, 6, 31] {
        let error = fixture.store.delete(&db, DeleteSecret::Recoverable { days }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn listings_are_in_byte_order_and_filtered_by_prefix_and_labels() {
    let fixture = Fixture::new();
    let long = "n".repeat(crate::MAX_SECRET_NAME_BYTES);
    for (text, team) in [("app_b", "x"), ("app-a", "x"), ("Zeta", "y"), (&long, "y")] {
        let labels = [("team".to_owned(), team.to_owned())].into();
        let options = CreateSecretOptions { labels, ..Default::default() };
        fixture.store.create(&name(text), "v".into(), options).await.unwrap();
    }
    let names = async |options| -> Vec<String> {
        fixture.store.list(options).map_ok(|meta| meta.name.to_string()).try_collect().await.unwrap()
    };
    assert_eq!(names(ListSecrets::default()).await, ["Zeta", "app-a", "app_b", &long]);
    assert_eq!(names(ListSecrets { prefix: "app".into(), ..Default::default() }).await, ["app-a", "app_b"]);
    let labels = [("team".to_owned(), "y".to_owned())].into();
    assert_eq!(names(ListSecrets { labels, ..Default::default() }).await, ["Zeta", &long]);
}

#[tokio::test]
async fn racing_creations_have_exactly_one_winner() {
    let (fixture, db) = (Fixture::new(), name("db"));
    let racers = (0..8).map(|racer: u8| {
        // A store each, so that only the lock on the disk keeps them apart.
        let (store, db) = (FileSecretStore::new(&fixture.root), db.clone());
        async move { store.create(&db, vec![racer].into(), CreateSecretOptions::default()).await }
    });
    let results = futures_util::future::join_all(racers).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert!(lost.into_iter().all(|result| result.unwrap_err().kind() == ErrorKind::AlreadyExists));
}

#[tokio::test]
async fn a_damaged_record_is_corrupt_and_its_content_stays_out_of_the_error() {
    let (fixture, db) = (Fixture::new(), name("db"));
    put(&fixture.store, &db, "hunter2", PutSecretOptions::default()).await.unwrap();
    let text = std::fs::read_to_string(fixture.record(&db)).unwrap();
    use base64::Engine as _;
    let encode = |value| base64::engine::general_purpose::STANDARD.encode(value);
    let swapped = text.replace(&encode("hunter2"), &encode("hunter3"));
    let renamed = text.replace("\"db\"", "\"other\"");
    for damaged in [&swapped, &renamed, &text[..text.len() / 2], "\"hunter2\"", ""] {
        std::fs::write(fixture.record(&db), damaged).unwrap();
        let error = fixture.store.get(&db, &VersionSelector::Latest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_write_is_neither_listed_nor_in_the_way() {
    let (fixture, db) = (Fixture::new(), name("db"));
    put(&fixture.store, &db, "a", PutSecretOptions::default()).await.unwrap();
    let left = fixture.root.join("secrets/.new");
    std::fs::write(&left, "half a rec").unwrap();
    assert_eq!(fixture.store.list(ListSecrets::default()).count().await, 1);
    assert_eq!(put(&fixture.store, &db, "b", PutSecretOptions::default()).await.unwrap(), (2, true));
    assert!(!left.exists());
}
