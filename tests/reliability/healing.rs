//! When the connection is back, pending work ends within three pauses (I28).

use std::time::{Duration, Instant};

use anycloud::retry::RetryPolicy;
use anycloud::{ErrorKind, Provider};
use futures_util::future::join_all;
use libtest_mimic::Failed;

use crate::fault_matrix::usual;
use crate::gcp;
use crate::judge::Tally;
use crate::operation::Truth;
use crate::stage::{Stage, names};

const OUTAGE: Duration = Duration::from_millis(1500);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Tries as long as there is time.
fn policy() -> RetryPolicy {
    RetryPolicy { max_attempts: u32::MAX, max_backoff: LONGEST_PAUSE, budget: u32::MAX, ..gcp::policy() }
}

pub(crate) async fn run(provider: Provider) -> Result<(), Failed> {
    let mut tally = Tally::default();
    let mut usual = usual(provider, None, "a value ", &mut tally).await;
    usual.retain(|one| !one.operation.is_large());
    let names = names(2 * usual.len());
    let stage = Stage::start(provider, &names, &policy()).await;
    let scenes: Vec<_> = names.iter().map(|name| stage.scene(name, "a value ")).collect();
    let (healthy, ill) = scenes.split_at(usual.len());
    for (one, scene) in usual.iter().cycle().zip(&scenes) {
        (one.operation.prepare)(scene).await?;
    }
    let act = |scenes| {
        let acts = usual.iter().zip(scenes).map(|(one, scene)| async move {
            let verdict = (one.operation.act)(scene).await;
            (verdict, Instant::now())
        });
        join_all(acts)
    };
    let begun = Instant::now();
    act(healthy).await;
    // What all of them take together on this machine when nothing is in the way, and twice that for its moods.
    let allowed = 3 * LONGEST_PAUSE + 3 * begun.elapsed();
    stage.break_off();
    let healing = async {
        tokio::time::sleep(OUTAGE).await;
        stage.heal();
        Instant::now()
    };
    let (ends, healed) = tokio::join!(act(ill), healing);
    let (mut waited, mut unknown) = (0, 0);
    for ((one, scene), (verdict, ended)) in usual.iter().zip(ill).zip(ends) {
        let name = one.operation.name;
        let late = ended.saturating_duration_since(healed);
        waited += usize::from(ended > healed);
        match verdict {
            Ok(_) if late <= allowed => {}
            Ok(_) => tally.problems.push(format!("{name} ends {late:?} after the outage, and not within {allowed:?}")),
            // What must not be sent twice does not wait for better times, only for what becomes of it.
            Err(error) if error.kind() == ErrorKind::Indeterminate => unknown += 1,
            Err(error) => tally.problems.push(format!("{name} outlives the outage, and fails: {error}")),
        }
        if let Some(truth) = one.operation.truth
            && let Truth::Broken(what) = truth(scene).await?
        {
            tally.problems.push(format!("{name}: {what}"));
        }
    }
    println!("healing, {provider:?}: {} operations, {waited} end after the outage, {unknown} unknown", usual.len());
    if waited < usual.len() / 2 {
        tally.problems.push("most operations did not meet the outage".to_owned());
    }
    if tally.problems.is_empty() { Ok(()) } else { Err(tally.problems.join("\n").into()) }
}
