//! Credentials of every kind, each in a process of its own whose environment leads to them, and services that repeat
//! them in every refusal.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anycloud::object_store::SignOptions;
use anycloud::{Cloud, Config, ObjectKey, ObjectStoreExt as _, SecretName, SecretStoreExt as _};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::calls::use_everything;
use super::canary::{
    ACCESS_KEY, ACCESS_TOKEN, ACTING_TOKEN, CLIENT_SECRET, CONTAINER_TOKEN, IDENTITY_TOKEN, MACHINE_TOKEN,
    REFRESH_TOKEN, SECRET_KEY, SESSION_TOKEN, SIGNATURE,
};
use super::search::{inspect_all, inspect_debug, learn};
use super::server::{Answer, Request, Server};
use super::services;
use crate::gcp;

const ACCOUNT: &str = "app@p.iam.gserviceaccount.com";
/// Tells a process where its server is.
const SERVER: &str = "ANYCLOUD_TEST_CANARIES_SERVER";

/// One kind of credentials.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Environment,
    File,
    Program,
    WebIdentity,
    Container,
    Machine,
    GoogleKey,
    GoogleMachine,
    GooglePerson,
    GoogleFederated,
    GoogleActing,
}

pub(crate) static KINDS: [Kind; 11] = [
    Kind::Environment,
    Kind::File,
    Kind::Program,
    Kind::WebIdentity,
    Kind::Container,
    Kind::Machine,
    Kind::GoogleKey,
    Kind::GoogleMachine,
    Kind::GooglePerson,
    Kind::GoogleFederated,
    Kind::GoogleActing,
];

impl Kind {
    pub(crate) fn is_google(self) -> bool {
        format!("{self:?}").starts_with("Google")
    }

    /// What must have been in a request if the credentials were used.
    pub(crate) fn bears(self) -> &'static str {
        match self {
            Self::GoogleKey => "Bearer ey",
            Self::GoogleActing => ACTING_TOKEN,
            kind if kind.is_google() => ACCESS_TOKEN,
            _ => SESSION_TOKEN,
        }
    }

    /// At least so many secrets are known only once they were made: signatures of requests and of URLs.
    pub(crate) fn makes(self) -> u64 {
        match self {
            Self::GooglePerson | Self::GoogleFederated => 0,
            Self::GoogleKey | Self::GoogleMachine | Self::GoogleActing => 4,
            _ => 60,
        }
    }

    /// The environment that leads to them, with what it names made in the directory.
    pub(crate) fn environment(self, url: &str, directory: &Path) -> Vec<(&'static str, String)> {
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let google = |credentials: Value| {
            vec![("GOOGLE_APPLICATION_CREDENTIALS", file("credentials.json", &credentials.to_string()))]
        };
        let host = url.trim_start_matches("http://").to_owned();
        let mut environment = match self {
            Self::Environment => vec![
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
                ("AWS_SESSION_TOKEN", SESSION_TOKEN.to_owned()),
            ],
            Self::File => {
                let text = format!(
                    "[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n\
                     aws_session_token={SESSION_TOKEN}\n"
                );
                vec![("AWS_SHARED_CREDENTIALS_FILE", file("credentials", &text))]
            }
            Self::Program => {
                let told = file("told.json", &keys("SecretAccessKey", "SessionToken").to_string());
                let text = format!("[default]\ncredential_process = cat {told}\n");
                vec![("AWS_CONFIG_FILE", file("config", &text))]
            }
            Self::WebIdentity => vec![
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r".to_owned()),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", file("token", IDENTITY_TOKEN)),
                ("AWS_ENDPOINT_URL_STS", url.to_owned()),
            ],
            Self::Container => vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/container")),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN.to_owned()),
            ],
            Self::Machine => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.to_owned())],
            Self::GoogleKey => google(json!({
                "type": "service_account", "client_email": ACCOUNT, "private_key_id": "1", "project_id": "p",
                "private_key": private_key(),
            })),
            Self::GoogleMachine => vec![("GCE_METADATA_HOST", host)],
            Self::GooglePerson => google(person(url)),
            Self::GoogleFederated => google(federated(url, &file("subject", IDENTITY_TOKEN))),
            Self::GoogleActing => google(json!({
                "type": "impersonated_service_account", "source_credentials": person(url),
                "service_account_impersonation_url":
                    format!("{url}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"),
            })),
        };
        if !matches!(self, Self::Machine) {
            environment.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
        }
        environment.push((SERVER, url.to_owned()));
        environment
    }
}

