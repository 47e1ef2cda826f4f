//! Signature Version 4 over a payload that is not signed, for requests that go over the crate's own transport.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>. The derived key is good for a day and
//! kept, which `aws-sigv4`'s own `sign` does not do.

use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{HeaderMap, Request};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::random::hex;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const PAYLOAD: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// Where the token of temporary credentials goes.
pub(crate) const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Stands for the hash of the body, which is protected otherwise: by TLS and its CRC32C.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Signs for one service of one region.
pub(crate) struct Signer {
    region: String,
    service: String,
    token: HeaderName,
    key: Mutex<Option<Arc<Key>>>,
}

/// What is the same for all requests of a day.
struct Key {
    credentials: Arc<Credentials>,
    day: [u8; 8],
    /// `20130524/us-east-1/s3/aws4_request`.
    scope: String,
    bytes: Zeroizing<Vec<u8>>,
}

impl Signer {
    /// A signer that puts the token of temporary credentials into the header `token`.
    pub(crate) fn new(region: impl Into<String>, service: impl Into<String>, token: HeaderName) -> Self {
        Self { region: region.into(), service: service.into(), token, key: Mutex::default() }
    }

    /// The region that is signed for.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Adds the headers of the signature, which covers all headers that are there already; `host` has to be. The query
    /// is as the signature wants it: encoded once, the parameters in the order of their names, each with a `=`.
    ///
    /// # Errors
    /// Credentials that cannot travel in a header.
    pub(crate) fn sign<B>(
        &self,
        request: &mut Request<B>,
        credentials: &Arc<Credentials>,
        now: SystemTime,
    ) -> Result<(), InvalidHeaderValue> {
        let mut headers = std::mem::take(request.headers_mut());
        let (method, uri) = (request.method().as_str(), request.uri());
        let parts = [method, uri.path(), uri.query().unwrap_or_default()];
        let signed = self.sign_parts(parts, UNSIGNED, &mut headers, credentials, now);
        *request.headers_mut() = headers;
        signed
    }

    fn sign_parts(
        &self,
        parts: [&str; 3],
        payload: &'static str,
        headers: &mut HeaderMap,
        credentials: &Arc<Credentials>,
        now: SystemTime,
    ) -> Result<(), InvalidHeaderValue> {
        let date = timestamp(now);
        let key = self.key(credentials, &date, now);
        headers.insert(DATE, HeaderValue::from_bytes(&date)?);
        headers.insert(PAYLOAD, HeaderValue::from_static(payload));
        if let Some(token) = credentials.session_token() {
            headers.insert(&self.token, sensitive(HeaderValue::from_str(token)?));
        }
        let mut signed: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        signed.sort_unstable_by_key(|(name, _)| *name);
        let names: usize = signed.iter().map(|(name, _)| name.len() + 1).sum();

        let mut request = Vec::with_capacity(1024);
        for part in parts {
            request.extend_from_slice(part.as_bytes());
            request.push(b'\n');
        }
        for (name, value) in &signed {
            request.extend_from_slice(name.as_bytes());
            request.push(b':');
            push_canonical(&mut request, value);
            request.push(b'\n');
        }
        request.push(b'\n');
        let mut header = String::with_capacity(160 + credentials.access_key_id().len() + key.scope.len() + names);
        header.push_str("AWS4-HMAC-SHA256 Credential=");
        header.push_str(credentials.access_key_id());
        header.push('/');
        header.push_str(&key.scope);
        header.push_str(", SignedHeaders=");
        let begin = header.len();
        for (name, _) in &signed {
            header.push_str(if header.len() == begin { "" } else { ";" });
            header.push_str(name);
        }
        request.extend_from_slice(&header.as_bytes()[begin..]);
        request.push(b'\n');
        request.extend_from_slice(payload.as_bytes());

        let digest = hex(&Sha256::digest(&request));
        request.clear();
        for part in [b"AWS4-HMAC-SHA256".as_slice(), &date, key.scope.as_bytes(), digest.as_bytes()] {
            request.extend_from_slice(part);
            request.push(b'\n');
        }
        request.pop();
        header.push_str(", Signature=");
        header.push_str(&calculate_signature(&*key.bytes, &request));
        headers.insert(AUTHORIZATION, sensitive(HeaderValue::try_from(header)?));
        Ok(())
    }

