//! Where cells are played: a server in this process with many scenes, whose faults do not meet one another.

use std::collections::BTreeMap;
use std::time::Duration;

use anycloud::gcp_emulator::{self, Emulator, FaultAction};
use anycloud::retry::RetryPolicy;
use anycloud::{ErrorKind, Provider};

use crate::judge::Class;
use crate::operation::Scene;
use crate::proxy::{SocketFault, stall_of};
use crate::{aws, gcp};

/// What happens to a request, in the words of the server that does it.
#[derive(Clone, Debug)]
pub(crate) enum Injury {
    Emulated(FaultAction),
    Proxied(SocketFault),
}

/// What can happen to a request, and what that amounts to.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) injury: Injury,
    pub(crate) class: Class,
    /// Whether it can happen to this request.
    pub(crate) fits: fn(&str) -> bool,
}

pub(crate) enum Stage {
    Gcp(Emulator, RetryPolicy),
    Aws(aws::Server),
}

/// The names of so many scenes.
pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("scene-{number}-end")).collect()
}

impl Stage {
    pub(crate) async fn start(provider: Provider, names: &[String], policy: &RetryPolicy) -> Self {
        match provider {
            Provider::Gcp => Self::Gcp(gcp::emulator(names), policy.clone()),
            _ => Self::Aws(aws::Server::start(policy.clone()).await),
        }
    }

    pub(crate) fn scene(&self, name: &str, canary: &str) -> Scene {
        match self {
            Self::Gcp(emulator, policy) => gcp::scene(emulator.url(), name, canary, policy),
            Self::Aws(server) => server.scene(name, canary),
        }
    }

    /// The so-manieth request of this name in the scene, from 0, meets the fault.
    pub(crate) fn arm(&self, scene: &str, request: &str, skip: usize, injury: &Injury) {
        match (self, injury) {
            (Self::Gcp(emulator, _), Injury::Emulated(action)) => {
                let (http, method) = request.split_once(' ').expect("a verb and a method");
                emulator.add_fault(gcp_emulator::Fault {
                    http: Some(http.to_owned()),
                    path: Some(scene.to_owned()),
                    skip: u32::try_from(skip).expect("few"),
                    ..gcp_emulator::Fault::next(method, action.clone())
                });
            }
            (Self::Aws(server), Injury::Proxied(fault)) => server.faulted.plan(scene, request, skip, *fault),
            _ => unreachable!("a server is given its own faults"),
        }
    }

    /// How often each request of a scene was sent so far.
    pub(crate) fn sent(&self, scene: &str) -> BTreeMap<String, usize> {
        match self {
            Self::Gcp(emulator, _) => {
                let mut counts = BTreeMap::new();
                for served in emulator.requests().into_iter().filter(|served| served.path.contains(scene)) {
                    *counts.entry(format!("{} {}", served.http, served.method)).or_default() += 1;
                }
                counts
            }
            Self::Aws(server) => server.faulted.sent(scene),
        }
    }

