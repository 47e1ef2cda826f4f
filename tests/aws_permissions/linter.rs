//! parliament over the policies: resource types, formats of ARNs, condition keys and spelling, which moto does not
//! judge.

use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::calls::Scene;
use super::policy::{Policy, TRAINING_TASK, WEB_APPLICATION};

/// Findings that are not faults.
///
/// `ListTasks` has the resource type `container-instance`, and tasks on Fargate run on none: it is narrowed down by
/// the condition on the cluster.
const ACCEPTED: [(&str, &str); 1] = [("RESOURCE_STAR", "ecs:ListTasks")];

/// Faults, by what is replaced in the policy of the web application, and what has to be found for it.
const PLANTED: [(&str, &str, &str); 5] = [
    ("ecs:StopTask", "ecs:StopTasks", "UNKNOWN_ACTION"),
    (":task/", ":tasks/", "RESOURCE_MISMATCH"),
    (":secret:mmm-", ":secrets:mmm-", "RESOURCE_MISMATCH"),
    ("ecs:CreateAction", "ecs:cluster", "UNKNOWN_CONDITION_FOR_ACTION"),
    (":log-stream:*", "", "RESOURCE_MISMATCH"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for policy in [&WEB_APPLICATION, &TRAINING_TASK] {
        trials.push(trial(format!("{}::parliament_finds_nothing", policy.name), |program| nothing(program, policy)));
    }
    trials.push(trial("web_application::parliament_finds_what_is_planted".to_owned(), planted));
    trials
}

fn trial(name: String, run: impl FnOnce(&str) -> Result<(), Failed> + Send + 'static) -> Trial {
    match super::variable("ANYCLOUD_TEST_PARLIAMENT") {
        Ok(program) => Trial::test(name, move || run(&program)),
        Err(reason) => super::missing(name, reason),
    }
}

fn nothing(program: &str, policy: &Policy) -> Result<(), Failed> {
    let found = findings(program, &policy.filled(&Scene::named("example")).to_string());
    if found.is_empty() { Ok(()) } else { Err(Failed::from(format!("{found:#?}"))) }
}

fn planted(program: &str) -> Result<(), Failed> {
    let sound = WEB_APPLICATION.filled(&Scene::named("example")).to_string();
    for (part, fault, expected) in PLANTED {
        assert!(sound.contains(part), "the policy has no {part}");
        let found = findings(program, &sound.replace(part, fault));
        if !found.iter().any(|finding| finding["issue"] == expected) {
            return Err(Failed::from(format!(
                "{fault} for {part} should be {expected}, and this was found: {found:?}"
            )));
        }
    }
    Ok(())
}

fn findings(program: &str, policy: &str) -> Vec<Value> {
    let output = Command::new(program)
        .args(["--json", "--string", policy])
        .stdin(Stdio::null())
        .output()
        .expect("parliament can be started");
    // It ends with 1 where it finds anything.
    let text = String::from_utf8_lossy(&output.stdout);
    let findings: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a finding is JSON")).collect();
    assert_eq!(
        output.status.code(),
        Some(i32::from(!findings.is_empty())),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let accepted = |finding: &Value| {
        ACCEPTED.iter().any(|(issue, action)| finding["issue"] == *issue && finding["detail"] == json!([action]))
    };
    findings.into_iter().filter(|finding| !accepted(finding)).collect()
}
