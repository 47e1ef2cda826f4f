//! Runs the conformance suite: one named trial per case and backend.
//!
//! A backend that cannot be reached shows as ignored; with `ANYCLOUD_TEST_REQUIRE_ALL` set, that is a failure.
#![allow(clippy::disallowed_methods, reason = "the environment says where the backends are")]
#![allow(clippy::print_stdout, reason = "known gaps are told")]

#[cfg(feature = "aws")]
mod aws;
mod gaps;
#[cfg(all(feature = "gcp", feature = "gcp-emulator"))]
mod gcp;
#[cfg(feature = "local")]
mod local;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use anycloud::conformance::{job_runner, object_store, secret_store};
use anycloud::{JobName, JobRunner, ObjectStore, SecretStore};
use futures_util::FutureExt as _;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// Shared by all trials, so that clients and their connections are.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime starts"));

/// What a backend offers to test, or why it cannot.
type Offer<T> = Result<T, String>;

struct Jobs {
    runner: Arc<dyn JobRunner>,
    job: JobName,
    broken: JobName,
}

struct Backend {
    name: &'static str,
    objects: Option<Offer<Arc<dyn ObjectStore>>>,
    secrets: Option<Offer<Arc<dyn SecretStore>>>,
    jobs: Option<Offer<Jobs>>,
}

impl Backend {
    fn trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for (case, offer) in offered(object_store::cases(), self.objects.as_ref()) {
            let offer = offer.clone();
            trials.push(trial(self.name, "object_store", case.name(), offer, async move |store| {
                case.run(object_store::Fixture::new(store)).await;
            }));
        }
        for (case, offer) in offered(secret_store::cases(), self.secrets.as_ref()) {
            let offer = offer.clone();
            trials.push(trial(self.name, "secret_store", case.name(), offer, async move |store| {
                case.run(secret_store::Fixture::new(store)).await;
            }));
        }
        for (case, offer) in offered(job_runner::cases(), self.jobs.as_ref()) {
            let offer = match offer {
                Ok(Jobs { runner, job, broken }) => {
                    Ok(job_runner::Fixture::new(runner.clone(), job.clone(), broken.clone()))
                }
                Err(reason) => Err(reason.clone()),
            };
            trials.push(trial(self.name, "job_runner", case.name(), offer, async move |fixture| {
                case.run(fixture).await;
            }));
        }
        trials
    }
}

/// Every case with the offer, unless the backend has no such family.
fn offered<C, T>(cases: Vec<C>, offer: Option<&Offer<T>>) -> Vec<(C, &Offer<T>)> {
    offer.map(|offer| cases.into_iter().map(|case| (case, offer)).collect()).unwrap_or_default()
}

fn trial<T, F, Fut>(backend: &str, family: &str, case: &str, offer: Offer<T>, run: F) -> Trial
where
    T: Send + 'static,
    F: FnOnce(T) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let name = format!("{backend}::{family}::{case}");
    let gap = gaps::reason(&name);
    match offer {
        Ok(subject) => Trial::test(name, move || judge(run(subject), gap)),
        Err(reason) if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() => {
            Trial::test(name, move || Err(Failed::from(reason)))
        }
        Err(_) => Trial::test(name, || Ok(())).with_ignored_flag(true),
    }
}

/// Runs a case. One that is known to fail, for a gap of an emulator, must fail.
fn judge(case: impl Future<Output = ()>, gap: Option<&'static str>) -> Result<(), Failed> {
    let outcome = RUNTIME.block_on(AssertUnwindSafe(case).catch_unwind());
    match (outcome, gap) {
        (Ok(()), None) => Ok(()),
        (Err(_), Some(gap)) => {
            println!("fails as expected: {gap}");
            Ok(())
        }
        (Ok(()), Some(gap)) => Err(Failed::from(format!("passes now; remove the known gap: {gap}"))),
        (Err(panic), None) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Failed::from(text.unwrap_or_else(|| "the case panicked".to_owned())))
        }
    }
}

fn main() {
    #[cfg(feature = "local")]
    if local::is_child() {
        return local::child();
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    #[cfg(feature = "local")]
    {
        let local = RUNTIME.block_on(local::backend());
        trials.extend(local.trials());
        trials.push(local::processes());
    }
    #[cfg(feature = "aws")]
    trials.extend(RUNTIME.block_on(aws::backend()).trials());
    #[cfg(all(feature = "gcp", feature = "gcp-emulator"))]
    for backend in RUNTIME.block_on(gcp::backends()) {
        trials.extend(backend.trials());
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    #[cfg(feature = "local")]
    local::clean();
    #[cfg(all(feature = "gcp", feature = "gcp-emulator"))]
    {
        let violations = gcp::violations();
        if !violations.is_empty() {
            println!("requests or answers that do not conform to Google's discovery documents:");
            violations.iter().for_each(|violation| println!("- {violation}"));
            std::process::exit(101);
        }
    }
    conclusion.exit();
}
