//! V4 signed URLs, signed here from the text of the specification.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::Server;

const ACCOUNT: &str = "signer@p.iam.gserviceaccount.com";

/// The private key and the PEM of the public one.
pub(crate) fn key() -> (KeyPair, String) {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("DER");
    let body = BASE64_STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    (key, pem)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(server: &Server, key: &KeyPair, method: &str, path: &str, at: Timestamp) -> String {
    let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let scope = format!("{}/auto/storage/goog4_request", &date[..8]);
    let credential = format!("{ACCOUNT}/{scope}").replace('/', "%2F").replace('@', "%40");
    let query = format!(
        "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential={credential}&X-Goog-Date={date}&X-Goog-Expires=60&X-Goog-SignedHeaders=host"
    );
    let canonical = format!("{method}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", server.http.host);
    let text = format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("a signature");
    format!("{path}?{query}&X-Goog-Signature={}", hex(&signature))
}

#[test]
fn a_signed_url_works_until_it_expires_and_only_as_signed() {
    let (key, pem) = key();
    let server = Server::with(|config| {
        config.signing_keys.insert(ACCOUNT.into(), pem);
    });
    let path = "/data/a%20b/c";
    let now = Timestamp::now();
    let send = |method: &str, url: &str, body: &[u8]| server.http.send(method, url, &[], body).expect("an answer");
    let put = signed(&server, &key, "PUT", path, now);
    assert_eq!(send("PUT", &put, b"hello").status, 200);
    let get = signed(&server, &key, "GET", path, now);
    assert_eq!(send("GET", &get, b"").body, b"hello");
    assert_eq!(send("GET", &put, b"").status, 403);
    let other = send("GET", &get.replace("/c?", "/d?"), b"");
    assert_eq!(other.status, 403);
    assert!(String::from_utf8_lossy(&other.body).contains("<Code>SignatureDoesNotMatch</Code>"));
    let old = signed(&server, &key, "GET", path, now - SignedDuration::from_secs(61));
    let expired = send("GET", &old, b"");
    assert_eq!(expired.status, 400);
    assert!(String::from_utf8_lossy(&expired.body).contains("<Code>ExpiredToken</Code>"));
}

#[test]
fn an_unknown_account_is_held_to_the_expiry_only() {
    let (key, _) = key();
    let server = Server::start();
    let now = Timestamp::now();
    let url = signed(&server, &key, "GET", "/data/none", now);
    assert_eq!(server.get(&url).status, 404);
    let old = signed(&server, &key, "GET", "/data/none", now - SignedDuration::from_hours(1));
    assert_eq!(server.get(&old).status, 400);
}
