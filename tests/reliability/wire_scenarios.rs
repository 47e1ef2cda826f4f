//! Lane D, on the wire: what a service says or does to a request, in its own words, and how the call ends, as data.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anycloud::Provider;
use anycloud::gcp_emulator::Emulator;
use anycloud::retry::RetryPolicy;
use futures_util::StreamExt as _;
use libtest_mimic::Failed;
use serde::Deserialize;

use crate::operation::{Scene, Truth};
use crate::proxy::{Extra, Proxy, Said, SocketFault, Upstream, stall_of};
use crate::scenarios::operation;
use crate::{aws, fault_matrix, gcp, stage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    provider: String,
    family: String,
    operation: String,
    /// The request that meets it, as the proxy calls it.
    request: String,
    /// What happens to the first such requests: a status, its code, and what else is said; or what becomes of the
    /// connection. `×9` is nine times.
    meets: Vec<String>,
    /// `done`, or the anchor of the error's kind.
    end: String,
    /// How often the request is sent.
    sends: usize,
    /// How long the call takes at least, in milliseconds.
    #[serde(default)]
    waits: u64,
}

static SCENARIOS: LazyLock<Vec<Scenario>> =
    LazyLock::new(|| serde_json::from_str(include_str!("wire_scenarios.json")).expect("the scenarios are well formed"));

/// Scenarios at once: most of one is waiting.
const AT_ONCE: usize = 16;

/// What the words mean, and how often.
fn faults(words: &'static str) -> (SocketFault, usize) {
    let (words, times) = match words.split_once(" ×") {
        Some((words, times)) => (words, times.parse().expect("a number")),
        None => (words, 1),
    };
    let fault = match words {
        "reset" => SocketFault::CutBefore,
        "lose answer" => SocketFault::LoseAnswer,
        "cut answer" => SocketFault::CutAnswer,
        "close" => SocketFault::CloseAnswer,
        "late duplicate" => SocketFault::LateDuplicate,
        "stall" => SocketFault::Stall,
        "stall answer" => SocketFault::StallAnswer,
        _ => SocketFault::Say(said(words)),
    };
    (fault, times)
}

/// A status, a code, and one thing more that an answer may say.
fn said(words: &'static str) -> Said {
    let mut words = words.splitn(3, ' ');
    let status = words.next().and_then(|status| status.parse().ok()).expect("a status");
    let code = words.next().unwrap_or("");
    let extra = match words.next().map(|word| word.split_once('=').unwrap_or((word, ""))) {
        None => Extra::Nothing,
        Some(("retry-after", seconds)) => Extra::RetryAfter(seconds.parse().expect("seconds")),
        Some(("retry-after-date", seconds)) => Extra::RetryAfterDate(seconds.parse().expect("seconds")),
        Some(("location", _)) => Extra::Location,
        Some((message, _)) => Extra::Message(message),
    };
    Said { status, code, extra }
}

/// The clients of a scenario, its proxy, and the server behind it.
enum Server {
    Aws(aws::Server),
    Gcp(Emulator, Proxy),
}

impl Server {
    fn proxy(&self) -> &Proxy {
        match self {
            Self::Aws(server) => &server.faulted,
            Self::Gcp(_, proxy) => proxy,
        }
    }

    fn scene(&self, name: &str, policy: &RetryPolicy) -> Scene {
        match self {
            Self::Aws(server) => server.scene(name, "a value "),
            Self::Gcp(emulator, proxy) => {
                let faulted = gcp::scene(&proxy.url, name, "a value ", policy);
                let clean = gcp::scene(emulator.url(), name, "a value ", policy);
                Scene { clean: clean.clean, ..faulted }
            }
        }
    }
}

/// Pauses are short, but where a longer one is asked for.
fn policy(longest: Duration) -> RetryPolicy {
    RetryPolicy { max_backoff: longest, ..gcp::policy() }
}

