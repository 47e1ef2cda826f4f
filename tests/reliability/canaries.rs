//! Lane E: no secret leaves through a log, an error or a panic, whatever fails, at the finest level of every crate.
//!
//! The search happens in a process of its own, which gets canaries as credentials and has its output read.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use anycloud::secret_store::{PutSecretOptions, SecretStore};
use anycloud::{Cloud, Config, Error, Provider, SecretName, VersionSelector};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use libtest_mimic::Failed;

use crate::operation::Family;
use crate::proxy::{Proxy, Upstream};
use crate::{RUNTIME, fault_matrix, gcp, histories, sockets};

/// Tells a process that it is the one that is searched.
const CHILD: &str = "ANYCLOUD_TEST_CANARIES";
/// A secret's value begins with this.
const VALUE: &str = "kAnArY0Value1Z2x3C4v5B6n7M8q9";
const ACCESS_KEY: &str = "AKIAKANARYKEY0123456";
const SECRET_KEY: &str = "kAnArY0SecretKey9y8X7w6V5u4T3s2R1q0P";
const SESSION_TOKEN: &str = "kAnArY0SessionToken1a2S3d4F5g6H7j8K9l";

/// A form in which a canary may appear.
struct Form {
    name: String,
    text: String,
}

fn joined(bytes: &[u8], each: impl Fn(u8) -> String, between: &str) -> String {
    bytes.iter().map(|byte| each(*byte)).collect::<Vec<_>>().join(between)
}

fn forms_of(what: &str, canary: &str) -> Vec<Form> {
    let bytes = canary.as_bytes();
    let mut forms = vec![
        ("raw", canary.to_owned()),
        ("hex", joined(bytes, |byte| format!("{byte:02x}"), "")),
        ("upper-case hex", joined(bytes, |byte| format!("{byte:02X}"), "")),
        ("percent", joined(bytes, |byte| format!("%{byte:02X}"), "")),
        ("JSON escapes", joined(bytes, |byte| format!("\\u{byte:04x}"), "")),
        ("list of numbers", joined(bytes, |byte| byte.to_string(), ", ")),
    ];
    // Base64 of a text that holds the canary at any place: what does not depend on the neighbours.
    for before in 0..3 {
        let padded = [&b"???"[..before], bytes].concat();
        let encoded = STANDARD.encode(&padded[..padded.len() / 3 * 3]);
        forms.push(("base64", encoded[if before == 0 { 0 } else { 4 }..].to_owned()));
    }
    forms.into_iter().map(|(name, text)| Form { name: format!("{what}, {name}"), text }).collect()
}

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    [("a secret's value", VALUE), ("the secret key", SECRET_KEY), ("the session token", SESSION_TOKEN)]
        .into_iter()
        .flat_map(|(what, canary)| forms_of(what, canary))
        .collect()
});

static BYTES: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);
static HITS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn search(place: &str, text: &str) {
    BYTES.fetch_add(text.len() as u64, Ordering::Relaxed);
    for form in FORMS.iter().filter(|form| text.contains(&form.text)) {
        let shown: String = text.chars().take(160).collect();
        HITS.lock().expect("no panic before").push(format!("{} in {place}: {shown}", form.name));
    }
}

/// Searches what a log line holds, and keeps nothing.
struct Searching;

impl io::Write for Searching {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        search("the log", &String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn inspect(error: &Error) {
    ERRORS.fetch_add(1, Ordering::Relaxed);
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n{}", error.help_url());
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, "\n{cause}\n{cause:?}");
        source = cause.source();
    }
    search("an error", &text);
}

/// What a store does with secrets, in success and failure; the answers are those of whoever is behind it.
async fn use_secrets(store: &dyn SecretStore) {
    let name = SecretName::new("canary").expect("a name");
    let value = || anycloud::SecretValue::from(VALUE);
    let shown = format!("{:?} {:?}", value(), store);
    search("a debug form", &shown);
    let version = anycloud::SecretVersionId::new("11111111-2222-3333-4444-555555555555").expect("an id");
    for round in 0..2 {
        let other = anycloud::SecretValue::from(format!("{VALUE}{round}").as_str());
        let options = PutSecretOptions { if_current: Some(version.clone()), ..Default::default() };
        let results = [
            store.create(&name, value(), Default::default()).await.map(drop),
            store.put(&name, other.clone(), Default::default()).await.map(drop),
            store.put(&name, other, options).await.map(drop),
            store
                .get(&name, &VersionSelector::Latest)
                .await
                .map(|secret| search("a debug form", &format!("{secret:?}"))),
            store.promote(&name, &version).await.map(drop),
            store.describe(&name).await.map(drop),
            store.list_versions(&name).try_collect::<Vec<_>>().await.map(drop),
        ];
        results.iter().filter_map(|result| result.as_ref().err()).for_each(inspect);
    }
}

