//! Google's own Python clients.

use std::process::Command;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::{Server, judge, signed_url};

#[test]
fn the_clients_that_google_publishes_are_served() {
    let Some(python) = judge("ANYCLOUD_TEST_GOOGLE_PYTHON") else {
        return;
    };
    let (key, pem) = signed_url::key();
    let private: Pkcs8V1Der<'_> = key.as_der().expect("DER");
    let private = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(private.as_ref())
    );
    let server = Server::with(|config| {
        config.signing_keys.insert("signer@py.iam.gserviceaccount.com".into(), pem);
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gcp_emulator/google_clients.py");
    let output = Command::new(python)
        .arg(script)
        .arg(server.emulator.url())
        .env("SIGNING_KEY", private)
        .output()
        .expect("the interpreter starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
