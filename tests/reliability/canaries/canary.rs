//! The secrets that are looked for, and the forms in which they may appear.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A secret's value begins with this.
pub(crate) const VALUE: &str = "kAnArY0Value1Z2x3C4v5B6n7M8q9";
/// The value of a variable of a job.
pub(crate) const VARIABLE: &str = "kAnArY0Variable7Yx8Wv9Ut0Sr1Qp2";

/// The credentials: a key pair of AWS from the environment or a file, and the session's token.
pub(crate) const ACCESS_KEY: &str = "AKIAKANARYKEY0123456";
pub(crate) const SECRET_KEY: &str = "kAnArY0SecretKey9y8X7w/6V5u4T3s2R1q0+P";
pub(crate) const SESSION_TOKEN: &str = "kAnArY0SessionToken1a2S3d4F5g6H7j8/K9l+Q==";
/// What a web identity provider, a container's and a machine's metadata server hand out.
pub(crate) const IDENTITY_TOKEN: &str = "kAnArY0IdentityToken5t4R3e2W1q0A9s8D7f6";
pub(crate) const CONTAINER_TOKEN: &str = "kAnArY0ContainerToken2q3W4e5R6t7Y8u9I0";
pub(crate) const MACHINE_TOKEN: &str = "kAnArY0MachineToken8m7N6b5V4c3X2z1L0k9";
/// What the token servers of Google give out, by who asks.
pub(crate) const ACCESS_TOKEN: &str = "ya29.kAnArY0AccessToken3p4O5i6U7y8T9r0E-w_Q";
pub(crate) const ACTING_TOKEN: &str = "ya29.kAnArY0ActingToken6h5G4f3D2s1A0q9-w_E";
pub(crate) const REFRESH_TOKEN: &str = "1//kAnArY0RefreshToken4v3C2x1Z0m9N8b7";
pub(crate) const CLIENT_SECRET: &str = "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t2G";
/// What `signBlob` signs everything with.
pub(crate) const SIGNATURE: &str = "kAnArY0SignatureOfABlob1w2E3r4T5y6U7i8";

pub(crate) const ALL: [(&str, &str); 13] = [
    ("a secret's value", VALUE),
    ("a job's variable", VARIABLE),
    ("the secret key", SECRET_KEY),
    ("the session token", SESSION_TOKEN),
    ("a web identity token", IDENTITY_TOKEN),
    ("a container's token", CONTAINER_TOKEN),
    ("a machine's token", MACHINE_TOKEN),
    ("an access token", ACCESS_TOKEN),
    ("a token of one who is acted as", ACTING_TOKEN),
    ("a refresh token", REFRESH_TOKEN),
    ("a client's secret", CLIENT_SECRET),
    ("a signature by IAM", SIGNATURE),
    // Not a value, but what stands before one that differs with each request.
    ("a header with credentials", "AWS4-HMAC-SHA256 Credential="),
];

/// A form in which a secret may appear.
#[derive(Clone)]
pub(crate) struct Form {
    /// Of which secret.
    pub(crate) what: String,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Form {
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        text.windows(self.bytes.len()).any(|window| window == self.bytes)
    }
}

fn joined(bytes: &[u8], each: impl Fn(u8) -> String, between: &str) -> Vec<u8> {
    bytes.iter().map(|byte| each(*byte)).collect::<Vec<_>>().join(between).into_bytes()
}

/// Every form of a secret, each once.
pub(crate) fn forms_of(what: &str, secret: &[u8]) -> Vec<Form> {
    let mut forms = vec![
        ("raw", secret.to_vec()),
        ("hex", joined(secret, |byte| format!("{byte:02x}"), "")),
        ("upper-case hex", joined(secret, |byte| format!("{byte:02X}"), "")),
        ("percent", joined(secret, |byte| format!("%{byte:02X}"), "")),
        ("lower-case percent", joined(secret, |byte| format!("%{byte:02x}"), "")),
        ("JSON escapes", joined(secret, |byte| format!("\\u{byte:04x}"), "")),
        ("byte escapes", joined(secret, |byte| format!("\\x{byte:02x}"), "")),
        ("list of numbers", joined(secret, |byte| byte.to_string(), ", ")),
        ("dense list of numbers", joined(secret, |byte| byte.to_string(), ",")),
        ("bytes as a literal", secret.escape_ascii().to_string().into_bytes()),
    ];
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push(("percent where needed", utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().into_bytes()));
    }
    // Base64 of a text that holds the secret at any place: what does not depend on the neighbours.
    for before in 0..3 {
        let padded = [&b"???"[..before], secret].concat();
        let whole = &padded[..padded.len() / 3 * 3];
        let cut = if before == 0 { 0 } else { 4 };
        forms.push(("base64", BASE64_STANDARD.encode(whole).into_bytes().split_off(cut)));
        forms.push(("base64 of URLs", BASE64_URL_SAFE.encode(whole).into_bytes().split_off(cut)));
    }
    let mut distinct: Vec<Form> = Vec::new();
    for (name, bytes) in forms {
        if distinct.iter().all(|form| form.bytes != bytes) {
            distinct.push(Form { what: what.to_owned(), name, bytes });
        }
    }
    distinct
}

/// The forms of all secrets that are known before anything happens.
pub(crate) static FORMS: LazyLock<Vec<Form>> =
    LazyLock::new(|| ALL.iter().flat_map(|(what, secret)| forms_of(what, secret.as_bytes())).collect());
