//! Lane A at the finest level: every operation and every request of it on both clouds, each fault once.

use anycloud::Provider;
use anycloud::gcp_emulator::{Emulator, Fault, FaultAction};

use super::calls::{use_jobs, use_secrets};
use super::canary::VALUE;
use super::search::{Place, inspect, search};
use crate::operation::Family;
use crate::{RUNTIME, fault_matrix, gcp};

const MATRICES: [(Provider, Family); 5] = [
    (Provider::Aws, Family::Objects),
    (Provider::Aws, Family::Secrets),
    (Provider::Gcp, Family::Objects),
    (Provider::Gcp, Family::Secrets),
    (Provider::Gcp, Family::Jobs),
];

fn play((provider, family): (Provider, Family)) -> usize {
    let tally = RUNTIME.block_on(fault_matrix::run_first_attempts(provider, family, VALUE, &inspect));
    for problem in &tally.problems {
        search(Place::DebugForm, problem);
    }
    println!("E, {provider:?}, {family:?}: {} cells, {} faults injected", tally.cells, tally.faults);
    tally.cells
}

/// The process that is searched. It learns of nothing afterwards.
pub(crate) fn child() -> usize {
    let cells: usize = std::thread::scope(|scope| {
        let played = MATRICES.map(|matrix| scope.spawn(move || play(matrix)));
        played.into_iter().map(|played| played.join().expect("it does not panic")).sum()
    });
    assert!(cells >= 1000 || std::env::var_os("ANYCLOUD_TEST_CELL").is_some(), "{cells} cells are few");
    RUNTIME.block_on(emulator());
    0
}

/// What Google Cloud's emulator keeps of the requests that it served, and what it says of ones that are wrong.
async fn emulator() {
    let emulator: Emulator = gcp::emulator(&["scene-0-end".to_owned()]);
    let clients = gcp::clients(&gcp::config(emulator.url(), "scene-0-end"));
    let secrets = clients.secrets.expect("it has secrets");
    use_secrets(&secrets).await;
    for method in ["secretmanager.projects.secrets.addVersion", "secretmanager.projects.secrets.versions.access"] {
        emulator.add_fault(Fault { times: 20, ..Fault::next(method, FaultAction::Truncate { after_bytes: 40 }) });
    }
    use_secrets(&secrets).await;
    use_jobs(&clients.jobs.expect("it has jobs"), "quick").await;
    let served = emulator.requests();
    assert!(served.len() > 60, "{} requests", served.len());
    search(Place::RequestLog, format!("{served:?} {:?} {emulator:?}", emulator.violations()));
    search(Place::RequestLog, serde_json::to_string(&served).expect("it can be written"));
}
