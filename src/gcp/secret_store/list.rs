use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use google_cloud_secretmanager_v1::model;

use super::api::{self, Api, VERSIONS_A_PAGE};
use crate::secret_store::{ListSecrets, SecretMeta, SecretState, SecretVersion};
use crate::{Error, ErrorKind, Result, SecretAlias, SecretName};

/// What is known of a secret; one without versions counts as absent.
pub(super) async fn describe(api: &Api, operation: &'static str, name: &SecretName) -> Result<SecretMeta> {
    let (secret, (versions, _)) = tokio::try_join!(api.secret(operation, name), api.versions(operation, name, 1, ""))?;
    if versions.is_empty() {
        return Err(shell(operation, name));
    }
    Ok(meta(name.clone(), secret))
}

fn shell(operation: &'static str, name: &SecretName) -> Error {
    Error::new(ErrorKind::NotFound, operation, name, "the secret has no version")
}

fn meta(name: SecretName, secret: model::Secret) -> SecretMeta {
    SecretMeta {
        name,
        state: SecretState::Active,
        labels: secret.labels.into_iter().collect(),
        created: secret.create_time.and_then(|time| SystemTime::try_from(time).ok()),
    }
}

/// Lists in byte order: the service lists by time of creation, so all names are read first.
pub(super) fn secrets(api: Arc<Api>, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
    flattened(async move {
        let filter = filter(&options);
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let (page, next) = api.secrets(&filter, &token).await?;
            found.extend(page.into_iter().filter_map(|secret| listed(secret, &options)));
            if next.is_empty() {
                break;
            }
            token = next;
        }
        found.sort_by(|one, two| one.name.cmp(&two.name));
        found.dedup_by(|one, two| one.name == two.name);
        Ok(found)
    })
}

/// <https://cloud.google.com/secret-manager/docs/filtering>
fn filter(options: &ListSecrets) -> String {
    let conditions: Vec<String> = options.labels.iter().map(|(key, value)| format!("labels.{key}={value}")).collect();
    conditions.join(" AND ")
}

fn listed(secret: model::Secret, options: &ListSecrets) -> Option<SecretMeta> {
    let last = secret.name.rsplit('/').next().unwrap_or_default();
    let name = SecretName::new(last).ok().filter(|name| name.as_str().starts_with(&options.prefix))?;
    let meta = meta(name, secret);
    // A filter on a label without a value would be one on its presence.
    let labelled = options.labels.iter().all(|(key, value)| meta.labels.get(key) == Some(value));
    labelled.then_some(meta)
}

pub(super) fn versions(api: Arc<Api>, name: SecretName) -> BoxStream<'static, Result<SecretVersion>> {
    const OPERATION: &str = "secret_store.list_versions";
    flattened(async move {
        let secret = api.secret(OPERATION, &name).await?;
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let (page, next) = api.versions(OPERATION, &name, VERSIONS_A_PAGE, &token).await?;
            all.extend(page);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        if all.is_empty() {
            return Err(shell(OPERATION, &name));
        }
        all.sort_by_key(|version| std::cmp::Reverse(version.number));
        all.dedup_by_key(|version| version.number);
        let described = all.iter().enumerate().map(|(place, version)| {
            Ok(SecretVersion {
                id: api::id(version.number)?,
                state: version.state,
                current: place == 0,
                aliases: aliases(&secret.version_aliases, version.number),
                created: version.created,
            })
        });
        described.collect::<Result<Vec<_>>>()
    })
}

fn aliases(all: &HashMap<String, i64>, number: u64) -> Vec<SecretAlias> {
    let mut own: Vec<SecretAlias> = all
        .iter()
        .filter(|(_, target)| u64::try_from(**target) == Ok(number))
        .filter_map(|(alias, _)| SecretAlias::new(alias.as_str()).ok())
        .collect();
    own.sort();
    own
}

fn flattened<T: Send + 'static>(
    all: impl Future<Output = Result<Vec<T>>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    stream::once(all).map_ok(|items| stream::iter(items.into_iter().map(Ok))).try_flatten().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_filtered_by_the_service_and_again_here() {
        let labels = [("team".to_owned(), "a".to_owned()), ("stage".to_owned(), String::new())];
        let options = ListSecrets { prefix: "db".into(), labels: labels.into(), ..ListSecrets::default() };
        assert_eq!(filter(&options), "labels.stage= AND labels.team=a");
        let secret = |name: &str, labels: &[(&str, &str)]| {
            model::Secret::new().set_name(format!("projects/1/secrets/{name}")).set_labels(labels.iter().copied())
        };
        let kept = listed(secret("db-1", &[("team", "a"), ("stage", "")]), &options);
        assert_eq!(kept.unwrap().name.as_str(), "db-1");
        assert!(listed(secret("db-1", &[("team", "a"), ("stage", "x")]), &options).is_none());
        assert!(listed(secret("web", &[("team", "a"), ("stage", "")]), &options).is_none());
    }
}
