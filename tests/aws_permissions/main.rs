//! Proves the policies of `docs/iam/`: with exactly such a policy every operation that it is for is allowed, and
//! without any one of its actions or statements just those fail that need it, by the right kind and naming it.
//!
//! The judge is moto with its IAM enforcement on, which is a setting of the whole server: the trials run one after
//! another. What moto cannot judge is in [`gaps`]; parliament, a static linter, covers the resources and conditions.
//!
//! Credentials come from the SDK's default chain only, so that every trial makes its calls in a process of its own.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod calls;
mod gaps;
mod guide;
mod linter;
mod moto;
mod operations;
mod policy;

use std::collections::BTreeSet;

use libtest_mimic::{Arguments, Failed, Trial};

use self::calls::{End, Scene};
use self::moto::Moto;
use self::operations::Operation;
use self::policy::{Policy, TRAINING_TASK, WEB_APPLICATION};

fn main() {
    if let Some(scene) = Scene::of_this_process() {
        return calls::make(&scene);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for policy in [&WEB_APPLICATION, &TRAINING_TASK] {
        trials.extend(enforced(policy));
    }
    trials.extend(linter::trials());
    trials.push(guide::trial());
    libtest_mimic::run(&arguments, trials).exit();
}

/// The trials of one policy.
fn enforced(policy: &'static Policy) -> Vec<Trial> {
    let mut trials = vec![trial(format!("{}::what_it_is_for_is_allowed_and_nothing_else", policy.name), move |moto| {
        judge(policy, moto, &BTreeSet::new(), |_| true)
    })];
    for action in policy.actions() {
        let name = format!("{}::without_{action}_just_what_needs_it_is_denied", policy.name);
        trials.push(trial(name, move |moto| {
            judge(policy, moto, &BTreeSet::from([action.clone()]), |(_, given)| *given != action)
        }));
    }
    for (sid, actions) in policy.statements() {
        let name = format!("{}::without_the_statement_{sid}_just_what_needs_it_is_denied", policy.name);
        trials.push(trial(name, move |moto| judge(policy, moto, &actions, |(statement, _)| *statement != sid)));
    }
    trials
}

fn trial(name: String, run: impl FnOnce(&Moto) -> Result<(), Failed> + Send + 'static) -> Trial {
    match variable("ANYCLOUD_TEST_MOTO") {
        Ok(address) => Trial::test(name, move || run(&Moto::new(&address))),
        Err(reason) => missing(name, reason),
    }
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}

/// A trial without its judge: ignored, or a failure where all have to run.
fn missing(name: String, reason: String) -> Trial {
    if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() {
        return Trial::test(name, move || Err(Failed::from(reason)));
    }
    println!("skipped, because {reason}: {name}");
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}

/// Makes every call with what `keep` leaves of the policy, and compares what became of each with what the lack of the
/// `removed` actions should do to it.
fn judge(
    policy: &Policy,
    moto: &Moto,
    removed: &BTreeSet<String>,
    keep: impl Fn((&str, &str)) -> bool,
) -> Result<(), Failed> {
    let scene = moto.prepare();
    let ends = moto.with_only(&policy.for_moto(&scene, keep), &scene);
    let given: BTreeSet<String> = policy.actions().into_iter().filter(|action| !removed.contains(action)).collect();
    let mut wrong = Vec::new();
    for operation in operations::all() {
        let end = ends.get(operation.name).cloned().unwrap_or(End::Failed("it was not run".to_owned()));
        if let Some(problem) = disagreement(policy, operation, &given, removed, &end) {
            wrong.push(format!("{}: {problem}", operation.name));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failed::from(wrong.join("\n"))) }
}

fn disagreement(
    policy: &Policy,
    operation: &Operation,
    given: &BTreeSet<String>,
    removed: &BTreeSet<String>,
    end: &End,
) -> Option<String> {
    let enforced: Vec<&str> = operation.needs.iter().copied().filter(|need| gaps::enforced(need)).collect();
    let lacking: Vec<&str> = enforced.iter().copied().filter(|need| !given.contains(*need)).collect();
    let meant = policy.is_for(operation.name);
    let by_removal = lacking.iter().any(|need| removed.contains(*need));
    match end {
        End::Allowed if lacking.is_empty() => None,
        End::Allowed => Some(format!("allowed without {lacking:?}")),
        End::Denied(_) if lacking.is_empty() => Some(format!("denied with all that it needs: {end:?}")),
        End::Denied(_) if meant && !by_removal => Some(format!("the policy is for it and lacks {lacking:?}")),
        End::Denied(message) if !names_one_not_in(given, message) => {
            Some(format!("the denial names nothing that lacks, such as {lacking:?}: {message}"))
        }
        End::Denied(_) => None,
        End::Failed(error) => Some(format!("failed otherwise: {error}")),
    }
}

/// Whether a message names an action that is not given. Which one of several is the operation's affair.
fn names_one_not_in(given: &BTreeSet<String>, message: &str) -> bool {
    WEB_APPLICATION.actions().iter().any(|action| !given.contains(action) && message.contains(action))
}