    /// Waits until so many requests of the scene have met their faults: what stalls arrives when nobody waits for it.
    pub(crate) async fn settle(&self, scene: &str, faults: usize) {
        for _ in 0..200 {
            if self.injected(scene) >= faults {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets arrive what was held back, and what happens from now on happen undisturbed.
    pub(crate) async fn release(&self, scene: &str) {
        match self {
            Self::Gcp(emulator, _) => emulator.clear_faults_of(scene),
            Self::Aws(server) => server.faulted.release(scene).await,
        }
    }

    /// So many requests of the scene have met a fault.
    pub(crate) fn injected(&self, scene: &str) -> usize {
        match self {
            Self::Gcp(emulator, _) => {
                let served = emulator.requests().into_iter().filter(|served| served.path.contains(scene));
                served.filter(|served| served.fault.is_some()).count()
            }
            Self::Aws(server) => server.faulted.injected(scene),
        }
    }

    /// From now on every connection is reset.
    pub(crate) fn break_off(&self) {
        match self {
            Self::Gcp(emulator, _) => emulator.add_fault(gcp_emulator::Fault {
                times: u32::MAX,
                ..gcp_emulator::Fault::next("*", FaultAction::Reset)
            }),
            Self::Aws(server) => server.faulted.break_off(),
        }
    }

    /// From now on every answer in the scene, or on AWS in any, is late by so much.
    pub(crate) fn slow_down(&self, scene: &str, by: Duration) {
        match self {
            Self::Gcp(emulator, _) => emulator.add_fault(gcp_emulator::Fault {
                times: u32::MAX,
                path: Some(scene.to_owned()),
                ..gcp_emulator::Fault::next(
                    "*",
                    FaultAction::Delay { millis: u64::try_from(by.as_millis()).expect("it fits") },
                )
            }),
            Self::Aws(server) => server.faulted.slow_down(by),
        }
    }

    pub(crate) fn heal(&self) {
        match self {
            Self::Gcp(emulator, _) => emulator.clear_faults(),
            Self::Aws(server) => server.faulted.heal(),
        }
    }
}

pub(crate) fn faults(provider: Provider, policy: &RetryPolicy) -> Vec<Fault> {
    match provider {
        Provider::Gcp => emulated(policy),
        _ => proxied(),
    }
}

fn emulated(policy: &RetryPolicy) -> Vec<Fault> {
    let status = |code| FaultAction::Status { code, retry_after_seconds: None };
    let millis = u64::try_from(stall_of(policy).as_millis()).expect("it fits");
    let all = [
        ("reset", FaultAction::Reset, Class::Before),
        ("500", status(500), Class::Before),
        ("502", status(502), Class::Before),
        ("503", status(503), Class::Before),
        ("504", status(504), Class::Before),
        ("408", status(408), Class::Before),
        ("429", FaultAction::Status { code: 429, retry_after_seconds: Some(0) }, Class::Before),
        ("stall", FaultAction::Delay { millis }, Class::After),
        ("slow", FaultAction::Delay { millis: 60 }, Class::After),
        ("lose answer", FaultAction::LoseAnswer, Class::After),
        ("cut at once", FaultAction::Truncate { after_bytes: 0 }, Class::After),
        ("cut early", FaultAction::Truncate { after_bytes: 9 }, Class::After),
        ("400", status(400), Class::Permanent(ErrorKind::InvalidInput)),
        ("401", status(401), Class::Permanent(ErrorKind::Unauthenticated)),
        ("403", status(403), Class::Permanent(ErrorKind::PermissionDenied)),
    ];
    let fault = |(name, action, class)| Fault { name, injury: Injury::Emulated(action), class, fits: |_| true };
    all.into_iter().map(fault).collect()
}

fn any(_: &str) -> bool {
    true
}

/// The answer to a HEAD has no body, and so no code of an error.
fn with_body(request: &str) -> bool {
    !request.starts_with("Head")
}

fn of_ecs(request: &str) -> bool {
    request.starts_with("AmazonEC2ContainerService")
}

fn of_s3(request: &str) -> bool {
    !request.starts_with("secretsmanager") && !of_ecs(request) && with_body(request)
}

fn in_json(request: &str) -> bool {
    of_secrets(request) || of_ecs(request)
}

fn of_secrets(request: &str) -> bool {
    request.starts_with("secretsmanager")
}

/// There a refusal of what was asked also means that somebody else has moved the label, and it is asked again.
fn of_secrets_but_labels(request: &str) -> bool {
    of_secrets(request) && !request.ends_with("UpdateSecretVersionStage")
}

/// S3 begins to answer these before it has done them:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
fn begins_early(request: &str) -> bool {
    matches!(request, "CopyObject" | "CompleteMultipartUpload")
}

fn writes(request: &str) -> bool {
    matches!(request, "PutObject" | "UploadPart")
}

fn reads(request: &str) -> bool {
    request == "GetObject"
}

/// A name, what happens, what that amounts to, and whether it can happen to a request of this label.
type Row = (&'static str, SocketFault, Class, fn(&str) -> bool);

/// Codes by <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html> and
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>.
fn proxied() -> Vec<Fault> {
    use SocketFault::{
        CloseAnswer, CutAnswer, CutBefore, CutMid, FlipAnswer, FlipRequest, LateDuplicate, LoseAnswer, Slow, Stall,
        StallAnswer, Status,
    };
    let permanent = Class::Permanent;
    let all: [Row; 24] = [
        ("reset", CutBefore, Class::Before, any),
        ("cut mid", CutMid, Class::Before, any),
        ("500", Status(500, "InternalError"), Class::Before, any),
        ("503", Status(503, "SlowDown"), Class::Before, any),
        ("409", Status(409, "ConditionalRequestConflict"), Class::Before, writes),
        ("200 error", Status(200, "InternalError"), Class::Before, begins_early),
        ("timeout", Status(400, "RequestTimeout"), Class::Before, of_s3),
        ("throttled", Status(400, "ThrottlingException"), Class::Before, in_json),
        ("stall", Stall, Class::Before, any),
        ("stall answer", StallAnswer, Class::After, any),
        ("slow", Slow, Class::After, any),
        ("lose answer", LoseAnswer, Class::After, any),
        ("close answer", CloseAnswer, Class::After, any),
        ("cut answer", CutAnswer, Class::After, any),
        ("late duplicate", LateDuplicate, Class::After, any),
        ("flip answer", FlipAnswer, Class::After, reads),
        ("flip request", FlipRequest, Class::Before, writes),
        ("400", Status(400, "InvalidArgument"), permanent(ErrorKind::InvalidInput), of_s3),
        ("400", Status(400, "ValidationException"), permanent(ErrorKind::InvalidInput), of_secrets_but_labels),
        ("expired", Status(400, "ExpiredToken"), permanent(ErrorKind::Unauthenticated), of_s3),
        ("400", Status(400, "InvalidParameterException"), permanent(ErrorKind::InvalidConfig), of_ecs),
        ("expired", Status(400, "ExpiredTokenException"), permanent(ErrorKind::Unauthenticated), in_json),
        ("403", Status(403, "AccessDenied"), permanent(ErrorKind::PermissionDenied), of_s3),
        ("403", Status(403, "AccessDeniedException"), permanent(ErrorKind::PermissionDenied), in_json),
    ];
    let fault = |(name, fault, class, fits)| Fault { name, injury: Injury::Proxied(fault), class, fits };
    all.into_iter().map(fault).collect()
}
