use std::time::{Duration, Instant};

use anycloud::gcp_emulator::FaultAction;
use anycloud::secret_store::{CreateSecretOptions, DeleteSecret, PutSecretOptions, SecretVersion};
use anycloud::{
    ErrorKind, SecretName, SecretStore as _, SecretStoreExt as _, SecretValue, SecretVersionId, VersionSelector,
    WriteId,
};
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;

use super::{World, status};

const ADD: &str = "secretmanager.projects.secrets.addVersion";
const ACCESS: &str = "secretmanager.projects.secrets.versions.access";
const CREATE: &str = "secretmanager.projects.secrets.create";
const PATCH: &str = "secretmanager.projects.secrets.patch";

fn name() -> SecretName {
    SecretName::new("db").expect("a name")
}

impl World {
    async fn versions(&self) -> Vec<SecretVersion> {
        self.secrets.list_versions(&name()).try_collect().await.expect("the versions can be listed")
    }

    async fn put(&self, value: &str) -> SecretVersionId {
        self.secrets.put_value(&name(), value).await.expect("the put succeeds").version
    }

    async fn latest(&self) -> String {
        self.secrets.get_latest(&name()).await.expect("readable").value.expose_str().expect("text").to_owned()
    }

    async fn create(&self, value: &str, write_id: &WriteId) -> Result<SecretVersionId, ErrorKind> {
        let options = CreateSecretOptions { write_id: Some(write_id.clone()), ..CreateSecretOptions::default() };
        self.secrets.create(&name(), value.into(), options).await.map_err(|error| error.kind())
    }

    async fn swap(&self, from: &SecretVersionId, value: &str, write_id: &WriteId) -> anycloud::Result<SecretVersionId> {
        let options = PutSecretOptions {
            if_current: Some(from.clone()),
            write_id: Some(write_id.clone()),
            ..PutSecretOptions::default()
        };
        self.secrets.put(&name(), SecretValue::from(value), options).await.map(|put| put.version)
    }
}

#[tokio::test]
async fn an_added_version_whose_answer_is_lost_is_found_and_not_added_again() {
    for fault in [FaultAction::LoseAnswer, FaultAction::Truncate { after_bytes: 5 }] {
        let world = World::new();
        world.put("one").await;
        world.fault(ADD, fault);
        assert_eq!(world.put("two").await.as_str(), "2");
        assert_eq!((world.versions().await.len(), world.calls(ADD)), (2, 2));
    }
}

#[tokio::test]
async fn a_version_that_was_not_added_is_sent_again_when_that_is_certain() {
    for fault in [FaultAction::Reset, status(500), status(503), status(504)] {
        let world = World::new();
        world.put("one").await;
        world.fault(ADD, fault.clone());
        assert_eq!(world.put("two").await.as_str(), "2", "{fault:?}");
        assert_eq!((world.versions().await.len(), world.calls(ADD)), (2, 3), "{fault:?}");
    }
}

#[tokio::test]
async fn a_creation_whose_answers_are_lost_succeeds_once() {
    let world = World::new();
    world.fault(CREATE, FaultAction::LoseAnswer);
    world.fault(ADD, FaultAction::LoseAnswer);
    assert_eq!(world.create("one", &WriteId::random()).await.expect("created").as_str(), "1");
    assert_eq!((world.latest().await.as_str(), world.versions().await.len()), ("one", 1));
}

#[tokio::test]
async fn being_asked_to_slow_down_is_obeyed() {
    let world = World::new();
    world.put("one").await;
    for (method, place) in [(ACCESS, "reading"), (ADD, "adding")] {
        world.fault(method, FaultAction::Status { code: 429, retry_after_seconds: Some(1) });
        let begun = Instant::now();
        world.put(place).await;
        assert!(begun.elapsed() >= Duration::from_secs(1), "{place}");
    }
    assert_eq!(world.versions().await.len(), 3);
}

#[tokio::test]
async fn reads_are_repeated_while_the_service_is_away() {
    let world = World::new();
    world.put("one").await;
    for fault in [FaultAction::Reset, FaultAction::LoseAnswer, status(503)] {
        world.fault(ACCESS, fault);
    }
    assert_eq!(world.latest().await, "one");
    for _ in 0..5 {
        world.fault(ACCESS, status(503));
    }
    let error = world.secrets.get_latest(&name()).await.expect_err("five failures");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false), "{error:?}");
}

#[tokio::test]
async fn a_denial_names_the_permission_and_is_not_repeated() {
    let world = World::new();
    world.put("one").await;
    world.fault(ACCESS, status(403));
    let error = world.secrets.get_latest(&name()).await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("secretmanager.versions.access"), "{error}");
}

#[tokio::test]
async fn of_racing_conditional_puts_exactly_one_wins() {
    let world = World::new();
    let one = world.put("one").await;
    let ids: Vec<_> = (0..6).map(|_| WriteId::random()).collect();
    // The winner takes its time, so that everybody else sees the version that they name.
    world.fault(ADD, FaultAction::Delay { millis: 500 });
    let racing = ids.iter().enumerate().map(|(number, id)| {
        let (world, one) = (&world, &one);
        async move { world.swap(one, &format!("racer {number}"), id).await }
    });
    let results = join_all(racing).await;
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().map_err(anycloud::Error::kind)).collect();
    assert_eq!(kinds.iter().filter(|result| result.is_ok()).count(), 1, "{kinds:?}");
    let losers = kinds.iter().filter(|result| **result == Err(ErrorKind::PreconditionFailed)).count();
    assert_eq!((losers, world.versions().await.len()), (5, 2), "{kinds:?}");
}