/// Answers of Secrets Manager: those that hold a value, and refusals that quote the request.
async fn aws() {
    let success = format!(
        r#"{{"ARN":"arn:aws:secretsmanager:us-east-1:1:secret:canary","Name":"canary","VersionId":"11111111-2222-3333-4444-555555555555","SecretString":"{VALUE}","VersionStages":["AWSCURRENT"],"CreatedDate":1}}"#
    );
    let refusal =
        |kind: &str| format!(r#"{{"__type":"{kind}","message":"the value {VALUE} is refused","Message":"{VALUE}"}}"#);
    let answers = [
        (200, success.clone()),
        (200, success[..60].to_owned()),
        (400, refusal("InvalidParameterException")),
        (400, refusal("ValidationException")),
        (400, refusal("ResourceExistsException")),
        (400, refusal("AccessDeniedException")),
        (500, refusal("InternalServiceError")),
        (503, format!("<html>{VALUE}</html>")),
    ];
    let proxy = Proxy::start(Upstream::At("127.0.0.1:9".to_owned()), Duration::ZERO).await;
    for (status, body) in &answers {
        proxy.always(*status, body);
        let mut config = sockets::aws_config(&proxy.url, "");
        config.retry.max_attempts = 2;
        let cloud = Cloud::connect(config).expect("no network is needed");
        use_secrets(cloud.secrets().as_ref()).await;
    }
    let sent = proxy.seen().len();
    println!("E, aws: {sent} requests to Secrets Manager, {} answers", answers.len());
    assert!(sent >= answers.len() * 4, "the calls reach the server");
}

async fn local() {
    let root = histories::directory("canaries");
    let cloud = Cloud::connect(Config::local(&root)).expect("the local provider needs nothing");
    use_secrets(cloud.secrets().as_ref()).await;
    // A directory that cannot be written to, and a record that is no record.
    let broken = root.join("broken");
    std::fs::write(&broken, VALUE).expect("a file");
    let cloud = Cloud::connect(Config::local(&broken)).expect("the local provider needs nothing");
    use_secrets(cloud.secrets().as_ref()).await;
    let _ = std::fs::remove_dir_all(root);
}

async fn gcp() {
    let tally = fault_matrix::run(Provider::Gcp, Some(Family::Secrets), VALUE, &inspect).await;
    println!("E, gcp: {} cells, {} faults injected", tally.cells, tally.faults);
    for problem in &tally.problems {
        search("a finding", problem);
    }
    let config = gcp::config("http://127.0.0.1:9", "nobody");
    use_secrets(gcp::clients(&config).secrets.expect("it has secrets").as_ref()).await;
}

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The process that is searched.
pub(crate) fn child() {
    // Also what other crates say through `log`, of which `init` takes hold.
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(|| Searching).init();
    RUNTIME.block_on(async {
        aws().await;
        local().await;
        gcp().await;
    });
    search("the command line", &std::env::args().collect::<Vec<_>>().join(" "));
    let hits = HITS.lock().expect("no panic before").drain(..).collect::<Vec<_>>();
    for form in FORMS.iter() {
        tracing::trace!(planted = %form.text, "a leak that must be found");
    }
    let planted = HITS.lock().expect("no panic before").len();
    let found = if planted >= FORMS.len() { "found" } else { "missed" };
    let (bytes, errors) = (BYTES.load(Ordering::Relaxed), ERRORS.load(Ordering::Relaxed));
    println!("E, canaries: {bytes} bytes and {errors} errors searched for {} forms, {} hits", FORMS.len(), hits.len());
    println!("E, planted leaks: {found}");
    let mut shown = std::collections::BTreeMap::<String, usize>::new();
    hits.into_iter().for_each(|hit| *shown.entry(hit.chars().take(300).collect()).or_default() += 1);
    // What is shown of a hit has the canary taken out, so that the parent finds only what leaks by itself.
    for (hit, times) in shown.iter().take(40) {
        let clean = FORMS.iter().fold(hit.clone(), |text, form| text.replace(&form.text, "[canary]"));
        println!("leak, {times} times: {clean}");
    }
}

pub(crate) fn run() -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?)
        .env(CHILD, "1")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_SESSION_TOKEN", SESSION_TOKEN)
        .stdin(Stdio::null())
        .output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{out}");
    let leaks: Vec<&str> = FORMS
        .iter()
        .filter(|form| out.contains(&form.text) || err.contains(&form.text))
        .map(|form| form.name.as_str())
        .collect();
    if !output.status.success() {
        return Err(format!("the searched process failed: {err}").into());
    }
    if !leaks.is_empty() {
        return Err(format!("its output holds {leaks:?}").into());
    }
    if !out.contains("E, planted leaks: found") {
        return Err("the planted leaks are not found: the search is blind".into());
    }
    if !out.contains(" 0 hits") {
        return Err(out.lines().filter(|line| line.starts_with("leak")).collect::<Vec<_>>().join("\n").into());
    }
    Ok(())
}
