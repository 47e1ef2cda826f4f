use std::io::Write;
use std::sync::{Arc, Mutex};

use super::SecretsManagerStore;
use crate::aws::scripted::{Answer, Scripted, answer};
use crate::secret_store::{CreateSecretOptions, DeleteSecret, MAX_SECRET_BYTES, PutSecretOptions};
use crate::{
    ErrorKind, SecretName, SecretStore as _, SecretStoreExt as _, SecretValue, SecretVersionId, VersionSelector,
    WriteId,
};

const OLD: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";
const CANARY: &str = "canary-91be77";

async fn store(answers: impl IntoIterator<Item = Answer>) -> (Scripted, SecretsManagerStore) {
    let server = Scripted::start(answers).await;
    let store = SecretsManagerStore::with_connection(server.connection());
    (server, store)
}

fn name() -> SecretName {
    SecretName::new("db").unwrap()
}

/// Methods as the services of this protocol name them.
fn calls(server: &Scripted) -> Vec<String> {
    server.lines();
    let target = |request: &crate::aws::scripted::Request| {
        request.header("x-amz-target").unwrap().trim_start_matches("secretsmanager.").to_owned()
    };
    server.got().iter().map(target).collect()
}

fn json(body: &str) -> Answer {
    answer(200, &[("content-type", "application/x-amz-json-1.1")], body)
}

/// The form of an error:
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>
fn error(code: &str, message: &str) -> Answer {
    let body = format!("{{\"__type\":\"{code}\",\"Message\":\"{message}\"}}");
    answer(400, &[("content-type", "application/x-amz-json-1.1"), ("x-amzn-requestid", "R1")], &body)
}

fn current(version: &str, value: &str) -> Answer {
    json(&format!("{{\"Name\":\"db\",\"VersionId\":\"{version}\",\"SecretString\":\"{value}\"}}"))
}

fn described(version: &str) -> Answer {
    json(&format!("{{\"Name\":\"db\",\"VersionIdsToStages\":{{\"{version}\":[\"AWSCURRENT\"]}}}}"))
}

/// 2026-12-01T00:00:00Z
const TO_BE_DELETED: &str = "{\"Name\":\"db\",\"DeletedDate\":1796083200,\"VersionIdsToStages\":{}}";
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>: InvalidRequestException,
/// "The secret is scheduled for deletion".
const MARKED: &str = "You can't perform this operation on the secret because it was marked for deletion.";

