//! A call of many requests ends at its one deadline, though no single request takes too long.

use std::time::{Duration, Instant};

use anycloud::Provider;
use anycloud::retry::RetryPolicy;
use futures_util::future::join_all;
use libtest_mimic::Failed;

use crate::fault_matrix::{Usual, usual};
use crate::gcp;
use crate::judge::Tally;
use crate::operation::Truth;
use crate::stage::{Stage, names};

/// Less than an attempt may take, and more than a half of a call.
const LATE: Duration = Duration::from_millis(1400);
/// What this machine may take beside the waiting, while other trials run. A call of three requests without a deadline
/// would take longer still.
const MOODS: Duration = Duration::from_millis(1500);

fn policy() -> RetryPolicy {
    let (attempt_timeout, call_timeout) = (Duration::from_millis(1800), Duration::from_secs(2));
    RetryPolicy { attempt_timeout, call_timeout, budget: u32::MAX, ..gcp::policy() }
}

/// Listings have the time of a call for each page, uploads for each part and large reads for each range.
fn is_one_call(usual: &Usual) -> bool {
    let of_steps = ["list", "abort_stale", "upload", "put_large", "get_large"];
    !of_steps.iter().any(|start| usual.operation.name.starts_with(start))
}

pub(crate) async fn run(provider: Provider) -> Result<(), Failed> {
    let mut tally = Tally::default();
    let usual: Vec<_> =
        usual(provider, None, "a value ", &mut tally).await.into_iter().filter(|one| is_one_call(one)).collect();
    let names = names(usual.len());
    let stage = Stage::start(provider, &names, &policy()).await;
    let scenes: Vec<_> = names.iter().map(|name| stage.scene(name, "a value ")).collect();
    for (one, scene) in usual.iter().zip(&scenes) {
        (one.operation.prepare)(scene).await?;
    }
    for scene in &scenes {
        stage.slow_down(&scene.name, LATE);
    }
    let acts = usual.iter().zip(&scenes).map(|(one, scene)| async move {
        let begun = Instant::now();
        ((one.operation.act)(scene).await, begun.elapsed())
    });
    let ends = join_all(acts).await;
    // What is on its way arrives.
    tokio::time::sleep(2 * LATE).await;
    stage.heal();
    let (mut cut, mut longest) = (0, Duration::ZERO);
    for ((one, scene), (verdict, took)) in usual.iter().zip(&scenes).zip(ends) {
        let name = format!("{provider:?} {:?} {}", one.operation.family, one.operation.name);
        let requests: usize = one.requests.values().sum();
        // The time of a cleanup comes after that of the call, where there is something to take back.
        let cleanup = if verdict.is_err() { policy().attempt_timeout } else { Duration::ZERO };
        let cleans_up = ["run", "run_without_key", "put_if_current"].contains(&one.operation.name);
        let allowed = policy().call_timeout + if cleans_up { cleanup } else { Duration::ZERO } + MOODS;
        if took > allowed {
            tally.problems.push(format!("{name} takes {took:?} with {requests} requests, of {allowed:?} allowed"));
        }
        longest = longest.max(took);
        cut += usize::from(verdict.is_err());
        let Some(truth) = one.operation.truth else { continue };
        match (verdict, truth(scene).await?) {
            (Ok(_), Truth::Applied) | (Err(_), Truth::NotApplied) => {}
            (Err(error), _) if error.kind() == anycloud::ErrorKind::Indeterminate => {}
            (verdict, truth) => tally.problems.push(format!("{name} ends as {verdict:?}, and the truth is {truth:?}")),
        }
    }
    println!("deadlines, {provider:?}: {} operations, {cut} cut short, the longest took {longest:?}", usual.len());
    if cut < 5 {
        tally.problems.push("hardly any operation met its deadline".to_owned());
    }
    if tally.problems.is_empty() { Ok(()) } else { Err(tally.problems.join("\n").into()) }
}
