//! One key, several processes: runners that share nothing but the cloud.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anycloud::gcp::{CloudRunRunner, GcsStore};
use anycloud::gcp_emulator::{Fault, FaultAction};
use anycloud::job_runner::SubmissionId;
use anycloud::{ErrorKind, IdempotencyKey, JobRunner as _, ObjectKey, ObjectStore as _, PutOptions};
use futures_util::future::join_all;

use super::job::{RUN, keyed};
use super::{World, job, status};

const INSERT: &str = "storage.objects.insert";

fn claim_key(key: &IdempotencyKey) -> ObjectKey {
    let submission = SubmissionId::of(&job("sh"), key, 1);
    ObjectKey::new(format!("anycloud/jobs/{submission}/claim.json")).expect("a key")
}

impl World {
    /// What a process leaves that took the claim and died.
    async fn leave_claim(&self, key: &IdempotencyKey, until: SystemTime) {
        let until = until.duration_since(UNIX_EPOCH).expect("a moment of our time").as_secs();
        let record = serde_json::json!({"holder": "gone", "fingerprint": "other", "until": until});
        let written = self.exchange.put(&claim_key(key), record.to_string().into(), PutOptions::default()).await;
        written.expect("the exchange can be written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_submit_one_key_at_the_same_moment_start_one_execution() {
    let world = World::new();
    for round in 1..=5 {
        let key = IdempotencyKey::random();
        // Whoever is first is not there yet when the others look.
        world.fault(RUN, FaultAction::Delay { millis: 300 });
        let runners: Vec<_> = (0..4).map(|_| world.another_runner()).collect();
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(runners.len()));
        let racing = runners.into_iter().map(|runner| {
            let (barrier, request) = (barrier.clone(), keyed(&key, "exit 0"));
            tokio::spawn(async move {
                barrier.wait().await;
                runner.run(&job("sh"), request).await
            })
        });
        let begun: Vec<_> = join_all(racing).await.into_iter().map(|one| one.expect("no panic")).collect();
        let ids: Vec<_> = begun.into_iter().map(|one| one.expect("taken").id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!((world.executions().await.len(), world.calls(RUN)), (round, round));
    }
}

#[tokio::test]
async fn a_claim_whose_holder_died_is_taken_over_and_no_earlier() {
    let mut world = World::new();
    world.config.retry.call_timeout = Duration::from_secs(2);
    let key = IdempotencyKey::random();
    let runner = world.another_runner();
    world.leave_claim(&key, SystemTime::now()).await;
    let begun = Instant::now();
    let request = keyed(&key, "exit 0");
    let error = runner.run(&job("sh"), request.clone()).await.expect_err("another request has the key");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    let held = world.another_runner();
    world.fault(RUN, FaultAction::Reset);
    world.exchange.delete(&claim_key(&key), Default::default()).await.expect("deleted");
    assert!(held.run(&job("sh"), request.clone()).await.expect_err("unknown").is_indeterminate());
    let error = runner.run(&job("sh"), request.clone()).await.expect_err("the holder may still be at it");
    assert!(error.kind() == ErrorKind::Conflict && error.is_retryable(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(world.executions().await.len(), 0);
    // Two minutes after the holder's last moment it is anybody's.
    world.leave_claim(&key, SystemTime::now() - Duration::from_secs(125)).await;
    runner.run(&job("sh"), request).await.expect("taken over");
    assert_eq!(world.executions().await.len(), 1);
}

#[tokio::test]
async fn a_run_that_is_turned_away_leaves_the_key_to_others_at_once() {
    let world = World::new();
    let key = IdempotencyKey::random();
    world.fault(RUN, status(403));
    let denied = world.jobs.run(&job("sh"), keyed(&key, "exit 0")).await.expect_err("denied");
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    world.another_runner().run(&job("sh"), keyed(&key, "exit 0")).await.expect("taken");
    assert_eq!(world.executions().await.len(), 1);
}

#[tokio::test]
async fn a_call_after_one_that_was_dropped_waits_for_what_is_on_its_way() {
    let world = World::new();
    let key = IdempotencyKey::random();
    world.fault(RUN, FaultAction::Delay { millis: 2000 });
    let (runner, request) = (world.jobs.clone(), keyed(&key, "exit 0"));
    let dropped = tokio::spawn(async move { runner.run(&job("sh"), request).await });
    let claim = claim_key(&key);
    let begun = Instant::now();
    while world.exchange.get(&claim, Default::default()).await.is_err() && begun.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The run follows its claim at once, and arrives although nobody waits for it any more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    dropped.abort();
    let again = world.jobs.run(&job("sh"), keyed(&key, "exit 0")).await.expect("taken");
    let ids: Vec<_> = world.executions().await.into_iter().map(|one| one.id).collect();
    assert_eq!(ids, [again.id]);
}

#[tokio::test]
async fn a_claim_that_is_lost_again_and_again_ends_in_a_conflict() {
    let mut world = World::new();
    world.config.retry.call_timeout = Duration::from_secs(2);
    let exchange = Arc::new(GcsStore::new(&world.config).expect("no network is needed"));
    let runner = CloudRunRunner::new(&world.config, exchange).expect("no network is needed");
    // Somebody has it whenever it is asked for, and nobody whenever it is looked at.
    world.emulator.add_fault(Fault { times: u32::MAX, ..Fault::next(INSERT, status(412)) });
    let key = IdempotencyKey::random();
    let ended = tokio::time::timeout(Duration::from_secs(20), runner.run(&job("sh"), keyed(&key, "exit 0"))).await;
    let error = ended.expect("it ends").expect_err("never ours");
    assert!(error.kind() == ErrorKind::Conflict && error.is_retryable(), "{error}");
    assert!((1..=8).contains(&world.calls(INSERT)), "{} calls", world.calls(INSERT));
}