#[tokio::test]
async fn a_conditional_put_whose_answers_are_lost_is_made_once_and_can_be_repeated() {
    let world = World::new();
    let one = world.put("one").await;
    let id = WriteId::random();
    world.fault(PATCH, FaultAction::LoseAnswer);
    world.fault(ADD, FaultAction::LoseAnswer);
    let two = world.swap(&one, "two", &id).await.expect("the put succeeds");
    assert_eq!(world.swap(&one, "two", &id).await.expect("the same write"), two);
    let other = world.swap(&one, "two", &WriteId::random()).await.expect_err("another write");
    assert_eq!(other.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(world.versions().await.len(), 2);
}

#[tokio::test]
async fn a_creation_that_broke_off_leaves_nothing_that_counts_and_can_be_finished() {
    let world = World::new();
    let id = WriteId::random();
    world.fault(ADD, status(403));
    assert_eq!(world.create("one", &id).await, Err(ErrorKind::PermissionDenied));
    assert_eq!(world.secrets.get_latest(&name()).await.expect_err("absent").kind(), ErrorKind::NotFound);
    assert_eq!(world.secrets.describe(&name()).await.expect_err("absent").kind(), ErrorKind::NotFound);
    // Somebody else could be in the middle of the same.
    assert_eq!(world.create("two", &WriteId::random()).await, Err(ErrorKind::AlreadyExists));
    assert_eq!(world.create("one", &id).await.expect("finished").as_str(), "1");
    assert_eq!(world.create("one", &id).await.expect("the same write").as_str(), "1");
    assert_eq!(world.versions().await.len(), 1);
}

#[tokio::test]
async fn a_shell_of_another_tool_is_filled_by_creating_and_by_putting() {
    use google_cloud_secretmanager_v1::client::SecretManagerService;
    use google_cloud_secretmanager_v1::model::replication::Automatic;
    use google_cloud_secretmanager_v1::model::{Replication, Secret};
    let anonymous = google_cloud_auth::credentials::anonymous::Builder::new().build();
    for putting in [false, true] {
        let world = World::new();
        let builder = SecretManagerService::builder().with_endpoint(world.emulator.url());
        let google = builder.with_credentials(anonymous.clone()).build().await.expect("a client");
        let secret = Secret::new()
            .set_replication(Replication::new().set_automatic(Automatic::new()))
            .set_labels([("team", "a")]);
        let made = google.create_secret().set_parent("projects/p").set_secret_id("db").set_secret(secret);
        made.send().await.expect("a shell");
        let versions: Result<Vec<_>, _> = world.secrets.list_versions(&name()).try_collect().await;
        assert_eq!(versions.expect_err("absent").kind(), ErrorKind::NotFound);
        if putting {
            assert!(world.secrets.put_value(&name(), "one").await.expect("put").added);
        } else {
            world.create("one", &WriteId::random()).await.expect("created");
        }
        assert_eq!(world.latest().await, "one");
        assert_eq!(world.secrets.describe(&name()).await.expect("there").labels["team"], "a");
    }
}

#[tokio::test]
async fn a_deletion_whose_answer_is_lost_has_succeeded() {
    let world = World::new();
    world.put("one").await;
    world.fault("secretmanager.projects.secrets.delete", FaultAction::LoseAnswer);
    world.secrets.delete(&name(), DeleteSecret::Immediate).await.expect("deleted");
    let again = world.secrets.delete(&name(), DeleteSecret::Immediate).await.expect_err("absent");
    assert_eq!(again.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_newest_version_is_the_latest_also_when_it_is_destroyed() {
    let world = World::new();
    world.put("one").await;
    let two = world.put("two").await;
    world.secrets.destroy(&name(), &two).await.expect("destroyed");
    let latest = world.secrets.get_latest(&name()).await.expect_err("destroyed");
    assert_eq!(latest.kind(), ErrorKind::VersionDisabled);
    let enabled = world.secrets.get(&name(), &VersionSelector::LatestEnabled).await.expect("the first");
    assert_eq!(enabled.value.expose(), b"one");
    assert_eq!(world.put("one").await.as_str(), "3");
}

#[tokio::test]
async fn no_failure_of_any_call_shows_a_value() {
    const CANARY: &str = "canary-71b0e2";
    let encoded = "Y2FuYXJ5LTcxYjBlM";
    let world = World::new();
    let one = world.put("one").await;
    for code in [400, 401, 403, 404, 409, 412, 413, 500] {
        for method in [ADD, ACCESS, PATCH] {
            for _ in 0..6 {
                world.fault(method, status(code));
            }
            let put = world.secrets.put_value(&name(), CANARY).await;
            let swap = world.swap(&one, CANARY, &WriteId::random()).await;
            for error in [put.err(), swap.err()].into_iter().flatten() {
                let shown = format!("{error} {error:?} {:?}", world.secrets);
                assert!(!shown.contains(CANARY) && !shown.contains(encoded), "{shown}");
                assert!(std::error::Error::source(&error).is_none(), "{shown}");
            }
            world.emulator.clear_faults();
        }
    }
}
