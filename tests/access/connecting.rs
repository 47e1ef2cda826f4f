//! To connect is to read settings: nobody is asked anything before the first call.

use std::process::Command;

use anycloud::Cloud;

#[test]
#[ignore = "started by others with an environment"]
fn clouds_are_made() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // On a runtime, which anything that wanted to ask would need, and given time to be scheduled.
    runtime.block_on(async {
        let cloud = Cloud::from_env().expect("the settings are complete");
        let _ = format!("{cloud:?}");
        let _ = (cloud.objects().capabilities(), cloud.secrets().capabilities(), cloud.jobs().capabilities());
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    });
}

#[test]
#[ignore = "started by others with an environment"]
fn a_connection_is_made() {
    let _ = std::net::TcpStream::connect("127.0.0.1:9");
}

/// The calls to open and connect sockets that a test of this program makes in an environment of its own.
fn sockets(test: &str, environment: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=socket,connect,sendto", "-e", "signal=none"]).arg(own);
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    if let Some(path) = std::env::var_os("PATH") {
        command.env_clear().env("PATH", path);
    }
    let output = command.envs(environment.iter().copied()).output().map_err(|error| format!("strace: {error}"))?;
    let (told, traced) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || !told.contains("1 passed") {
        return Err(format!("{told}{traced}"));
    }
    let call = |line: &&str| ["socket(", "connect(", "sendto("].iter().any(|name| line.contains(name));
    Ok(traced.lines().filter(call).map(str::to_owned).collect())
}

#[test]
fn a_cloud_of_real_settings_is_made_without_a_call_to_anybody() {
    match sockets("connecting::a_connection_is_made", &[]) {
        Ok(calls) => assert!(!calls.is_empty(), "a connection is seen"),
        Err(reason) if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() => panic!("{reason}"),
        Err(reason) => return println!("skipped, {reason}"),
    }
    let environments: [&[(&str, &str)]; 4] = [
        &[("CLOUD_PROVIDER", "aws"), ("ANYCLOUD_BUCKET", "b"), ("AWS_REGION", "us-east-1")],
        // Who knows neither region nor project asks for them when they are needed.
        &[("CLOUD_PROVIDER", "aws"), ("ANYCLOUD_BUCKET", "b")],
        &[("CLOUD_PROVIDER", "gcp"), ("ANYCLOUD_BUCKET", "b"), ("GOOGLE_CLOUD_PROJECT", "p")],
        &[("CLOUD_PROVIDER", "gcp"), ("ANYCLOUD_BUCKET", "b")],
    ];
    for environment in environments {
        let calls = sockets("connecting::clouds_are_made", environment).expect("the clouds are made");
        assert_eq!(calls, Vec::<String>::new(), "{environment:?}");
    }
}
