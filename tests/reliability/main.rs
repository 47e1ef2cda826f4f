//! What the crate promises when the network, the server or the caller misbehaves, made to happen.
//!
//! Each trial is one lane, named for what it proves, and prints its counts. What needs a server that is not there is
//! skipped with the reason; with `ANYCLOUD_TEST_REQUIRE_ALL` set, that is a failure. A history that fails prints its
//! seed; `ANYCLOUD_TEST_SEED` plays it again, and `ANYCLOUD_TEST_HISTORIES` sets how many are played.

// The lanes choose their servers and seeds by the environment, and print counts.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod canaries;
mod dropping;
mod fault_matrix;
mod gcp;
mod histories;
mod judge;
mod linearizability;
mod operation;
mod planted_bugs;
mod proxy;
mod scenarios;
mod sockets;

use std::sync::{Arc, LazyLock};

use anycloud::gcp_emulator::{Fault, FaultAction};
use anycloud::{Cloud, Config, ObjectStore};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use operation::Family;
use planted_bugs::{BUGS, Planted};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime starts"));

fn matrix(family: Family) -> Result<(), Failed> {
    let tally = RUNTIME.block_on(fault_matrix::run(Some(family), "a value ", &|_| {}));
    tally.conclude(&format!("A, gcp, {family:?}"))
}

/// A server that the environment names, or a trial that says that it does not.
fn server<F>(variable: &'static str, name: &'static str, run: fn(String) -> F) -> Trial
where
    F: Future<Output = Result<(), Failed>> + 'static,
{
    match std::env::var(variable) {
        Ok(url) => Trial::test(name, move || RUNTIME.block_on(run(url))),
        Err(_) if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() => {
            Trial::test(name, move || Err(format!("{variable} is not set").into()))
        }
        Err(_) => {
            println!("{name}: skipped, {variable} is not set");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

fn local_stores(root: &std::path::Path) -> Result<Vec<Arc<dyn ObjectStore>>, anycloud::Error> {
    (0..histories::CLIENTS).map(|_| Ok(Cloud::connect(Config::local(root))?.objects().clone())).collect()
}

async fn local_histories() -> Result<(), Failed> {
    let root = histories::directory("histories");
    let stores = local_stores(&root)?;
    let (seeds, mut calls, mut unknown) = (histories::seeds(150), 0, 0);
    for seed in &seeds {
        let history = histories::play(&stores, *seed, true, None).await?;
        calls += history.entries.len();
        unknown += history.unknown();
        if !history.is_right() {
            return Err(format!("ANYCLOUD_TEST_SEED={seed}: {}", history.describe()).into());
        }
    }
    let _ = std::fs::remove_dir_all(root);
    println!("B, local: {} histories, {calls} calls judged, {unknown} of them unknown, 0 violations", seeds.len());
    if unknown == 0 { Err("no call was dropped".into()) } else { Ok(()) }
}

async fn gcp_histories() -> Result<(), Failed> {
    let seeds = histories::seeds(40);
    let names: Vec<String> = seeds.iter().map(|seed| format!("history-{seed}-end")).collect();
    let emulator = Arc::new(gcp::emulator(&names));
    let (mut calls, mut unknown) = (0, 0);
    for (seed, name) in seeds.iter().zip(&names) {
        let stores: Vec<_> =
            (0..histories::CLIENTS).filter_map(|_| gcp::clients(&gcp::config(emulator.url(), name)).objects).collect();
        let (server, scene) = (emulator.clone(), name.clone());
        let mischief: histories::Mischief = Arc::new(move |random| {
            let action = match random.u8(..40) {
                0 => FaultAction::Reset,
                1 => FaultAction::Status { code: 503, retry_after_seconds: None },
                2 => FaultAction::LoseAnswer,
                3 => FaultAction::Truncate { after_bytes: 5 },
                4 => FaultAction::Status { code: 429, retry_after_seconds: None },
                5 => FaultAction::Delay { millis: 3 },
                _ => return,
            };
            server.add_fault(Fault { path: Some(scene.clone()), ..Fault::next("*", action) });
        });
        let history = histories::play(&stores, *seed, true, Some(mischief)).await?;
        calls += history.entries.len();
        unknown += history.unknown();
        if !history.is_right() {
            return Err(format!("ANYCLOUD_TEST_SEED={seed}: {}", history.describe()).into());
        }
    }
    let faults = emulator.requests().iter().filter(|served| served.fault.is_some()).count();
    let count = seeds.len();
    println!(
        "B, gcp: {count} histories, {calls} calls judged, {unknown} unknown, {faults} faults injected, 0 violations"
    );
    Ok(())
}

async fn planted_bugs() -> Result<(), Failed> {
    let root = histories::directory("planted");
    let mut missed = Vec::new();
    for bug in BUGS {
        let inner = Cloud::connect(Config::local(root.join(format!("{bug:?}"))))?.objects().clone();
        let mut caught = None;
        for seed in 1..=50 {
            let planted: Arc<dyn ObjectStore> = Arc::new(Planted::new(inner.clone(), bug, seed));
            if !histories::play(&[planted], seed, false, None).await?.is_right() {
                caught = Some(seed);
                break;
            }
        }
        match caught {
            Some(seed) => println!("B′, {bug:?}: caught in history {seed}"),
            None => missed.push(bug),
        }
    }
    let _ = std::fs::remove_dir_all(root);
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught within 50 histories: {missed:?}").into()) }
}

fn main() {
    if canaries::is_child() {
        return canaries::child();
    }
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("a_fault_matrix::gcp_objects_end_applied_not_applied_or_unknown", || matrix(Family::Objects)),
        Trial::test("a_fault_matrix::gcp_secrets_end_applied_not_applied_or_unknown", || matrix(Family::Secrets)),
        Trial::test("a_fault_matrix::gcp_jobs_end_applied_not_applied_or_unknown", || matrix(Family::Jobs)),
        Trial::test("a_sockets::gcp_ends_applied_not_applied_or_unknown", || RUNTIME.block_on(sockets::emulator())),
        server(
            "ANYCLOUD_TEST_LOCALSTACK",
            "a_sockets::localstack_ends_applied_not_applied_or_unknown",
            sockets::localstack,
        ),
        server("ANYCLOUD_TEST_FAKE_GCS", "a_sockets::fake_gcs_ends_applied_not_applied_or_unknown", sockets::fake_gcs),
        Trial::test("b_histories::the_judge_knows_right_from_wrong", linearizability::self_test),
        Trial::test("b_histories::local_objects_are_linearizable_though_calls_are_dropped", || {
            RUNTIME.block_on(local_histories())
        }),
        Trial::test("b_histories::gcp_objects_are_linearizable_under_faults", || RUNTIME.block_on(gcp_histories())),
        Trial::test("b_planted_bugs::each_is_caught_within_50_histories", || RUNTIME.block_on(planted_bugs())),
        Trial::test("d_scenarios::each_ends_as_its_data_says", || RUNTIME.block_on(scenarios::run())),
        Trial::test("e_canaries::no_secret_leaks_at_the_finest_level", canaries::run),
        Trial::test("dropping::local_objects_stay_old_or_new", || RUNTIME.block_on(dropping::objects())),
        Trial::test("dropping::local_secrets_stay_old_or_new", || RUNTIME.block_on(dropping::secrets())),
        Trial::test("dropping::local_jobs_run_at_most_once", || RUNTIME.block_on(dropping::jobs())),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
