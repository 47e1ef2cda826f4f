//! A call to a provider that is dropped at any of its await points leaves the old or the new state, whole (I26).

use std::time::Duration;

use anycloud::Provider;
use libtest_mimic::Failed;

use crate::dropping::poll_times;
use crate::fault_matrix::{Usual, usual};
use crate::gcp;
use crate::judge::Tally;
use crate::operation::{Family, Truth};
use crate::stage::{Stage, names};

/// So many drops of an operation at most: the later ones are further apart.
const SCENES: usize = 60;
/// What is on its way when its caller goes may arrive: it gets this long.
const TO_ARRIVE: Duration = Duration::from_millis(20);

/// After how many polls the calls are dropped.
fn moments() -> impl Iterator<Item = usize> {
    (0..30).chain((30..).step_by(7))
}

/// Drops a call after ever more polls, until it ends before that.
async fn drop_everywhere(provider: Provider, one: &Usual) -> Result<(usize, Vec<String>), anycloud::Error> {
    let operation = one.operation;
    let names = names(SCENES);
    let stage = Stage::start(provider, &names, &gcp::policy()).await;
    let (mut dropped, mut problems) = (0, Vec::new());
    for (name, polls) in names.iter().zip(moments()) {
        let scene = stage.scene(name, "a value ");
        (operation.prepare)(&scene).await?;
        let ended = poll_times(polls, (operation.act)(&scene)).await;
        tokio::time::sleep(TO_ARRIVE).await;
        let truth = operation.truth.expect("it changes something")(&scene).await?;
        if let Truth::Broken(what) = &truth {
            problems.push(format!("{:?} {} dropped after {polls} polls: {what}", operation.family, operation.name));
        }
        match ended {
            Some(ended) => {
                ended?;
                break;
            }
            None => dropped += 1,
        }
        // The same call once more, as a caller would make it that was ended in the middle.
        if operation.family == Family::Jobs && operation.name == "run" {
            (operation.act)(&scene).await?;
            let truth = operation.truth.expect("it changes something")(&scene).await?;
            if truth != Truth::Applied {
                problems.push(format!("run again after {polls} polls: {truth:?}"));
            }
        }
    }
    if operation.name == "upload_create" {
        let scene = stage.scene(&names[0], "a value ");
        let objects = scene.clean.objects.as_ref().expect("the family is there");
        objects.abort_stale_uploads(Duration::ZERO).await?;
        let left = objects.abort_stale_uploads(Duration::ZERO).await?;
        if left.aborted > 0 {
            problems.push(format!("parts are left after the sweep: {left:?}"));
        }
    }
    Ok((dropped, problems))
}

pub(crate) async fn run(provider: Provider) -> Result<(), Failed> {
    let mut tally = Tally::default();
    let usual = usual(provider, None, "a value ", &mut tally).await;
    let changes: Vec<_> =
        usual.iter().filter(|one| one.operation.truth.is_some() && !one.operation.is_large()).collect();
    let mut drops = 0;
    for one in &changes {
        let (dropped, problems) = drop_everywhere(provider, one).await?;
        drops += dropped;
        tally.problems.extend(problems);
        if dropped == 0 {
            tally.problems.push(format!("{} is never dropped", one.operation.name));
        }
    }
    println!("dropping, {provider:?}: {} operations, {drops} drops, {} problems", changes.len(), tally.problems.len());
    if tally.problems.is_empty() { Ok(()) } else { Err(tally.problems.join("\n").into()) }
}
