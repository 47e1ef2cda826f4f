//! V4 signed URLs.
//!
//! <https://cloud.google.com/storage/docs/authentication/canonical-requests>

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::http::{HeaderMap, Method, Uri};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::super::failure::Failure;
use super::super::identity::Identity;
use super::super::wire::{Call, query_pairs};

/// The longest life of a signed URL: seven days.
///
/// <https://cloud.google.com/storage/docs/access-control/signed-urls#should-you-use>
const LONGEST: i64 = 604_800;

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The account of clients that have no key because they talk to an emulator. They put the SHA-256 of what would be
/// signed in place of the signature, by which it is still seen whether anything was altered.
const NOBODY: &str = "nobody@emulator.invalid";

/// Checks expiry, and the signature when the account's public key is known. A request without a
/// signature passes, because nothing else here is authenticated either.
pub(super) fn check(identity: &Identity, method: &Method, uri: &Uri, call: &Call) -> Result<(), Failure> {
    let Some(signature) = call.query("X-Goog-Signature") else {
        return Ok(());
    };
    let field =
        |name: &str| call.query(name).ok_or_else(|| Failure::invalid(format!("The parameter {name} is missing.")));
    if field("X-Goog-Algorithm")? != "GOOG4-RSA-SHA256" {
        return Err(Failure::invalid("X-Goog-Algorithm: only GOOG4-RSA-SHA256 is known here."));
    }
    let date = field("X-Goog-Date")?;
    let start = moment(date).ok_or_else(|| Failure::invalid("X-Goog-Date is not valid."))?;
    let seconds: i64 = call.number("X-Goog-Expires")?.unwrap_or(-1);
    if !(1..=LONGEST).contains(&seconds) {
        return Err(Failure::invalid("X-Goog-Expires must be between 1 and 604800 seconds."));
    }
    if Timestamp::now() > start + SignedDuration::from_secs(seconds) {
        return Err(Failure::expired("The provided token has expired."));
    }
    let credential = field("X-Goog-Credential")?;
    let (account, scope) =
        credential.split_once('/').ok_or_else(|| Failure::invalid("X-Goog-Credential is not valid."))?;
    let refused =
        || Failure::signature("The request signature we calculated does not match the signature you provided.");
    let signature = unhex(signature).ok_or_else(refused)?;
    let headers = field("X-Goog-SignedHeaders")?;
    let signed = |host: &str| {
        let canonical = canonical_request(method, uri, &call.headers, headers, host);
        format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())))
    };
    // Google's own client for Rust signs the host without its port.
    let host = call.header("host").unwrap_or("").trim();
    let hosts = [host, host.rsplit_once(':').map_or(host, |(name, _)| name)];
    let keys = identity.public_keys(account);
    let holds = |signed: String| match keys.as_slice() {
        [] if account == NOBODY => Sha256::digest(signed.as_bytes())[..] == signature,
        [] => true,
        keys => keys.iter().any(|key| {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(signed.as_bytes(), &signature).is_ok()
        }),
    };
    let valid = hosts.iter().any(|host| holds(signed(host)));
    if valid { Ok(()) } else { Err(refused()) }
}

/// `20240102T030405Z`.
fn moment(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

fn canonical_request(method: &Method, uri: &Uri, headers: &HeaderMap, signed: &str, host: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let mut pairs: Vec<String> = query_pairs(uri.query().unwrap_or(""))
        .iter()
        .filter(|(name, _)| name != "X-Goog-Signature")
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.sort();
    let values = |name: &str| {
        if name == "host" {
            return host.to_owned();
        }
        let all: Vec<String> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
            .collect();
        all.join(",")
    };
    let lines: String = signed.split(';').map(|name| format!("{name}:{}\n", values(name))).collect();
    let payload = match values("x-goog-content-sha256") {
        hash if hash.is_empty() => "UNSIGNED-PAYLOAD".to_owned(),
        hash => hash,
    };
    format!("{method}\n{}\n{}\n{lines}\n{signed}\n{payload}", uri.path(), pairs.join("&"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_request_has_the_documented_lines() {
        let uri: Uri = "/b/o%20x?X-Goog-Signature=ab&b=2&a=1%2F".parse().expect("a uri");
        let mut headers = HeaderMap::new();
        headers.insert("x-goog-date", "d".parse().expect("a value"));
        assert_eq!(
            canonical_request(&Method::GET, &uri, &headers, "host;x-goog-date", "h"),
            "GET\n/b/o%20x\na=1%2F&b=2\nhost:h\nx-goog-date:d\n\nhost;x-goog-date\nUNSIGNED-PAYLOAD"
        );
    }

    #[test]
    fn dates_are_those_of_the_signing_process() {
        assert_eq!(moment("20240102T030405Z"), "2024-01-02T03:04:05Z".parse().ok());
        assert_eq!(moment("2024-01-02"), None);
    }

    #[test]
    fn hex_is_read_back() {
        assert_eq!(unhex(&hex(&[0, 171, 255])), Some(vec![0, 171, 255]));
        assert_eq!(unhex("abc"), None);
    }
}