/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>
fn keys(secret: &str, token: &str) -> Value {
    json!({
        "Version": 1, "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ACCESS_KEY, secret: SECRET_KEY,
        token: SESSION_TOKEN, "Expiration": "2036-01-01T00:00:00Z", "LastUpdated": "2026-01-01T00:00:00Z",
    })
}

fn private_key() -> String {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = key.as_der().expect("DER");
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
}

fn person(url: &str) -> Value {
    json!({
        "type": "authorized_user", "client_id": "c", "client_secret": CLIENT_SECRET, "refresh_token": REFRESH_TOKEN,
        "token_uri": format!("{url}/token"),
    })
}

/// <https://google.aip.dev/auth/4117>
fn federated(url: &str, subject: &str) -> Value {
    json!({
        "type": "external_account", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
        "token_url": format!("{url}/v1/token"), "credential_source": {"file": subject},
    })
}

/// Servers that hand out credentials, before those that take them. At first they refuse, and repeat what they were
/// asked with and would have answered. What is only known once it was made is told later.
pub(crate) fn server() -> Server {
    let heard: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let stingy = AtomicBool::new(true);
    Server::start(move |request| {
        if request.target == "/generous" {
            stingy.store(false, Ordering::Relaxed);
        }
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if request.target == "/heard" {
            return (200, "application/json", json!(*heard).to_string());
        }
        let credentials = request.header("authorization");
        let made = credentials.strip_prefix("Bearer ey").map(|rest| format!("ey{rest}"));
        heard.extend(made.or_else(|| credentials.split_once("Signature=").map(|(_, made)| made.to_owned())));
        drop(heard);
        match hand_out(request) {
            Some((_, kind, body)) if stingy.load(Ordering::Relaxed) => {
                let told = json!({"error": "server_error", "error_description": request.echo(), "said": body});
                (503, kind, told.to_string())
            }
            Some(answer) => answer,
            None => services::answer(request),
        }
    })
}

fn hand_out(request: &Request) -> Option<Answer> {
    let path = request.target.split('?').next().unwrap_or_default();
    let token = |token: &str| {
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        let body = json!({
            "access_token": token, "expires_in": 3600, "token_type": "Bearer", "issued_token_type": kind,
        });
        body.to_string()
    };
    let body = match path {
        "/container" => keys("SecretAccessKey", "Token").to_string(),
        "/latest/api/token" => MACHINE_TOKEN.to_owned(),
        "/latest/meta-data/iam/security-credentials/" | "/latest/meta-data/iam/security-credentials-extended/" => {
            "role".to_owned()
        }
        _ if path.starts_with("/latest/meta-data/iam/") => keys("SecretAccessKey", "Token").to_string(),
        "/" if request.body.contains("AssumeRoleWithWebIdentity") => {
            let keys = format!(
                "<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
                 <SessionToken>{SESSION_TOKEN}</SessionToken><Expiration>2036-01-01T00:00:00Z</Expiration>"
            );
            let result = format!("<AssumeRoleWithWebIdentityResult><Credentials>{keys}</Credentials>");
            let end = "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
            return Some((200, "text/xml", format!("<AssumeRoleWithWebIdentityResponse>{result}{end}")));
        }
        _ if path.ends_with("/default/token") => token(ACCESS_TOKEN),
        _ if path.ends_with("/default/email") => ACCOUNT.to_owned(),
        _ if path.starts_with("/computeMetadata/") => "projects/1/regions/europe-west1".to_owned(),
        "/token" | "/v1/token" => token(ACCESS_TOKEN),
        _ if path.ends_with(":generateAccessToken") => {
            json!({"accessToken": ACTING_TOKEN, "expireTime": "2036-01-01T00:00:00Z"}).to_string()
        }
        _ if path.ends_with(":signBlob") => {
            json!({"keyId": "1", "signedBlob": BASE64_STANDARD.encode(SIGNATURE)}).to_string()
        }
        _ => return None,
    };
    Some((200, if body.starts_with('{') { "application/json" } else { "text/plain" }, body))
}

