//! Key file, metadata server, workload identity federation, impersonation.

use anycloud::gcp_emulator::FederatedToken;
use anycloud::job_runner::ListExecutions;
use anycloud::{ErrorKind, ObjectKey, ObjectStoreExt as _, SecretName, SecretStoreExt as _, SecretValue};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::{ACCOUNT, World, cloud, key_file};

const AUDIENCE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider";
const PRINCIPAL: &str =
    "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/subject/s";

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn every_service_is_used() {
    let cloud = cloud();
    let key = ObjectKey::new("k").expect("a key");
    cloud.objects().put(&key, "hello".into(), Default::default()).await.expect("stored");
    assert_eq!(cloud.objects().get_bytes(&key).await.expect("read"), "hello");
    let name = SecretName::new("s").expect("a name");
    cloud.secrets().create(&name, SecretValue::from("v"), Default::default()).await.expect("created");
    cloud.secrets().get_latest(&name).await.expect("read");
    let executions: Vec<_> = cloud.jobs().list(ListExecutions::default()).try_collect().await.expect("listed");
    assert!(executions.is_empty());
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn everything_is_refused() {
    let cloud = cloud();
    let error = cloud.objects().get_bytes(&ObjectKey::new("k").expect("a key")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    let error = cloud.secrets().get_latest(&SecretName::new("s").expect("a name")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
}

const USED: &str = "credentials::every_service_is_used";
const REFUSED: &str = "credentials::everything_is_refused";

fn with_project(mut world: World) -> World {
    world.environment.push(("GOOGLE_CLOUD_PROJECT", "p".into()));
    world.environment.push(("CLOUD_RUN_REGION", "europe-west1".into()));
    world
}

#[test]
fn a_key_file_signs_its_own_tokens_and_asks_nobody() {
    let (file, public) = key_file();
    let world = World::new(|config| drop(config.signing_keys.insert(ACCOUNT.into(), public)));
    let world = with_project(world.credentials(&file));
    world.run(USED);
    assert_eq!((world.calls("oauth2.token"), world.calls("metadata.token")), (0, 0));
}

#[test]
fn a_key_that_is_not_the_accounts_is_refused() {
    let (_, public) = key_file();
    let (other, _) = key_file();
    let world = World::new(|config| drop(config.signing_keys.insert(ACCOUNT.into(), public)));
    with_project(world.credentials(&other)).run(REFUSED);
}

#[test]
fn on_a_machine_the_metadata_server_gives_token_project_and_region() {
    let world = World::new(|_| {}).on_a_machine();
    world.run(USED);
    for (method, calls) in [("metadata.token", 1), ("metadata.project", 1), ("metadata.region", 1)] {
        assert_eq!(world.calls(method), calls, "{method}");
    }
}

#[test]
fn a_machine_without_an_account_has_no_credentials() {
    let world = World::new(|config| config.identity.accounts.clear()).on_a_machine();
    world.run(REFUSED);
}

/// <https://google.aip.dev/auth/4117>
pub(crate) fn federated(world: &World, impersonate: bool) -> Value {
    let url = world.emulator.url();
    let mut file = json!({
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{url}/v1/token"),
        "credential_source": {"file": world.file("subject-token", "a token of another provider")},
    });
    if impersonate {
        let account = format!("{url}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken");
        file["service_account_impersonation_url"] = json!(account);
    }
    file
}

pub(crate) fn pool(subject_token: &str) -> World {
    with_project(World::new(|config| {
        config.identity.federated.push(FederatedToken {
            audience: AUDIENCE.into(),
            subject_token: subject_token.into(),
            principal: PRINCIPAL.into(),
        });
        config.identity.token_creators.push((PRINCIPAL.into(), ACCOUNT.into()));
    }))
}

#[test]
fn a_federated_token_is_exchanged_and_used() {
    let world = pool("a token of another provider");
    let file = federated(&world, false);
    let world = world.credentials(&file);
    world.run(USED);
    assert!(world.calls("sts.token") >= 1);
}

#[test]
fn a_federated_identity_acts_as_a_service_account() {
    let world = pool("a token of another provider");
    let file = federated(&world, true);
    let world = world.credentials(&file);
    world.run(USED);
    let acting = world.calls("iamcredentials.projects.serviceAccounts.generateAccessToken");
    assert!(world.calls("sts.token") >= 1 && acting >= 1);
}

#[test]
fn a_token_that_the_pool_does_not_know_is_refused() {
    let world = pool("quite another token");
    let file = federated(&world, false);
    world.credentials(&file).run(REFUSED);
}

/// <https://google.aip.dev/auth/4115>
pub(crate) fn impersonating(world: &World, source: &Value) -> Value {
    let url = world.emulator.url();
    json!({
        "type": "impersonated_service_account",
        "service_account_impersonation_url":
            format!("{url}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"),
        "source_credentials": source,
    })
}

/// A world in which the owner of the key file may act as the account.
pub(crate) fn impersonated() -> World {
    const PERSON: &str = "person@p.iam.gserviceaccount.com";
    let (mut source, public) = key_file();
    source["client_email"] = json!(PERSON);
    let world = World::new(|config| {
        config.signing_keys.insert(PERSON.into(), public);
        config.identity.token_creators.push((PERSON.into(), ACCOUNT.into()));
    });
    let file = impersonating(&world, &source);
    with_project(world.credentials(&file))
}

#[test]
fn a_service_account_is_acted_as() {
    let world = impersonated();
    world.run(USED);
    assert!(world.calls("iamcredentials.projects.serviceAccounts.generateAccessToken") >= 1);
}

#[test]
fn acting_as_an_account_needs_the_role() {
    let (source, public) = key_file();
    let world = World::new(|config| {
        config.identity.token_creators.clear();
        config.signing_keys.insert(ACCOUNT.into(), public);
    });
    let file = impersonating(&world, &source);
    with_project(world.credentials(&file)).run(REFUSED);
}

#[test]
fn oauth_takes_a_signed_token_of_the_account_and_no_other() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeyPair;
    use aws_lc_rs::signature::RSA_PKCS1_SHA256;
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    let (file, public) = key_file();
    let world = World::new(|config| drop(config.signing_keys.insert(ACCOUNT.into(), public)));
    let body: String =
        file["private_key"].as_str().expect("PEM").lines().filter(|line| !line.starts_with("-----")).collect();
    let key = KeyPair::from_pkcs8(&BASE64_STANDARD.decode(body).expect("base64")).expect("a key");
    let http = super::http::Http::new(world.emulator.url());
    let now = jiff::Timestamp::now().as_second();
    let good = json!({"iss": ACCOUNT, "scope": "s", "aud": "https://oauth2.googleapis.com/token",
        "iat": now, "exp": now + 3600});
    let ask = |claims: &Value, spoil: &str| {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "RS256", "typ": "JWT"})), encode(claims));
        let mut signature = vec![0; key.public_modulus_len()];
        let text = format!("{signed}{spoil}");
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("a signature");
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        let form = format!("{grant}&assertion={signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let answer = http.send("POST", "/token", &kind, form.as_bytes()).expect("an answer");
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(&good, ""), (200, String::new()));
    assert_eq!(ask(&good, "x"), (400, "invalid_grant".into()));
    let changed = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        ask(&claims, "")
    };
    for (field, value) in [
        ("iss", json!("other@p.iam.gserviceaccount.com")),
        ("aud", json!("https://elsewhere.test/token")),
        ("exp", json!(now - 1)),
        ("exp", json!(now + 7200)),
        ("iat", json!(now + 600)),
    ] {
        assert_eq!(changed(field, value), (400, "invalid_grant".into()), "{field}");
    }
}