#[tokio::test]
async fn a_secret_that_is_to_be_deleted_is_not_found_and_the_message_says_when() {
    let (_server, store) = store([error("InvalidRequestException", MARKED), json(TO_BE_DELETED)]).await;
    let error = store.get(&name(), &VersionSelector::Latest).await.unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::NotFound, Some("R1")));
    assert!(error.message().contains("2026-12-01"), "{error}");
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html>: a secret that is to be
/// deleted takes no value.
#[tokio::test]
async fn putting_on_a_deleted_secret_restores_it_first() {
    let marked = error("InvalidRequestException", MARKED);
    let answers = [marked, json(TO_BE_DELETED), json("{}"), current(OLD, "one"), json("{}")];
    let (server, store) = store(answers).await;
    let id = WriteId::random();
    let options = PutSecretOptions { write_id: Some(id.clone()), ..PutSecretOptions::default() };
    let put = store.put(&name(), "two".into(), options).await.unwrap();
    assert_eq!((put.version.as_str(), put.added), (id.as_str(), true));
    let expected = ["GetSecretValue", "DescribeSecret", "RestoreSecret", "GetSecretValue", "PutSecretValue"];
    assert_eq!(calls(&server), expected);
    assert!(server.got()[4].body.contains(id.as_str()), "the write id is the idempotency token");
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html>: "Access to KMS is not allowed".
#[tokio::test]
async fn a_denial_names_the_permission_that_lacks() {
    let (_server, kms) = store([error("AccessDeniedException", "Access to KMS is not allowed")]).await;
    let denied = kms.get_latest(&name()).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    assert!(denied.message().contains("kms:Decrypt"), "{denied}");
    let (_server, plain) = store([error("AccessDeniedException", "User: x is not authorized")]).await;
    let denied = plain.get_latest(&name()).await.unwrap_err();
    assert!(denied.message().contains("secretsmanager:GetSecretValue"), "{denied}");
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html>: ResourceExistsException.
#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_recognised_by_its_version() {
    let id = WriteId::random();
    let options = CreateSecretOptions { write_id: Some(id.clone()), ..CreateSecretOptions::default() };
    let exists = || error("ResourceExistsException", "A resource with the ID you requested already exists.");
    let (_server, ours) = store([Answer::Lost, exists(), described(id.as_str())]).await;
    assert_eq!(ours.create(&name(), "x".into(), options.clone()).await.unwrap().as_str(), id.as_str());
    let now = jiff::Timestamp::now().as_second();
    // Of a younger one it is open whether it came after ours, and ours was deleted.
    for (created, end) in [(1_400_000_000, ErrorKind::AlreadyExists), (now, ErrorKind::Indeterminate)] {
        let other = json(&format!(
            "{{\"Name\":\"db\",\"CreatedDate\":{created},\"VersionIdsToStages\":{{\"{OTHER}\":[\"AWSCURRENT\"]}}}}"
        ));
        let (_server, theirs) = store([Answer::Lost, exists(), other]).await;
        assert_eq!(theirs.create(&name(), "x".into(), options.clone()).await.unwrap_err().kind(), end);
    }
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html>: the call fails
/// if the label is on another version than the one to remove it from.
#[tokio::test]
async fn a_conditional_put_that_loses_the_race_changes_nothing() {
    let moved = error("InvalidParameterException", "The staging label AWSCURRENT is attached to another version.");
    let (server, store) = store([current(OLD, "one"), json("{}"), moved, described(OTHER), json("{}")]).await;
    let expected = SecretVersionId::new(OLD).unwrap();
    let options = PutSecretOptions { if_current: Some(expected), ..PutSecretOptions::default() };
    let lost = store.put(&name(), "two".into(), options).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PreconditionFailed);
    let (put, update) = ("PutSecretValue", "UpdateSecretVersionStage");
    assert_eq!(calls(&server), ["GetSecretValue", put, update, "DescribeSecret", update]);
    assert!(server.got()[1].body.contains("\"VersionStages\":[\"anycloud-"), "the version would be current at once");
    assert!(server.got()[2].body.contains(&format!("\"RemoveFromVersionId\":\"{OLD}\"")));
}

#[tokio::test]
async fn an_oversize_value_is_not_even_sent() {
    let (server, store) = store([]).await;
    let big = SecretValue::new(vec![b'x'; MAX_SECRET_BYTES + 1]);
    assert_eq!(store.put_value(&name(), big.clone()).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let create = store.create(&name(), big, CreateSecretOptions::default()).await;
    assert_eq!(create.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(server.lines().is_empty());
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html>: deletion without recovery
/// is carried out asynchronously, and replicas must be removed before.
#[tokio::test]
async fn an_immediate_deletion_removes_replicas_and_waits_until_the_name_is_free() {
    let replicated = "{\"Name\":\"db\",\"ReplicationStatus\":[{\"Region\":\"eu-west-1\"}]}";
    let gone = error("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    let answers = [json(replicated), json("{}"), json("{}"), json(TO_BE_DELETED), gone];
    let (server, store) = store(answers).await;
    store.delete(&name(), DeleteSecret::Immediate).await.unwrap();
    let expected =
        ["DescribeSecret", "RemoveRegionsFromReplication", "DeleteSecret", "DescribeSecret", "DescribeSecret"];
    assert_eq!(calls(&server), expected);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_and_no_error_holds_a_value_at_any_level() {
    let said = error("InternalServiceError", &format!("could not store {CANARY}"));
    let answers = [current(OLD, CANARY), said.clone(), said.clone(), said.clone(), said];
    let (server, store) = store(answers).await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // What other tests, without a subscriber, have taught the places that log.
    tracing::callsite::rebuild_interest_cache();
    let value = SecretValue::from(format!("{CANARY}-2"));
    let failed = store.put(&name(), value, PutSecretOptions::default()).await.unwrap_err();
    let quiet = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // The control: what the SDK itself would have written of that answer.
    let client = store.0.each().client().await.unwrap();
    tracing::callsite::rebuild_interest_cache();
    client.put_secret_value().secret_id("db").secret_string("x").send().await.unwrap_err();
    drop(guard);
    let loud = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(failed.kind(), ErrorKind::Indeterminate);
    assert!(std::error::Error::source(&failed).is_none());
    assert!(!format!("{failed} {failed:?}").contains(CANARY), "{failed:?}");
    assert!(!quiet.contains(CANARY), "a value was logged");
    assert!(quiet.contains("is repeated"), "the log does not work");
    assert!(loud.contains(CANARY), "the control does not leak, and the test proves nothing");
    assert_eq!(server.lines().len(), 5);
}
