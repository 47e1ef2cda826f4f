//! The calls of the service, one each, in terms of this crate.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use google_cloud_secretmanager_v1::client::SecretManagerService;
use google_cloud_secretmanager_v1::model::secret_version::State;
use google_cloud_secretmanager_v1::model::{self, SecretPayload};
use google_cloud_wkt::FieldMask;
use tokio::sync::OnceCell;

use super::super::connection::Connection;
use super::super::gax::{self, Call, Words};
use super::super::place::Place;
use crate::object_store::Crc32c;
use crate::retry::{Retrier, Retrying, Safety};
use crate::secret_store::SecretVersionState;
use crate::{Error, ErrorKind, Result, SecretName, SecretValue, SecretVersionId};

/// Versions a page: most questions are about the newest few.
pub(super) const VERSIONS_A_PAGE: i32 = 100;

/// The service as the other rooms see it.
pub(super) struct Api {
    connection: Connection,
    place: Arc<Place>,
    client: OnceCell<SecretManagerService>,
}

/// A value, and the number of the version that holds it.
pub(super) struct Read {
    pub(super) number: u64,
    pub(super) value: SecretValue,
}

/// What is known of a version without its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) state: SecretVersionState,
    pub(super) created: Option<SystemTime>,
}

/// A value on its way out: shared with the caller's, and wiped with it.
struct Outgoing(SecretValue);

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

fn call(operation: &'static str, permission: &'static str) -> Call {
    Call { operation, permission, words: Words::Withheld }
}

fn corrupt(operation: &'static str, name: &SecretName) -> Error {
    Error::new(ErrorKind::Corrupt, operation, name, "the value does not match its CRC32C")
}

/// The number at the end of a version's full name.
fn number(operation: &'static str, name: &SecretName, full: &str) -> Result<u64> {
    full.rsplit('/').next().and_then(|last| last.parse().ok()).ok_or_else(|| {
        Error::new(ErrorKind::Internal, operation, name, "the service answered with a version that has no number")
    })
}

/// The number that an id of this store is; `None` for an id of another store.
pub(super) fn parse(id: &SecretVersionId) -> Option<u64> {
    let digits = id.as_str().bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| id.as_str().parse().ok()).flatten().filter(|number| *number > 0)
}

pub(super) fn id(number: u64) -> Result<SecretVersionId> {
    SecretVersionId::new(number.to_string())
}

pub(super) fn no_version(operation: &'static str, name: &SecretName, version: impl fmt::Display) -> Error {
    Error::new(ErrorKind::NotFound, operation, name, format!("there is no version `{version}`"))
}

fn version(operation: &'static str, name: &SecretName, version: model::SecretVersion) -> Result<Version> {
    let state = match version.state {
        State::Enabled => SecretVersionState::Enabled,
        State::Destroyed => SecretVersionState::Destroyed,
        // Whatever is new cannot be taken for readable.
        _ => SecretVersionState::Disabled,
    };
    let created = version.create_time.and_then(|time| SystemTime::try_from(time).ok());
    Ok(Version { number: number(operation, name, &version.name)?, state, created })
}

impl Api {
    pub(super) fn new(connection: Connection, place: Arc<Place>) -> Self {
        Self { connection, place, client: OnceCell::new() }
    }

    /// How long a claim or the creation of a shell keeps others out: longer than any call that made it still lives.
    pub(super) fn claim_life(&self) -> std::time::Duration {
        self.connection.retrier().policy().call_timeout.saturating_mul(3)
    }

    async fn client(&self) -> Result<&SecretManagerService> {
        let endpoint = self.connection.config().secret_manager_endpoint.as_ref();
        let variable = "SECRET_MANAGER_EMULATOR_HOST";
        let endpoint = gax::endpoint(&self.connection, endpoint, variable, ErrorKind::InvalidConfig)?;
        let build = || async { gax::build!(SecretManagerService, self.connection, endpoint, "gcp.secret_manager") };
        self.client.get_or_try_init(build).await
    }

