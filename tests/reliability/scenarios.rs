//! Lane D: retry scenarios as data, Google's own for Cloud Storage and ours for all families, on the emulator.

use std::collections::BTreeMap;

use anycloud::gcp_emulator::{Emulator, Fault, FaultAction};
use futures_util::StreamExt as _;
use libtest_mimic::Failed;
use serde::Deserialize;

use crate::operation::{Operation, Truth, operations};
use crate::{fault_matrix, gcp, stage};

/// Scenarios at once: most of one is waiting.
const AT_ONCE: usize = 16;
/// Google's and ours.
const LEAST: usize = 69;
const OURS: &str = include_str!("retry_scenarios.json");
const GOOGLES: &str = include_str!("google_retry_tests.json");

#[derive(Deserialize)]
struct Scenario {
    name: String,
    family: String,
    operation: String,
    faults: Vec<Fault>,
    /// `done`, or the anchor of the error's kind.
    end: String,
    /// How often a method may be sent, at most.
    #[serde(default)]
    sends: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Googles {
    #[serde(rename = "retryTests")]
    tests: Vec<GoogleTest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoogleTest {
    id: u32,
    cases: Vec<Vec<String>>,
    methods: Vec<String>,
    precondition_provided: bool,
    expect_success: bool,
}

pub(crate) fn operation(family: &str, name: &str) -> Operation {
    *operations()
        .find(|operation| format!("{:?}", operation.family) == family && operation.name == name)
        .unwrap_or_else(|| panic!("no operation {family} {name}"))
}

/// How one of Google's methods is reached here.
fn ours(method: &str, test: &GoogleTest) -> &'static str {
    match (method.trim_start_matches("storage.objects."), test.precondition_provided) {
        ("insert", _) if test.id == 7 => "upload_create",
        ("get", _) if test.id == 8 => "get",
        ("get", _) => "head",
        ("list", _) => "list",
        ("delete", true) => "delete_if_match",
        ("delete", false) => "delete",
        ("insert", true) => "put_create",
        ("insert", false) => "put_over",
        ("rewrite", true) => "copy_create",
        ("rewrite", false) => "copy",
        (method, _) => panic!("no operation for {method}"),
    }
}

/// Google's words for a fault.
fn action(instruction: &str) -> FaultAction {
    let words: Vec<&str> = instruction.split('-').collect();
    let bytes = |text: &str| text.trim_end_matches('K').parse::<usize>().expect("KiB") * 1024;
    match words[..] {
        ["return", "reset", "connection"] => FaultAction::Reset,
        ["return", "broken", "stream"] => FaultAction::Truncate { after_bytes: 10 },
        ["return", "broken", "stream", "after", size] => FaultAction::Truncate { after_bytes: bytes(size) },
        ["return", _, "after", size] => FaultAction::BreakAfter { bytes: bytes(size) },
        ["return", code] => FaultAction::Status { code: code.parse().expect("a status"), retry_after_seconds: None },
        _ => panic!("no fault for {instruction}"),
    }
}

fn scenarios() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = serde_json::from_str(OURS).expect("our scenarios are well formed");
    let googles: Googles = serde_json::from_str(GOOGLES).expect("Google's scenarios are well formed");
    for test in &googles.tests {
        for (method, case) in test.methods.iter().flat_map(|method| test.cases.iter().map(move |case| (method, case))) {
            let refusal = case.iter().find_map(|word| match word.as_str() {
                "return-400" => Some("invalid-input"),
                "return-401" => Some("unauthenticated"),
                _ => None,
            });
            // Google's clients leave a write without a precondition alone. Ours repeat it, because every write here
            // carries its id and its whole content: the third test ends well.
            let done = test.expect_success || test.id == 3;
            let end = if done { "done" } else { refusal.expect("a failure that is expected has its reason") };
            let http = (test.id == 7).then(|| "PUT".to_owned());
            let fault = |(skip, word): (usize, &String)| Fault {
                http: http.clone(),
                skip: u32::try_from(skip).expect("few"),
                // Bodies are read through the XML API, whose answers carry their checksum.
                ..Fault::next(if test.id == 8 { "xml.objects.get" } else { method }, action(word))
            };
            all.push(Scenario {
                name: format!("Google's test {}, {method}, {case:?}", test.id),
                family: "Objects".to_owned(),
                operation: ours(method, test).to_owned(),
                faults: case.iter().enumerate().map(fault).collect(),
                end: end.to_owned(),
                sends: BTreeMap::new(),
            });
        }
    }
    all
}

async fn play(scenario: &Scenario, name: &str, emulator: &Emulator) -> Result<Vec<String>, anycloud::Error> {
    let _turn = fault_matrix::turn().await;
    let scene = gcp::scene(emulator.url(), name, "a value ", &gcp::policy());
    let operation = operation(&scenario.family, &scenario.operation);
    (operation.prepare)(&scene).await?;
    let of_scene = || emulator.requests().into_iter().filter(|served| served.path.contains(name));
    let before = of_scene().count();
    for fault in &scenario.faults {
        emulator.add_fault(Fault { path: Some(name.to_owned()), ..fault.clone() });
    }
    let verdict = (operation.act)(&scene).await;
    emulator.clear_faults_of(name);
    let mut problems = Vec::new();
    let end = verdict.as_ref().map_or_else(|error| error.kind().anchor(), |_| "done");
    // A refusal after an attempt whose answer was lost says nothing of that attempt.
    let honest = end == "indeterminate" && scenario.end != "done";
    if end != scenario.end && !honest {
        problems.push(format!("ends {end} ({:?})", verdict.err()));
    }
    let served: Vec<_> = of_scene().skip(before).collect();
    let injected = served.iter().filter(|one| one.fault.is_some()).count();
    if injected < scenario.faults.len() {
        problems.push(format!("{injected} of {} faults happened", scenario.faults.len()));
    }
    for (method, most) in &scenario.sends {
        let sends = served.iter().filter(|one| one.method == *method).count();
        if sends > *most {
            problems.push(format!("{method} is sent {sends} times"));
        }
    }
    if let Some(truth) = operation.truth {
        let truth = truth(&scene).await?;
        let is_false = end != "indeterminate" && (end == "done") != (truth == Truth::Applied);
        if matches!(truth, Truth::Broken(_)) || is_false {
            problems.push(format!("ends {end}, and the server holds {truth:?}"));
        }
    }
    Ok(problems)
}

pub(crate) async fn run() -> Result<(), Failed> {
    let scenarios = scenarios();
    let names = stage::names(scenarios.len());
    let emulator = gcp::emulator(&names);
    let played = futures_util::stream::iter(scenarios.iter().zip(&names)).map(|(scenario, name)| {
        let emulator = &emulator;
        async move { (scenario, play(scenario, name, emulator).await) }
    });
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
    let (cells, mut problems) = (played.len(), Vec::new());
    for (scenario, found) in played {
        problems.extend(found?.into_iter().map(|problem| format!("{}: {problem}", scenario.name)));
    }
    if cells < LEAST {
        problems.push(format!("only {cells} of {LEAST} cells were played"));
    }
    println!(
        "D, scenarios: {cells} cells, {} of them Google's",
        cells - serde_json::from_str::<Vec<Scenario>>(OURS).map_or(0, |ours| ours.len())
    );
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}
