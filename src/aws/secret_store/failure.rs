use std::time::SystemTime;

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;

use super::vault::{Request, Vault};
use crate::secret_store::{SecretMeta, SecretState};
use crate::{Error, ErrorKind, Result, SecretName};

pub(super) const DESCRIBE: &str = "secretsmanager:DescribeSecret";

/// Whether this is the answer that Secrets Manager gives, among others, for a secret that is to be deleted:
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>
pub(super) fn is_invalid_request(error: &Error) -> bool {
    error.code() == Some("InvalidRequestException")
}

pub(super) fn time(at: &aws_smithy_types::DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*at).ok()
}

impl Vault {
    pub(super) async fn describe(&self, operation: &'static str, name: &SecretName) -> Result<DescribeSecretOutput> {
        self.call(Request::read(operation, name, DESCRIBE), |client| {
            client.describe_secret().secret_id(name.as_str()).send()
        })
        .await
    }

    pub(super) async fn meta(&self, name: &SecretName) -> Result<SecretMeta> {
        const OPERATION: &str = "secret_store.describe";
        let found = self.describe(OPERATION, name).await?;
        if found.version_ids_to_stages().is_none_or(|versions| versions.is_empty()) {
            return Err(Error::new(ErrorKind::NotFound, OPERATION, name, "the secret has no version"));
        }
        let tags = found.tags().iter();
        Ok(SecretMeta {
            name: name.clone(),
            state: match found.deleted_date() {
                Some(at) => SecretState::PendingDeletion { until: time(at) },
                None => SecretState::Active,
            },
            labels: tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect(),
            created: found.created_date().and_then(time),
        })
    }

    /// What an `InvalidRequestException` means: if the secret is to be deleted, `NotFound` with the date.
    pub(super) async fn explain(&self, name: &SecretName, error: Error) -> Error {
        if !is_invalid_request(&error) {
            return error;
        }
        let operation = error.operation();
        match self.describe(operation, name).await {
            Ok(found) => match found.deleted_date() {
                Some(at) => {
                    let day = jiff::Timestamp::from_second(at.secs()).map(|at| at.to_string()).unwrap_or_default();
                    let message = format!("the secret is to be deleted on {day}; it can be restored until then");
                    error.with_kind(ErrorKind::NotFound).with_message(message)
                }
                None => error,
            },
            Err(asked) if asked.kind() == ErrorKind::NotFound => {
                error.with_kind(ErrorKind::NotFound).with_message("the secret is being deleted")
            }
            // Whoever may not ask gets the likeliest reading.
            Err(_) => {
                let message = "the secret cannot be used as it is, most likely because it is to be deleted \
                               (secretsmanager:DescribeSecret would tell)";
                error.with_kind(ErrorKind::NotFound).with_message(message)
            }
        }
    }
}
