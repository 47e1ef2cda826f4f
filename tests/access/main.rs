//! Credentials of every kind, and URLs signed with them, against an emulator that takes known callers only; and the rules
//! of access that hold of every connection.
//!
//! Credentials are found by the environment, which a test cannot change for itself: each test starts this program again
//! with an environment of its own.

#![allow(clippy::disallowed_methods)] // what is tested is the environment

mod connecting;
mod credentials;
#[allow(dead_code, reason = "the tests of the emulator use the rest")]
#[path = "../gcp_emulator/http.rs"]
mod http;
mod jobs;
mod keys;
mod rules;
mod server;
mod signing;

use std::path::PathBuf;
use std::process::Command;

use anycloud::gcp_emulator::{Callers, Emulator, EmulatorConfig, IdentityConfig};
use anycloud::{Cloud, Config};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const URL: &str = "ANYCLOUD_TEST_IDENTITY_URL";
const ACCOUNT: &str = "app@p.iam.gserviceaccount.com";

/// An emulator, and a directory for files of credentials.
struct World {
    emulator: Emulator,
    directory: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl World {
    fn new(change: impl FnOnce(&mut EmulatorConfig)) -> Self {
        let mut config = EmulatorConfig {
            discovery: std::env::var_os("ANYCLOUD_TEST_DISCOVERY").map(PathBuf::from),
            buckets: vec!["b".into()],
            identity: IdentityConfig {
                callers: Callers::Authenticated,
                accounts: vec![ACCOUNT.into()],
                token_creators: vec![(ACCOUNT.into(), ACCOUNT.into())],
                place: Some(("p".into(), "europe-west1".into())),
                ..IdentityConfig::default()
            },
            ..EmulatorConfig::default()
        };
        change(&mut config);
        let emulator = Emulator::start(config).expect("the emulator starts");
        let port = emulator.url().rsplit(':').next().expect("a port");
        let directory = std::env::temp_dir().join(format!("anycloud-identity-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let environment = vec![(URL, emulator.url().to_owned()), ("HOME", directory.display().to_string())];
        Self { emulator, directory, environment }
    }

    /// A file, and its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn credentials(mut self, file: &serde_json::Value) -> Self {
        let path = self.file("credentials.json", &file.to_string());
        self.environment.push(("GOOGLE_APPLICATION_CREDENTIALS", path));
        self
    }

    fn on_a_machine(mut self) -> Self {
        let host = self.emulator.url().trim_start_matches("http://").to_owned();
        self.environment.push(("GCE_METADATA_HOST", host));
        self
    }

    /// Runs an ignored test in this world's environment.
    fn run(&self, test: &str) {
        child(test, &self.environment);
    }

    fn calls(&self, method: &str) -> usize {
        self.emulator.requests().iter().filter(|request| request.method == method).count()
    }
}

/// Runs an ignored test of this program alone, with an environment of its own.
fn child(test: &str, environment: &[(&'static str, String)]) {
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new(own);
    command.args([test, "--exact", "--ignored", "--nocapture"]).env_clear();
    let output = command.envs(environment.iter().cloned()).output().expect("this program starts");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{test}: {told}");
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
        if !std::thread::panicking() {
            assert_eq!(self.emulator.violations(), Vec::<String>::new());
        }
    }
}

/// The cloud as a program in the world's environment sees it: real credentials, other addresses.
fn cloud() -> Cloud {
    let settings = [("CLOUD_PROVIDER", "gcp"), ("ANYCLOUD_BUCKET", "b")];
    let lookup = |name: &str| {
        let fixed = settings.into_iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_owned());
        fixed.or_else(|| std::env::var(name).ok())
    };
    let mut config = Config::from_lookup(lookup).expect("the settings are complete");
    let url = std::env::var(URL).expect("started by its parent");
    for endpoint in [
        &mut config.gcp.storage_endpoint,
        &mut config.gcp.secret_manager_endpoint,
        &mut config.gcp.cloud_run_endpoint,
        &mut config.gcp.logging_endpoint,
        &mut config.gcp.iam_credentials_endpoint,
    ] {
        *endpoint = Some(url.clone());
    }
    assert!(!config.gcp.emulator, "credentials are for real services");
    Cloud::connect(config).expect("no network is needed")
}

/// A key file of the account, and the PEM of its public key.
fn key_file() -> (serde_json::Value, String) {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let pem = |what: &str, der: &[u8]| {
        format!("-----BEGIN {what} KEY-----\n{}\n-----END {what} KEY-----\n", BASE64_STANDARD.encode(der))
    };
    let private: Pkcs8V1Der<'_> = key.as_der().expect("DER");
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().expect("DER");
    let file = serde_json::json!({
        "type": "service_account",
        "client_email": ACCOUNT,
        "private_key_id": "1",
        "private_key": pem("PRIVATE", private.as_ref()),
        "project_id": "p",
    });
    (file, pem("PUBLIC", public.as_ref()))
}
