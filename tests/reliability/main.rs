//! What the crate promises when the network, the server or the caller misbehaves, made to happen.
//!
//! Each trial is one lane, named for what it proves, and prints its counts. What needs a server that is not there is
//! skipped with the reason; with `ANYCLOUD_TEST_REQUIRE_ALL` set, that is a failure. A plan or history that fails
//! prints its seed, and `ANYCLOUD_TEST_SEED` plays it again; `ANYCLOUD_TEST_CELL` plays the cells of the matrix whose
//! name has this part. `ANYCLOUD_TEST_PLANS` and `ANYCLOUD_TEST_HISTORIES` set how many are played on each provider.

// The lanes choose their servers and seeds by the environment, and print counts.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod aws;
mod canaries;
mod containers;
mod deadlines;
mod dropping;
mod dropping_remote;
mod fault_matrix;
mod gcp;
mod healing;
mod histories;
mod history_lanes;
mod journal;
mod judge;
mod linearizability;
mod operation;
mod planted_bugs;
mod proxy;
mod scenarios;
mod sockets;
mod stage;
mod wire_scenarios;

use std::sync::LazyLock;
use std::time::Instant;

use anycloud::Provider;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use operation::Family;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime starts"));

fn trial<F>(name: &'static str, run: fn() -> F) -> Trial
where
    F: Future<Output = Result<(), Failed>> + 'static,
{
    Trial::test(name, move || timed(name, run()))
}

/// Runs a trial, and prints how long it takes.
fn timed(name: &str, run: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let begun = Instant::now();
    let ended = RUNTIME.block_on(run);
    println!("{name}: {:.1} s", begun.elapsed().as_secs_f32());
    ended
}

/// A trial that needs what a variable says, or one that says that it does not.
fn server<F>(variable: &'static str, name: &'static str, run: fn(String) -> F) -> Trial
where
    F: Future<Output = Result<(), Failed>> + 'static,
{
    match std::env::var(variable) {
        Ok(value) => Trial::test(name, move || timed(name, run(value))),
        Err(_) if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() => {
            Trial::test(name, move || Err(format!("{variable} is not set").into()))
        }
        Err(_) => {
            println!("{name}: skipped, {variable} is not set");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

/// A trial with the AWS clients, whose credentials, here made up, are found as everywhere. The server needs none.
fn aws<F>(name: &'static str, run: fn(String) -> F) -> Trial
where
    F: Future<Output = Result<(), Failed>> + 'static,
{
    server("AWS_ACCESS_KEY_ID", name, run)
}

/// The matrix of one family, and how many cells it has at least.
async fn matrix(provider: Provider, family: Family, least: usize) -> Result<(), Failed> {
    let tally = fault_matrix::run(provider, Some(family), "a value ", &|_| {}).await;
    tally.conclude(&format!("A, {provider:?}, {family:?}"), least)
}

async fn plans(provider: Provider) -> Result<(), Failed> {
    let seeds = histories::numbers("ANYCLOUD_TEST_PLANS", 250);
    let tally = fault_matrix::run_plans(provider, &seeds).await;
    tally.conclude(&format!("A, {provider:?}, plans of two and three faults"), seeds.len())
}

fn trials() -> Vec<Trial> {
    use Provider::{Aws, Gcp};
    let judge = || Trial::test("b_histories::the_judge_knows_right_from_wrong", linearizability::self_test);
    vec![
        trial("a_fault_matrix::gcp_objects_end_applied_not_applied_or_unknown", || matrix(Gcp, Family::Objects, 700)),
        trial("a_fault_matrix::gcp_secrets_end_applied_not_applied_or_unknown", || matrix(Gcp, Family::Secrets, 750)),
        trial("a_fault_matrix::gcp_jobs_end_applied_not_applied_or_unknown", || matrix(Gcp, Family::Jobs, 250)),
        aws("a_fault_matrix::aws_objects_end_applied_not_applied_or_unknown", |_| matrix(Aws, Family::Objects, 850)),
        aws("a_fault_matrix::aws_secrets_end_applied_not_applied_or_unknown", |_| matrix(Aws, Family::Secrets, 650)),
        aws("a_fault_matrix::aws_jobs_end_applied_not_applied_or_unknown", |_| matrix(Aws, Family::Jobs, 450)),
        trial("a_plans::gcp_ends_applied_not_applied_or_unknown", || plans(Gcp)),
        aws("a_plans::aws_ends_applied_not_applied_or_unknown", |_| plans(Aws)),
        trial("a_sockets::gcp_ends_applied_not_applied_or_unknown", sockets::emulator),
        server(
            "ANYCLOUD_TEST_LOCALSTACK",
            "a_sockets::localstack_ends_applied_not_applied_or_unknown",
            sockets::localstack,
        ),
        server("ANYCLOUD_TEST_FAKE_GCS", "a_sockets::fake_gcs_ends_applied_not_applied_or_unknown", sockets::fake_gcs),
        server("ANYCLOUD_TEST_MINISTACK", "a_sockets::containers_run_at_most_once", containers::run),
        judge(),
        trial("b_histories::local_objects_are_linearizable_though_calls_are_dropped", history_lanes::on_local),
        trial("b_histories::gcp_objects_are_linearizable_under_faults", history_lanes::on_gcp),
        aws("b_histories::aws_objects_are_linearizable_under_faults", |_| history_lanes::on_aws()),
        trial("b_planted_bugs::each_is_caught_within_50_histories", history_lanes::planted_bugs),
        trial("d_scenarios::each_ends_as_its_data_says", scenarios::run),
        trial("d_scenarios::what_google_cloud_says_ends_as_its_data_says", || wire_scenarios::run(Gcp, 90)),
        aws("d_scenarios::what_aws_says_ends_as_its_data_says", |_| wire_scenarios::run(Aws, 150)),
        Trial::test("e_canaries::no_secret_leaks_at_the_finest_level", canaries::run),
        Trial::test("e_memory::a_secret_is_wiped_when_nobody_holds_it", canaries::run_memory),
        trial("dropping::local_objects_stay_old_or_new", dropping::objects),
        trial("dropping::local_secrets_stay_old_or_new", dropping::secrets),
        trial("dropping::local_jobs_run_at_most_once", dropping::jobs),
        trial("dropping::gcp_stays_old_or_new", || dropping_remote::run(Gcp)),
        aws("dropping::aws_stays_old_or_new", |_| dropping_remote::run(Aws)),
        trial("deadlines::gcp_calls_end_in_their_time_though_each_answer_comes", || deadlines::run(Gcp)),
        aws("deadlines::aws_calls_end_in_their_time_though_each_answer_comes", |_| deadlines::run(Aws)),
        trial("healing::gcp_ends_within_three_pauses", || healing::run(Gcp)),
        aws("healing::aws_ends_within_three_pauses", |_| healing::run(Aws)),
    ]
}

fn main() {
    if canaries::is_child() {
        return canaries::child();
    }
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting.
    arguments.test_threads.get_or_insert(6);
    libtest_mimic::run(&arguments, trials()).exit();
}