async fn play(server: &Server, scenario: &'static Scenario, name: &str, policy: &RetryPolicy) -> Vec<String> {
    let _turn = fault_matrix::turn().await;
    let scene = server.scene(name, policy);
    let operation = operation(&scenario.family, &scenario.operation);
    if let Err(error) = (operation.prepare)(&scene).await {
        return vec![format!("it cannot be prepared: {error}")];
    }
    let proxy = server.proxy();
    let count = |sent: BTreeMap<String, usize>| sent.get(&scenario.request).copied().unwrap_or_default();
    let before = count(proxy.sent(name));
    for (fault, times) in scenario.meets.iter().map(|words| faults(words)) {
        (0..times).for_each(|_| proxy.plan(name, &scenario.request, 0, fault));
    }
    let begun = Instant::now();
    let verdict = (operation.act)(&scene).await;
    let took = begun.elapsed();
    let sends = count(proxy.sent(name)) - before;
    proxy.release(name).await;
    let mut problems = Vec::new();
    let end = verdict.as_ref().map_or_else(|error| error.kind().anchor(), |_| "done");
    if end != scenario.end {
        problems.push(format!("ends {end}, and not {} ({:?})", scenario.end, verdict.err()));
    }
    let least = scenario.meets.iter().map(|words| faults(words).1.min(scenario.sends)).sum::<usize>();
    if proxy.injected(name) < least.min(scenario.sends) {
        problems.push(format!("met {} faults, and not {least}", proxy.injected(name)));
    }
    if sends != scenario.sends {
        let seen = proxy.sent(name);
        problems.push(format!("is sent {sends} times, and not {}; in all {seen:?}", scenario.sends));
    }
    if took < Duration::from_millis(scenario.waits) {
        problems.push(format!("takes {took:?}, and not {} ms", scenario.waits));
    }
    match operation.truth {
        None => {}
        Some(truth) => match truth(&scene).await {
            Ok(Truth::Broken(what)) => problems.push(what),
            Ok(truth) if end != "indeterminate" && (end == "done") != (truth == Truth::Applied) => {
                problems.push(format!("ends {end}, and the server holds {truth:?}"));
            }
            Ok(_) => {}
            Err(error) => problems.push(format!("the clean client failed: {error}")),
        },
    }
    problems
}

async fn play_all(provider: Provider, wanted: &str, longest: Duration, waits: fn(u64) -> bool) -> (usize, Vec<String>) {
    let mine: Vec<_> = SCENARIOS.iter().filter(|one| one.provider == wanted && waits(one.waits)).collect();
    let (names, policy) = (stage::names(mine.len()), policy(longest));
    let server = match provider {
        Provider::Gcp => {
            let emulator = gcp::emulator(&names);
            let upstream = Upstream::At(emulator.url().trim_start_matches("http://").to_owned());
            let proxy = Proxy::start(upstream, stall_of(&policy)).await;
            Server::Gcp(emulator, proxy)
        }
        _ => Server::Aws(aws::Server::start(policy.clone()).await),
    };
    let played = futures_util::stream::iter(mine.iter().zip(&names)).map(|(scenario, name)| {
        let (server, policy) = (&server, &policy);
        async move { (scenario, play(server, scenario, name, policy).await) }
    });
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
    let mut problems = Vec::new();
    for (scenario, found) in played {
        let Scenario { provider, family, operation, request, meets, .. } = scenario;
        let name = format!("{provider} {family} {operation}: {request} meets {meets:?}");
        problems.extend(found.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    (mine.len(), problems)
}

pub(crate) async fn run(provider: Provider, least: usize) -> Result<(), Failed> {
    let wanted = if provider == Provider::Gcp { "gcp" } else { "aws" };
    let (short, long) = (gcp::policy().max_backoff, Duration::from_secs(3));
    let ((quick, mut problems), (slow, more)) = tokio::join!(
        play_all(provider, wanted, short, |waits| waits == 0),
        play_all(provider, wanted, long, |waits| waits > 0),
    );
    problems.extend(more);
    println!("D, on the wire, {wanted}: {} cells, {} problems", quick + slow, problems.len());
    if quick + slow < least {
        problems.push(format!("only {} of {least} cells were played", quick + slow));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}