fn config(google: bool, url: &str) -> Config {
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => {
                if google {
                    "gcp"
                } else {
                    "aws"
                }
            }
            "ANYCLOUD_BUCKET" => "b",
            "GOOGLE_CLOUD_PROJECT" => "p",
            "CLOUD_RUN_REGION" => "europe-west1",
            "AWS_REGION" => "us-east-1",
            "ECS_CLUSTER" => "default",
            "ECS_SUBNETS" => "subnet-1",
            // Not those of STS and of the logs, or it would pass for an emulator, which has no credentials.
            "AWS_ENDPOINT_URL_S3" | "AWS_ENDPOINT_URL_SECRETS_MANAGER" | "AWS_ENDPOINT_URL_ECS" => url,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .expect("the settings are complete");
    for endpoint in [
        &mut config.gcp.storage_endpoint,
        &mut config.gcp.secret_manager_endpoint,
        &mut config.gcp.cloud_run_endpoint,
        &mut config.gcp.logging_endpoint,
        &mut config.gcp.iam_credentials_endpoint,
    ] {
        *endpoint = Some(url.to_owned());
    }
    config.retry = anycloud::retry::RetryPolicy { max_attempts: 3, ..gcp::policy() };
    config
}

/// Tells the server something, without a client that would be searched. Gives the body of its answer.
fn tell(url: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).expect("it is there");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// The process with the credentials. Gives how many secrets it learned of afterwards.
pub(crate) async fn child() -> usize {
    let url = std::env::var(SERVER).expect("started by its parent");
    let file = std::env::var("GOOGLE_APPLICATION_CREDENTIALS");
    let google = file.is_ok() || std::env::var_os("GCE_METADATA_HOST").is_some();
    let config = config(google, &url);
    inspect_debug(&config);
    // While nobody gives any credentials, and then once they do.
    let early = Cloud::connect(config.clone()).expect("no network is needed");
    let (key, name) = (ObjectKey::new("early").expect("a key"), SecretName::new("early").expect("a name"));
    inspect_all(&[
        early.objects().get_bytes(&key).await.map(drop),
        early.objects().sign(&key, SignOptions::get(Duration::from_secs(60))).await.map(drop),
        early.secrets().get_latest(&name).await.map(drop),
    ]);
    tell(&url, "/generous");
    let cloud = Cloud::connect(config).expect("no network is needed");
    let urls = use_everything(&cloud, "job").await;
    let mut secrets: Vec<(&str, Vec<u8>)> = Vec::new();
    let heard: Vec<String> = serde_json::from_str(&tell(&url, "/heard")).expect("a list");
    for text in heard {
        // The last part of a token is its signature.
        secrets.push(("a signature of a request", text.rsplit('.').next().unwrap_or_default().as_bytes().to_vec()));
    }
    for url in urls {
        let signature = url.split_once("Signature=").expect("it is signed").1.split('&').next().unwrap_or_default();
        secrets.push(("the signature of a URL", signature.as_bytes().to_vec()));
    }
    let credentials: Option<Value> = file.ok().and_then(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok());
    if let Some(pem) = credentials.as_ref().and_then(|file| file["private_key"].as_str()) {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(body).expect("base64");
        // Beyond the modulus, which is public.
        secrets.push(("the private key", der[der.len() - 200..der.len() - 152].to_vec()));
    }
    learn(&secrets);
    secrets.len()
}
