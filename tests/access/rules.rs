//! What holds of connections, whatever the provider and the environment.

use std::time::Duration;

use anycloud::object_store::SignOptions;
use anycloud::{Cloud, Config, ObjectKey, ObjectStoreExt as _, SecretName, SecretStoreExt as _};

use super::server::Server;
use super::{World, child, key_file};

const SECRET: &str = "the-value-of-the-secret";

pub(super) fn cloud() -> Cloud {
    Cloud::connect(Config::from_env().expect("the settings are complete")).expect("no network is needed")
}

/// Uses objects and secrets once each, whatever comes of it.
async fn use_everything(cloud: &Cloud) -> Vec<String> {
    let key = ObjectKey::new("k").expect("a key");
    let name = SecretName::new("s").expect("a name");
    let errors = [
        cloud.objects().put(&key, "hello".into(), Default::default()).await.err(),
        cloud.objects().get_bytes(&key).await.err(),
        cloud.objects().sign(&key, SignOptions::get(Duration::from_secs(60))).await.err(),
        cloud.secrets().put_value(&name, SECRET).await.err(),
        cloud.secrets().get_latest(&name).await.err(),
    ];
    errors.into_iter().flatten().map(|error| format!("{error}; {error:?}")).collect()
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn an_emulator_is_used() {
    let errors = use_everything(&cloud()).await;
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn whatever_comes_of_it() {
    let errors = use_everything(&cloud()).await;
    assert!(errors.len() >= 4 && !format!("{errors:?}").contains(SECRET), "{errors:?}");
}

const USED: &str = "rules::an_emulator_is_used";
const ANYHOW: &str = "rules::whatever_comes_of_it";

pub(super) fn gcp(url: &str) -> Vec<(&'static str, String)> {
    let mut environment: Vec<_> = [
        "STORAGE_EMULATOR_HOST",
        "SECRET_MANAGER_EMULATOR_HOST",
        "CLOUD_RUN_EMULATOR_HOST",
        "CLOUD_LOGGING_EMULATOR_HOST",
    ]
    .map(|name| (name, url.to_owned()))
    .into();
    for (name, value) in [
        ("CLOUD_PROVIDER", "gcp"),
        ("ANYCLOUD_BUCKET", "b"),
        ("GOOGLE_CLOUD_PROJECT", "p"),
        ("CLOUD_RUN_REGION", "europe-west1"),
        ("ANYCLOUD_MAX_ATTEMPTS", "1"),
    ] {
        environment.push((name, value.to_owned()));
    }
    environment
}

pub(super) fn aws(url: &str) -> Vec<(&'static str, String)> {
    [
        ("CLOUD_PROVIDER", "aws"),
        ("ANYCLOUD_BUCKET", "b"),
        ("AWS_ENDPOINT_URL", url),
        ("ANYCLOUD_MAX_ATTEMPTS", "1"),
        ("HOME", "/nonexistent"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

pub(super) fn aws_keys() -> [(&'static str, String); 3] {
    [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "made-up".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ]
}

#[test]
fn beside_an_emulator_of_google_cloud_neither_credentials_nor_metadata_are_looked_up() {
    let world = World::new(|config| config.identity = Default::default());
    let metadata = Server::plain(200, "metadata-flavor: Google\r\n");
    let mut environment = gcp(world.emulator.url());
    environment.push(("GCE_METADATA_HOST", metadata.host.clone()));
    // A file that cannot be read would be an error if anybody tried.
    environment.push(("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/credentials.json".into()));
    child(USED, &environment);
    assert_eq!(metadata.requests(), Vec::<String>::new());
}

#[test]
fn beside_an_emulator_of_aws_no_metadata_is_looked_up() {
    let emulator = Server::plain(404, "");
    let metadata = Server::plain(200, "");
    let address = format!("http://{}", metadata.host);
    let mut environment = aws(&format!("http://{}", emulator.host));
    environment.extend([
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", address.clone()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{address}/credentials")),
    ]);
    child(ANYHOW, &environment);
    // Without a region too.
    environment.retain(|(name, _)| *name != "AWS_REGION");
    child(ANYHOW, &environment);
    assert_eq!(metadata.requests(), Vec::<String>::new());
}

#[test]
fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Server::plain(200, "");
        let location = format!("location: http://{}/elsewhere\r\n", elsewhere.host);
        let real = Server::plain(status, &location);
        let url = format!("http://{}", real.host);
        let mut environment = aws(&url);
        environment.extend(aws_keys());
        child(ANYHOW, &environment);
        let seen = real.requests().iter().filter(|request| request.contains("AKIDEXAMPLE")).count();
        assert!(seen >= 2, "the credentials were used where they belong");

        let (file, _) = key_file();
        let world = World::new(|_| {}).credentials(&file);
        let mut environment = world.environment.clone();
        environment.push(("GOOGLE_CLOUD_PROJECT", "p".into()));
        environment.retain(|(name, _)| *name != super::URL);
        environment.push((super::URL, url));
        child("rules::google_cloud_with_credentials", &environment);
        let bearer = |request: &&String| request.to_ascii_lowercase().contains("authorization: bearer");
        assert!(real.requests().iter().filter(bearer).count() >= 2, "the credentials were used where they belong");

        assert_eq!(elsewhere.requests(), Vec::<String>::new(), "{status}");
    }
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn google_cloud_with_credentials() {
    let errors = use_everything(&super::cloud()).await;
    assert!(errors.len() >= 4 && !format!("{errors:?}").contains(SECRET), "{errors:?}");
}

/// What switches verification off elsewhere, or might be thought to here.
const SWITCHES: &[(&str, &str)] = &[
    ("ANYCLOUD_ALLOW_HTTP", "true"),
    ("ANYCLOUD_INSECURE", "true"),
    ("ANYCLOUD_SKIP_SIGNATURE", "true"),
    ("AWS_ALLOW_HTTP", "true"),
    ("AWS_NO_VERIFY_SSL", "true"),
    ("AWS_S3_ALLOW_INSECURE", "true"),
    ("AWS_SKIP_VERIFY", "true"),
    ("ALLOW_INVALID_CERTIFICATES", "true"),
    ("CLOUDSDK_AUTH_DISABLE_SSL_VALIDATION", "true"),
    ("CURL_INSECURE", "1"),
    ("CURL_CA_BUNDLE", ""),
    ("GIT_SSL_NO_VERIFY", "1"),
    ("GOOGLE_ALLOW_INVALID_CERTIFICATES", "true"),
    ("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false"),
    ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
    ("PYTHONHTTPSVERIFY", "0"),
    ("REQUESTS_CA_BUNDLE", ""),
    ("RUSTLS_DANGER_ACCEPT_INVALID_CERTS", "1"),
    ("SSL_NO_VERIFY", "1"),
    ("SSL_VERIFY", "false"),
];

#[test]
fn no_variable_switches_the_verification_of_certificates_off() {
    for provider in [aws, gcp] {
        let server = Server::self_signed();
        let mut environment = provider(&format!("https://{}", server.host));
        environment.extend(aws_keys());
        environment.extend(SWITCHES.iter().map(|(name, value)| (*name, (*value).to_owned())));
        child(ANYHOW, &environment);
        assert_eq!(server.requests(), Vec::<String>::new());
        // Only who trusts the certificate itself talks to the server.
        let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access/certificate.pem");
        environment.push(("SSL_CERT_FILE", certificate.to_owned()));
        child(ANYHOW, &environment);
        assert!(!server.requests().is_empty());
    }
}
