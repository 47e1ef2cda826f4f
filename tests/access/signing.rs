//! URLs signed with a key file, and by IAM without one; the emulator verifies them.

use std::time::Duration;

use anycloud::object_store::{SignOptions, SignedRequest};
use anycloud::{ErrorKind, ObjectKey, ObjectStoreExt as _};
use serde_json::json;

use super::credentials::{federated, impersonated, pool};
use super::http::{Answer, Http};
use super::{ACCOUNT, World, cloud, key_file};

const SIGN_BLOB: &str = "iamcredentials.projects.serviceAccounts.signBlob";
const HOUR: Duration = Duration::from_secs(3600);

/// Makes a signed request, or one that differs from it.
fn send(request: &SignedRequest, change: impl Fn(&str) -> String, method: &str, headers: &[(&str, &str)]) -> Answer {
    let url = change(request.url.expose());
    let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    Http::new(host).send(method, &format!("/{path}"), headers, b"hello").expect("an answer")
}

fn same(url: &str) -> String {
    url.to_owned()
}

fn code(answer: &Answer) -> (u16, String) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    (answer.status, code.map_or_else(String::new, |(code, _)| code.to_owned()))
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn signed_urls_hold_as_they_were_signed() {
    let cloud = cloud();
    let objects = cloud.objects();
    let key = ObjectKey::new("a b/ü").expect("a key");
    let mut options = SignOptions::put(HOUR);
    options.content_type = Some("text/plain".into());
    options.create_only = true;
    let put = objects.sign(&key, options).await.expect("signed");
    let headers: Vec<_> = put.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mismatch = (403, "SignatureDoesNotMatch".to_owned());
    // Without a signed header, with another value of one, with another method, for another object.
    assert_eq!(code(&send(&put, same, "PUT", &headers[..1])), mismatch);
    let other = [("content-type", "text/html"), headers[1]];
    assert_eq!(code(&send(&put, same, "PUT", &other)), mismatch);
    assert_eq!(code(&send(&put, same, "DELETE", &headers)), mismatch);
    assert_eq!(code(&send(&put, |url| url.replace("/a%20b/", "/a%20c/"), "PUT", &headers)), mismatch);
    assert_eq!(send(&put, same, "PUT", &headers).status, 200);
    assert_eq!(code(&send(&put, same, "PUT", &headers)), (412, "PreconditionFailed".into()));
    assert_eq!(objects.get_bytes(&key).await.expect("read"), "hello");

    let mut options = SignOptions::get(HOUR);
    options.response_content_disposition = Some("attachment".into());
    let get = objects.sign(&key, options).await.expect("signed");
    let answer = send(&get, same, "GET", &[]);
    assert_eq!((answer.status, answer.header("content-disposition")), (200, Some("attachment")));
    let longer = |url: &str| url.replace("X-Goog-Expires=3600", "X-Goog-Expires=7200");
    assert_eq!(code(&send(&get, longer, "GET", &[])), mismatch);
    assert_eq!(code(&send(&get, |url| url.replace("=attachment", "=inline"), "GET", &[])), mismatch);

    let brief = objects.sign(&key, SignOptions::get(Duration::from_secs(1))).await.expect("signed");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(code(&send(&brief, same, "GET", &[])), (400, "ExpiredToken".into()));
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn seven_days_are_the_most() {
    let (objects, key) = (cloud().objects().clone(), ObjectKey::new("k").expect("a key"));
    let week = Duration::from_secs(7 * 24 * 3600);
    objects.sign(&key, SignOptions::get(week)).await.expect("signed");
    let error = objects.sign(&key, SignOptions::get(week + HOUR)).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn twelve_hours_are_the_most() {
    let (objects, key) = (cloud().objects().clone(), ObjectKey::new("k").expect("a key"));
    for asked in [HOUR, 12 * HOUR, 13 * HOUR, 7 * 24 * HOUR] {
        let before = std::time::SystemTime::now();
        let signed = objects.sign(&key, SignOptions::get(asked)).await.expect("signed");
        let held = asked.min(12 * HOUR);
        assert!(signed.url.expose().contains(&format!("X-Goog-Expires={}&", held.as_secs())), "{asked:?}");
        assert!(signed.expires_at >= before + held && signed.expires_at <= std::time::SystemTime::now() + held);
    }
    let error = objects.sign(&key, SignOptions::get(8 * 24 * HOUR)).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn a_denial_names_account_and_role() {
    let key = ObjectKey::new("k").expect("a key");
    let error = cloud().objects().sign(&key, SignOptions::get(HOUR)).await.expect_err("denied");
    assert_eq!((error.kind(), error.status()), (ErrorKind::PermissionDenied, Some(403)), "{error:?}");
    for word in [ACCOUNT, "roles/iam.serviceAccountTokenCreator", "iam.serviceAccounts.signBlob"] {
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn who_is_no_service_account_cannot_sign() {
    let key = ObjectKey::new("k").expect("a key");
    let error = cloud().objects().sign(&key, SignOptions::get(HOUR)).await.expect_err("unsupported");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.message().contains("service_account_impersonation_url"), "{error}");
}

const HOLD: &str = "signing::signed_urls_hold_as_they_were_signed";

#[test]
fn a_key_file_signs_for_a_week_and_asks_nobody() {
    let (file, public) = key_file();
    let world = World::new(|config| drop(config.signing_keys.insert(ACCOUNT.into(), public)));
    let world = world.credentials(&file);
    world.run(HOLD);
    world.run("signing::seven_days_are_the_most");
    assert_eq!(world.calls(SIGN_BLOB), 0);
}

#[test]
fn a_machine_signs_by_iam_for_twelve_hours() {
    let world = World::new(|_| {}).on_a_machine();
    world.run(HOLD);
    world.run("signing::twelve_hours_are_the_most");
    assert!(world.calls(SIGN_BLOB) >= 3);
    assert_eq!(world.calls("metadata.email"), 2, "once for each program");
}

#[test]
fn a_federated_identity_signs_by_the_account_that_it_acts_as() {
    let world = pool("a token of another provider");
    let file = federated(&world, true);
    let world = world.credentials(&file);
    world.run(HOLD);
    assert!(world.calls(SIGN_BLOB) >= 3);
}

#[test]
fn an_impersonated_account_signs_with_its_own_key() {
    let world = impersonated();
    world.run(HOLD);
    assert!(world.calls(SIGN_BLOB) >= 3);
}

#[test]
fn a_machine_whose_account_may_not_sign_says_who_needs_what() {
    let world = World::new(|config| config.identity.token_creators.clear()).on_a_machine();
    world.run("signing::a_denial_names_account_and_role");
    assert_eq!(world.calls(SIGN_BLOB), 1, "a denial is not repeated");
}

#[test]
fn identities_without_an_account_are_told_so() {
    let world = pool("a token of another provider");
    let file = federated(&world, false);
    world.credentials(&file).run("signing::who_is_no_service_account_cannot_sign");
    let person = json!({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"});
    World::new(|_| {}).credentials(&person).run("signing::who_is_no_service_account_cannot_sign");
}
