//! Why a task did not start, read from its reason: ECS has no code for it. The texts are listed at
//! [stopped task errors](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html),
//! and those that pass are the ones that
//! [Dagster retries](https://github.com/dagster-io/dagster/blob/master/python_modules/libraries/dagster-aws/dagster_aws/ecs/launcher.py).

use crate::job_runner::StartFailure;

/// Whether a reason speaks of a start that failed.
pub(super) fn is_one(reason: &str) -> bool {
    let starts = ["CannotPullContainer", "CannotStartContainer", "CannotCreateContainer", "ResourceInitialization"];
    starts.iter().any(|start| reason.contains(start))
}

/// What was in the way, and whether it may pass.
pub(super) fn classify(reason: &str) -> (StartFailure, bool) {
    let text = reason.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let passes = says(&[
        "i/o timeout",
        "eof",
        "timed out",
        "timeout exceeded",
        "deadline exceeded",
        "connection reset",
        "connection refused",
        "connection issue",
        "tls handshake",
        "request canceled",
        "requestcanceled",
        "toomanyrequests",
        "rate limit",
        "throttl",
        "service unavailable",
        "internal server error",
    ]);
    if says(&["capacity is unavailable", "resource:", "insufficient capacity"]) {
        return (StartFailure::Capacity, true);
    }
    if says(&["network interface", "eni ", "security group", "subnet"]) {
        // AuthFailure while a network interface is made passes; a subnet that is not there does not.
        let gone = says(&["not found", "does not exist", "invalidsubnet", "invalidgroup"]);
        return (StartFailure::Network, !gone);
    }
    if says(&["retrieve secret", "secretsmanager", "secrets manager", "getsecretvalue", "ssm", "parameter store"]) {
        // Without a route to Secrets Manager it never passes, but the text is the same as of a short break.
        return if passes { (StartFailure::Network, true) } else { (StartFailure::Secret, false) };
    }
    if says(&["cannotpullcontainer", "pull image", "pull registry auth", "registry auth", "pull access denied"]) {
        return (StartFailure::Image, passes);
    }
    if says(&["unable to assume", "accessdenied", "access denied", "not authorized"]) {
        return (StartFailure::Permission, false);
    }
    if says(&["logging driver", "logger args", "log group", "log stream"]) {
        return (StartFailure::Other, passes);
    }
    if says(&["executable file not found", "no such file or directory", "exec format error", "permission denied"])
        || says(&["cannotstartcontainer"])
    {
        return (StartFailure::Command, passes);
    }
    let hiccup = says(&["runtimetimeouterror", "dockertimeouterror", "internalerror", "ephemeral storage"]);
    (StartFailure::Other, passes || hiccup)
}