    /// The key for these credentials and this day.
    fn key(&self, credentials: &Arc<Credentials>, date: &[u8; 16], now: SystemTime) -> Arc<Key> {
        let mut last = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*last
            && Arc::ptr_eq(&key.credentials, credentials)
            && date.starts_with(&key.day)
        {
            return Arc::clone(key);
        }
        let mut day = [0; 8];
        day.copy_from_slice(&date[..8]);
        let derived = generate_signing_key(credentials.secret_access_key(), now, &self.region, &self.service);
        let key = Arc::new(Key {
            credentials: Arc::clone(credentials),
            day,
            scope: format!("{}/{}/{}/aws4_request", String::from_utf8_lossy(&day), self.region, self.service),
            bytes: Zeroizing::new(derived.as_ref().to_vec()),
        });
        *last = Some(Arc::clone(&key));
        key
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// A header's value without spaces at its ends, and with one where there were several.
fn push_canonical(text: &mut Vec<u8>, value: &[u8]) {
    let begin = text.len();
    for byte in value.trim_ascii() {
        if *byte != b' ' || text.last() != Some(&b' ') || text.len() == begin {
            text.push(*byte);
        }
    }
}

/// `20130524T000000Z`.
fn timestamp(now: SystemTime) -> [u8; 16] {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    let now = jiff::tz::Offset::UTC.to_datetime(now);
    let mut text = [0; 16];
    // Sixteen bytes until the year 10000.
    let _ = write!(
        &mut text[..],
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        now.year(),
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    );
    text
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).field("service", &self.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_sigv4::http_request::{SignableBody, SignableRequest, sign};
    use aws_sigv4::sign::v4::SigningParams;
    use aws_smithy_runtime_api::client::identity::Identity;
    use http::header::HOST;
    use percent_encoding::utf8_percent_encode;

    use super::*;
    use crate::aws::object_store::{PATH, encoded};
    use crate::aws::signature_v4a::settings;

    fn credentials(token: Option<&str>) -> Arc<Credentials> {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        Arc::new(Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, token.map(str::to_owned), None, "test"))
    }

    /// 24 May 2013, the day of the examples in the documentation.
    fn day() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_369_353_600)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    /// What `aws-sigv4` makes of the same request, by S3's rules.
    fn theirs(method: &str, url: &str, pairs: &[(&'static str, &str)], credentials: &Credentials) -> String {
        let identity = Identity::from(credentials.clone());
        let params = SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("s3")
            .time(day())
            .settings(settings())
            .build()
            .unwrap();
        let request = SignableRequest::new(method, url, pairs.iter().copied(), SignableBody::UnsignedPayload).unwrap();
        let (instructions, _) = sign(request, &params.into()).unwrap().into_parts();
        let mut signed = http::Request::builder().method(method).uri(url).body(()).unwrap();
        instructions.apply_to_request_http1x(&mut signed);
        signed.headers()[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    fn ours(
        signer: &Signer,
        method: &str,
        url: &str,
        pairs: &[(&'static str, &str)],
        credentials: &Arc<Credentials>,
    ) -> Request<()> {
        let mut request = Request::builder().method(method).uri(url).body(()).unwrap();
        *request.headers_mut() = headers(pairs);
        let host = HeaderValue::from_str(request.uri().authority().unwrap().as_str()).unwrap();
        request.headers_mut().insert(HOST, host);
        signer.sign(&mut request, credentials, day()).unwrap();
        request
    }

    #[test]
    fn signatures_are_those_of_the_sdk_for_keys_parameters_headers_and_tokens_of_any_kind() {
        let signer = Signer::new("us-east-1", "s3", SECURITY_TOKEN);
        let keys = ["k", "a b", "/lead", "a//b", "../x/./y", "ü☃/+&=?#%2F", "~!*'();:@$,[]", "\u{1}\u{7f}\"<>^`{|}\\"];
        let every = [
            ("content-type", "text/plain"),
            ("content-disposition", "attachment; filename=\"a  b.csv\""),
            ("content-length", "9"),
            ("if-none-match", "*"),
            ("range", "bytes=0-9"),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-meta-spaced", "a   b  c"),
            ("x-amz-meta-a-b", "="),
            ("x-amz-meta-a", "1"),
        ];
        for key in keys {
            for token in [None, Some("AQoDYXdzEJr//=")] {
                for (method, query, pairs) in [
                    ("GET", String::new(), &every[4..5]),
                    ("HEAD", format!("?versionId={}", encoded("a|/ü +")), &every[..0]),
                    ("PUT", format!("?partNumber=7&uploadId={}", encoded(key)), &every[..]),
                    ("GET", format!("?delimiter=%2F&list-type=2&prefix={}", encoded(key)), &every[..0]),
                ] {
                    let path = utf8_percent_encode(key, PATH);
                    let url = format!("https://b.s3.us-east-1.amazonaws.com/{path}{query}");
                    let credentials = credentials(token);
                    let signed = ours(&signer, method, &url, pairs, &credentials).into_parts().0.headers;
                    let expected = theirs(method, &url, pairs, &credentials);
                    assert_eq!(signed[AUTHORIZATION].to_str().unwrap(), expected, "{method} {url}");
                    assert_eq!(signed.get(SECURITY_TOKEN).map(HeaderValue::as_bytes), token.map(str::as_bytes));
                }
            }
        }
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html#example-signature-calculations>
    #[test]
    fn the_examples_of_the_documentation_come_out() {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        const WELCOME: &str = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let range = [("range", "bytes=0-9")];
        for (parts, pairs, payload, expected) in [
            (
                ["GET", "/test.txt", ""],
                &range[..],
                EMPTY,
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                ["PUT", "/test%24file.text", ""],
                &put[..],
                WELCOME,
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                ["GET", "/", "lifecycle="],
                &[],
                EMPTY,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                ["GET", "/", "max-keys=2&prefix=J"],
                &[],
                EMPTY,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let signer = Signer::new("us-east-1", "s3", SECURITY_TOKEN);
            let mut headers = headers(pairs);
            headers.insert(HOST, HeaderValue::from_static("examplebucket.s3.amazonaws.com"));
            signer.sign_parts(parts, payload, &mut headers, &credentials(None), day()).unwrap();
            let signed = headers[AUTHORIZATION].to_str().unwrap();
            let scope = "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=";
            assert!(signed.starts_with(&format!("AWS4-HMAC-SHA256 {scope}")), "{signed}");
            assert!(signed.ends_with(&format!(", Signature={expected}")), "{parts:?}: {signed}");
        }
    }

    #[test]
    fn the_key_is_made_anew_for_other_credentials_and_another_day_only() {
        let signer = Signer::new("us-east-1", "s3", SECURITY_TOKEN);
        let (one, other) = (credentials(None), credentials(None));
        let first = signer.key(&one, b"20130524T000000Z", day());
        assert!(Arc::ptr_eq(&first, &signer.key(&one, b"20130524T235959Z", day())));
        let next = signer.key(&one, b"20130525T000000Z", day() + Duration::from_secs(86_400));
        assert!(first.bytes != next.bytes && next.scope.starts_with("20130525/"));
        assert!(!Arc::ptr_eq(&next, &signer.key(&other, b"20130525T000000Z", day())));
    }

    #[test]
    fn neither_key_nor_token_is_shown() {
        let signer = Signer::new("us-east-1", "s3", SECURITY_TOKEN);
        let url = "https://b.s3.us-east-1.amazonaws.com/k";
        let signed = ours(&signer, "GET", url, &[], &credentials(Some("TOKEN")));
        let shown = format!("{signer:?} {signed:?}");
        assert!(!shown.contains("TOKEN") && !shown.contains("Signature=") && !shown.contains("EXAMPLEKEY"), "{shown}");
    }

    #[test]
    fn the_time_is_written_in_sixteen_characters() {
        assert_eq!(timestamp(day() + Duration::from_secs(86_399)), *b"20130524T235959Z");
    }
}
