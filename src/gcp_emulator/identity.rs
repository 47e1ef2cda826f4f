//! Who calls: service accounts, their keys and tokens, and the services that hand them out.

mod iam;
mod metadata;
mod oauth;
mod sts;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::failure::Failure;
use super::server::{Shared, lock};
use super::wire::{Call, Reply, random_suffix};

/// How long a token lives.
///
/// <https://cloud.google.com/docs/authentication/token-types#access>
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Whose calls an [`Emulator`](super::Emulator) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Callers {
    /// Everybody's.
    #[default]
    Everybody,
    /// Those with a token that the emulator has given out, a token signed with a key of
    /// [`EmulatorConfig::signing_keys`](super::EmulatorConfig::signing_keys), or a signed URL. Others are answered
    /// with 401. What a known caller may do is not looked at, but for acting as a service account.
    Authenticated,
}

/// Service accounts, and who may act as them.
#[derive(Clone, Debug, Default)]
pub struct IdentityConfig {
    /// Whose calls are taken.
    pub callers: Callers,
    /// The email addresses of the service accounts. Each has a key of the system's own, with which `signBlob` signs.
    /// The metadata server speaks for the first.
    pub accounts: Vec<String>,
    /// Who has `roles/iam.serviceAccountTokenCreator` on what account: pairs of a principal and an account. Accounts
    /// have it on themselves only if that is said.
    pub token_creators: Vec<(String, String)>,
    /// The tokens of others that the Security Token Service takes.
    pub federated: Vec<FederatedToken>,
    /// The project and the region of which the metadata server tells.
    pub place: Option<(String, String)>,
}

/// A token of another identity provider, as a workload identity pool knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedToken {
    /// The full name of the pool's provider, `//iam.googleapis.com/projects/…`.
    pub audience: String,
    /// The token.
    pub subject_token: String,
    /// Who it stands for, `principal://iam.googleapis.com/projects/…`.
    pub principal: String,
}

/// The accounts and the tokens given out.
#[derive(Debug, Default)]
pub(super) struct Identity {
    config: IdentityConfig,
    /// Public keys of keys that users made, by account.
    user_keys: BTreeMap<String, Vec<u8>>,
    system_keys: BTreeMap<String, KeyPair>,
    tokens: Mutex<HashMap<String, (String, Instant)>>,
}

impl Identity {
    pub(super) fn new(config: &IdentityConfig, keys: &BTreeMap<String, String>) -> io::Result<Self> {
        let pem = |(account, text): (&String, &String)| {
            let key = pem(text).ok_or_else(|| io::Error::other(format!("the key of {account} is not PEM")))?;
            Ok((account.clone(), key))
        };
        let user_keys = keys.iter().map(pem).collect::<io::Result<_>>()?;
        let generate = |account: &String| {
            let key = KeyPair::generate(KeySize::Rsa2048).map_err(io::Error::other)?;
            Ok((account.clone(), key))
        };
        let system_keys = config.accounts.iter().map(generate).collect::<io::Result<_>>()?;
        Ok(Self { config: config.clone(), user_keys, system_keys, tokens: Mutex::default() })
    }

    /// The public keys whose signatures are the account's; none for an account that is not known.
    pub(super) fn public_keys(&self, account: &str) -> Vec<Vec<u8>> {
        let system = self.system_keys.get(account).and_then(|key| {
            let der: PublicKeyX509Der<'_> = key.public_key().as_der().ok()?;
            Some(der.as_ref().to_vec())
        });
        self.user_keys.get(account).cloned().into_iter().chain(system).collect()
    }

    /// The signature of the account's system-managed key, in base64, and the key's id.
    fn sign(&self, account: &str, content: &[u8]) -> Result<(String, String), Failure> {
        let key = self.system_keys.get(account).ok_or_else(|| Failure::not_found("Unknown service account"))?;
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content, &mut signature)
            .map_err(|_| Failure::scripted(500))?;
        Ok((format!("{:08x}", crc32c::crc32c(account.as_bytes())), BASE64_STANDARD.encode(signature)))
    }

    /// A new access token that stands for this principal.
    fn issue(&self, principal: &str) -> String {
        let token = format!("ya29.{}", random_suffix(40));
        lock(&self.tokens).insert(token.clone(), (principal.to_owned(), Instant::now() + TOKEN_LIFE));
        token
    }

    /// Refuses a call of nobody, where that matters. Signed URLs are judged by their signature.
    pub(super) fn admit(&self, call: &Call) -> Result<(), Failure> {
        let open = self.config.callers == Callers::Everybody || call.query("X-Goog-Signature").is_some();
        if open { Ok(()) } else { self.principal(&call.headers).map(drop) }
    }

    /// Who sends a request.
    ///
    /// <https://cloud.google.com/docs/authentication/rest#using-token>
    fn principal(&self, headers: &HeaderMap) -> Result<String, Failure> {
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = text
            .strip_prefix("Bearer ")
            .ok_or_else(|| Failure::unauthenticated("Request is missing required authentication credential."))?;
        if let Some((principal, end)) = lock(&self.tokens).get(token) {
            return if Instant::now() < *end { Ok(principal.clone()) } else { Err(invalid_token()) };
        }
        // A token that the caller signed itself: https://google.aip.dev/auth/4111
        let claims = token::verify(token, |account| self.public_keys(account)).ok_or_else(invalid_token)?;
        let meant = claims.scope.is_some() || claims.audience.is_some();
        if meant { Ok(claims.issuer) } else { Err(invalid_token()) }
    }

    fn may_act_as(&self, principal: &str, account: &str) -> bool {
        self.config.token_creators.iter().any(|(who, whom)| who == principal && whom == account)
    }
}

fn invalid_token() -> Failure {
    Failure::unauthenticated("Request had invalid authentication credentials.")
}

fn pem(text: &str) -> Option<Vec<u8>> {
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    BASE64_STANDARD.decode(body).ok()
}

/// Serves a call of the services that hand out tokens and signatures.
pub(super) fn call(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let identity = &shared.identity;
    match call.id {
        "iamcredentials.projects.serviceAccounts.signBlob" => iam::sign_blob(identity, call),
        "iamcredentials.projects.serviceAccounts.generateAccessToken" => iam::generate_access_token(identity, call),
        "sts.token" => Ok(sts::token(identity, call)),
        "oauth2.token" => Ok(oauth::token(identity, &shared.url, call)),
        _ => metadata::call(identity, call),
    }
}

/// The form of errors of OAuth: <https://www.rfc-editor.org/rfc/rfc6749#section-5.2>
fn refused(error: &str, description: &str) -> Reply {
    let body = serde_json::json!({"error": error, "error_description": description});
    Reply::json_with(axum::http::StatusCode::BAD_REQUEST, &body)
}