    /// Makes a call, told the client and the project's name, by the one retry policy.
    async fn send<T, Fut>(
        &self,
        call: Call,
        subject: &str,
        safety: Safety,
        request: impl Fn(&SecretManagerService, String) -> Fut,
    ) -> Result<T>
    where
        Fut: Future<Output = google_cloud_gax::Result<T>>,
    {
        let ready = async { Ok((self.client().await?, self.place.project().await?)) };
        let (client, project) = ready.await.map_err(|error: Error| error.with_operation(call.operation, subject))?;
        let attempt = |_| {
            let sent = request(client, format!("projects/{project}"));
            async move { sent.await.map_err(|error| gax::error(call, subject, &error)) }
        };
        self.connection.retrier().run(call.operation, subject, safety, attempt).await
    }

    /// Reads a value. `which` is a number, an alias or `latest`.
    pub(super) async fn access(&self, operation: &'static str, name: &SecretName, which: &str) -> Result<Read> {
        let call = call(operation, "secretmanager.versions.access");
        let request = |client: &SecretManagerService, project| {
            let full = format!("{project}/secrets/{name}/versions/{which}");
            client.access_secret_version().set_name(full).send()
        };
        let answer = match self.send(call, name.as_str(), Safety::Read, request).await {
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                let message = "the version is disabled or destroyed";
                return Err(error.with_kind(ErrorKind::VersionDisabled).with_message(message));
            }
            answer => answer?,
        };
        let number = number(operation, name, &answer.name)?;
        let payload = answer.payload.unwrap_or_default();
        let expected = payload.data_crc32c;
        if expected.is_some_and(|expected| expected != i64::from(Crc32c::of(&payload.data).0)) {
            return Err(corrupt(operation, name));
        }
        Ok(Read { number, value: SecretValue::new(payload.data) })
    }

    /// Adds a version, once: an error says whether it may have been added.
    pub(super) async fn add(&self, operation: &'static str, name: &SecretName, value: &SecretValue) -> Result<u64> {
        let call = call(operation, "secretmanager.versions.add");
        let crc = i64::from(Crc32c::of(value.expose()).0);
        let request = |client: &SecretManagerService, project| {
            let data = Bytes::from_owner(Outgoing(value.clone()));
            let payload = SecretPayload::new().set_data(data).set_data_crc32c(crc);
            client.add_secret_version().set_parent(format!("{project}/secrets/{name}")).set_payload(payload).send()
        };
        let added = self.send(call, name.as_str(), Safety::Once, request).await?;
        number(operation, name, &added.name)
    }

    /// Looks at a version. `which` is a number, an alias or `latest`.
    pub(super) async fn version(&self, operation: &'static str, name: &SecretName, which: &str) -> Result<Version> {
        let call = call(operation, "secretmanager.versions.get");
        let request = |client: &SecretManagerService, project| {
            client.get_secret_version().set_name(format!("{project}/secrets/{name}/versions/{which}")).send()
        };
        version(operation, name, self.send(call, name.as_str(), Safety::Read, request).await?)
    }

    /// A page of versions, newest first, and the token of the next one.
    pub(super) async fn versions(
        &self,
        operation: &'static str,
        name: &SecretName,
        size: i32,
        token: &str,
    ) -> Result<(Vec<Version>, String)> {
        let call = call(operation, "secretmanager.versions.list");
        let request = |client: &SecretManagerService, project| {
            let parent = format!("{project}/secrets/{name}");
            client.list_secret_versions().set_parent(parent).set_page_size(size).set_page_token(token).send()
        };
        let page = self.send(call, name.as_str(), Safety::Read, request).await?;
        let versions = page.versions.into_iter().map(|one| version(operation, name, one)).collect::<Result<_>>()?;
        Ok((versions, next(operation, name.as_str(), token, page.next_page_token)?))
    }

    /// Changes the state of a version.
    pub(super) async fn change(
        &self,
        operation: &'static str,
        name: &SecretName,
        number: u64,
        to: SecretVersionState,
    ) -> Result<()> {
        let permission = match to {
            SecretVersionState::Enabled => "secretmanager.versions.enable",
            SecretVersionState::Disabled => "secretmanager.versions.disable",
            SecretVersionState::Destroyed => "secretmanager.versions.destroy",
        };
        let request = async |client: SecretManagerService, full: String| match to {
            SecretVersionState::Enabled => client.enable_secret_version().set_name(full).send().await,
            SecretVersionState::Disabled => client.disable_secret_version().set_name(full).send().await,
            SecretVersionState::Destroyed => client.destroy_secret_version().set_name(full).send().await,
        };
        let request = |client: &SecretManagerService, project| {
            request(client.clone(), format!("{project}/secrets/{name}/versions/{number}"))
        };
        self.send(call(operation, permission), name.as_str(), Safety::Repeatable, request).await.map(drop)
    }

    /// The secret itself, with labels, annotations, aliases and etag.
    pub(super) async fn secret(&self, operation: &'static str, name: &SecretName) -> Result<model::Secret> {
        let request = |client: &SecretManagerService, project| {
            client.get_secret().set_name(format!("{project}/secrets/{name}")).send()
        };
        self.send(call(operation, "secretmanager.secrets.get"), name.as_str(), Safety::Read, request).await
    }

    /// Makes a secret without a version.
    pub(super) async fn create(
        &self,
        operation: &'static str,
        name: &SecretName,
        secret: model::Secret,
    ) -> Result<model::Secret> {
        let request = |client: &SecretManagerService, project: String| {
            client.create_secret().set_parent(project).set_secret_id(name.as_str()).set_secret(secret.clone()).send()
        };
        let call = call(operation, "secretmanager.secrets.create");
        self.send(call, name.as_str(), Safety::Repeatable, request).await
    }

    /// Replaces fields of a secret that is still as it was read; `Conflict` if it is not.
    pub(super) async fn update(
        &self,
        operation: &'static str,
        name: &SecretName,
        secret: model::Secret,
        fields: &[&str],
    ) -> Result<()> {
        let request = |client: &SecretManagerService, _| {
            let mask = FieldMask::default().set_paths(fields.iter().copied());
            client.update_secret().set_secret(secret.clone()).set_update_mask(mask).send()
        };
        let call = call(operation, "secretmanager.secrets.update");
        match self.send(call, name.as_str(), Safety::Repeatable, request).await {
            // https://cloud.google.com/secret-manager/docs/etags: FAILED_PRECONDITION for an etag of the past.
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => Err(error.with_kind(ErrorKind::Conflict)),
            answer => answer.map(drop),
        }
    }

    pub(super) async fn delete(&self, name: &SecretName) -> Result<()> {
        let request = |client: &SecretManagerService, project| {
            client.delete_secret().set_name(format!("{project}/secrets/{name}")).send()
        };
        let call = call("secret_store.delete", "secretmanager.secrets.delete");
        match self.send(call, name.as_str(), Safety::Repeatable, request).await {
            // An attempt whose answer was lost has done it.
            Err(error) if error.kind() == ErrorKind::NotFound && error.may_have_applied() => Ok(()),
            answer => answer,
        }
    }

    /// A page of secrets, and the token of the next one.
    pub(super) async fn secrets(&self, filter: &str, token: &str) -> Result<(Vec<model::Secret>, String)> {
        const OPERATION: &str = "secret_store.list";
        let request = |client: &SecretManagerService, project: String| {
            client
                .list_secrets()
                .set_parent(project)
                .set_filter(filter)
                .set_page_size(1000)
                .set_page_token(token)
                .send()
        };
        let page = self.send(call(OPERATION, "secretmanager.secrets.list"), "secrets", Safety::Read, request).await?;
        Ok((page.secrets, next(OPERATION, "secrets", token, page.next_page_token)?))
    }
}

/// A token that comes back is a listing without end.
fn next(operation: &'static str, subject: &str, token: &str, next: String) -> Result<String> {
    if !next.is_empty() && next == token {
        return Err(Error::new(ErrorKind::Internal, operation, subject, "the service repeats a page of its listing"));
    }
    Ok(next)
}

impl Retrying for Api {
    fn retrier(&self) -> &Retrier {
        self.connection.retrier()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("connection", &self.connection).field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
