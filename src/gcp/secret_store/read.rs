use super::api::{self, Api, Read, VERSIONS_A_PAGE};
use crate::secret_store::{Secret, SecretVersionState};
use crate::{Error, ErrorKind, Result, SecretName, VersionSelector};

const OPERATION: &str = "secret_store.get";

pub(super) async fn get(api: &Api, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
    let read = match version {
        VersionSelector::Latest => api.access(OPERATION, name, "latest").await?,
        VersionSelector::LatestEnabled => latest_enabled(api, name).await?,
        VersionSelector::Previous => previous(api, name).await?,
        // An id of another form would be taken for an alias.
        VersionSelector::Id(id) => match api::parse(id) {
            Some(number) => access(api, name, number).await?,
            None => return Err(api::no_version(OPERATION, name, id)),
        },
        VersionSelector::Alias(alias) => {
            let reserved = alias.as_str().eq_ignore_ascii_case("latest")
                || !alias.as_str().starts_with(|c: char| c.is_ascii_alphabetic())
                || !alias.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if reserved {
                return Err(api::no_version(OPERATION, name, alias));
            }
            api.access(OPERATION, name, alias.as_str()).await?
        }
    };
    let version = api::id(read.number)?;
    Ok(Secret { name: name.clone(), version, value: read.value, created: None })
}

async fn access(api: &Api, name: &SecretName, number: u64) -> Result<Read> {
    api.access(OPERATION, name, &number.to_string()).await
}

async fn latest_enabled(api: &Api, name: &SecretName) -> Result<Read> {
    match api.access(OPERATION, name, "latest").await {
        Err(error) if error.kind() == ErrorKind::VersionDisabled => match newest_enabled(api, name, None).await? {
            Some(number) => access(api, name, number).await,
            None => Err(error.with_message("every version is disabled or destroyed")),
        },
        read => read,
    }
}

async fn previous(api: &Api, name: &SecretName) -> Result<Read> {
    let (newest, _) = api.versions(OPERATION, name, 1, "").await?;
    let before = newest.first().map(|version| version.number);
    let number = match before {
        Some(current) => newest_enabled(api, name, Some(current)).await?,
        None => None,
    };
    match number {
        Some(number) => access(api, name, number).await,
        None => Err(Error::new(ErrorKind::NotFound, OPERATION, name, "there is no enabled version before the current")),
    }
}

/// The highest number of an enabled version, below the given one. The listing is by time of creation, newest first.
async fn newest_enabled(api: &Api, name: &SecretName, below: Option<u64>) -> Result<Option<u64>> {
    let mut token = String::new();
    loop {
        let (page, next) = api.versions(OPERATION, name, VERSIONS_A_PAGE, &token).await?;
        let found = page
            .iter()
            .filter(|version| version.state == SecretVersionState::Enabled)
            .map(|version| version.number)
            .filter(|number| below.is_none_or(|below| *number < below))
            .max();
        if found.is_some() || next.is_empty() {
            return Ok(found);
        }
        token = next;
    }
}
