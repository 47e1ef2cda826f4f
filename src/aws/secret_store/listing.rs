use std::sync::Arc;

use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry};
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::failure::time;
use super::stages::{CURRENT, PREVIOUS, is_alias};
use super::vault::{Request, Vault};
use crate::retry::Safety;
use crate::secret_store::{ListSecrets, SecretMeta, SecretState, SecretVersion, SecretVersionState};
use crate::{Error, ErrorKind, Result, SecretAlias, SecretName, SecretVersionId};

const LIST: &str = "secret_store.list";
const LIST_VERSIONS: &str = "secret_store.list_versions";
/// The most that a page takes: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecrets.html>
const PAGE: i32 = 100;

/// The secrets, held in memory to be put in order: Secrets Manager has no byte order.
pub(super) fn secrets(vault: Arc<Vault>, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
    in_full(async move { vault.all_secrets(&options).await })
}

pub(super) fn versions(vault: Arc<Vault>, name: SecretName) -> BoxStream<'static, Result<SecretVersion>> {
    in_full(async move { vault.all_versions(LIST_VERSIONS, &name).await })
}

fn in_full<T: Send + 'static>(
    all: impl Future<Output = Result<Vec<T>>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let entries = |all: Result<Vec<T>>| match all {
        Ok(entries) => stream::iter(entries.into_iter().map(Ok).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(error)]),
    };
    stream::once(all).flat_map(entries).boxed()
}

fn same_page(operation: &'static str, subject: &str) -> Error {
    Error::new(ErrorKind::Internal, operation, subject, "the listing goes on, and does not say where")
}

impl Vault {
    async fn all_secrets(&self, options: &ListSecrets) -> Result<Vec<SecretMeta>> {
        // No name of ours has other characters, and some of them would mean something in a filter.
        let portable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !options.prefix.chars().all(portable) {
            return Ok(Vec::new());
        }
        let by_name = (!options.prefix.is_empty()).then(|| filter(FilterNameStringType::Name, &options.prefix));
        let by_label = options.labels.keys().next().map(|key| filter(FilterNameStringType::TagKey, key));
        let filters: Vec<Filter> = by_name.into_iter().chain(by_label).collect();
        let request = Request {
            operation: LIST,
            name: &options.prefix,
            permission: "secretsmanager:ListSecrets",
            safety: Safety::Read,
        };
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let answer = self
                .call(request, |client| {
                    client
                        .list_secrets()
                        .max_results(PAGE)
                        .include_planned_deletion(options.include_pending_deletion)
                        .set_filters((!filters.is_empty()).then(|| filters.clone()))
                        .set_next_token(token.clone())
                        .send()
                })
                .await?;
            found.extend(answer.secret_list().iter().filter_map(|entry| meta(entry, options)));
            match answer.next_token.filter(|token| !token.is_empty()) {
                None => break,
                next if next == token => return Err(same_page(LIST, &options.prefix)),
                next => token = next,
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found.dedup_by(|one, other| one.name == other.name);
        Ok(found)
    }

    /// All versions, newest first, also those that have no label any more.
    pub(super) async fn all_versions(&self, operation: &'static str, name: &SecretName) -> Result<Vec<SecretVersion>> {
        let request = Request::read(operation, name, "secretsmanager:ListSecretVersionIds");
        let mut found = Vec::new();
        let mut ranks = std::collections::HashMap::new();
        let mut token: Option<String> = None;
        loop {
            let sent = self
                .call(request, |client| {
                    client
                        .list_secret_version_ids()
                        .secret_id(name.as_str())
                        .max_results(PAGE)
                        .include_deprecated(true)
                        .set_next_token(token.clone())
                        .send()
                })
                .await;
            let answer = match sent {
                Ok(answer) => answer,
                Err(error) => return Err(self.explain(name, error).await),
            };
            for version in answer.versions() {
                let Some(id) = version.version_id() else { continue };
                let stages = version.version_stages();
                let has = |label: &str| stages.iter().any(|stage| stage == label);
                ranks.insert(id.to_owned(), (has(CURRENT), has(PREVIOUS), ranks.len()));
                let alias = |stage: &String| SecretAlias::new(stage.as_str()).ok().filter(|_| is_alias(stage));
                found.push(SecretVersion {
                    id: SecretVersionId::new(id)?,
                    state: SecretVersionState::Enabled,
                    current: has(CURRENT),
                    aliases: stages.iter().filter_map(alias).collect(),
                    created: version.created_date().and_then(time),
                });
            }
            match answer.next_token.filter(|token| !token.is_empty()) {
                None => break,
                next if next == token => return Err(same_page(operation, name.as_str())),
                next => token = next,
            }
        }
        // Versions of the same moment are told apart by their labels.
        found.sort_by_cached_key(|version| {
            std::cmp::Reverse((version.created, ranks.get(version.id.as_str()).copied()))
        });
        Ok(found)
    }
}

fn filter(by: FilterNameStringType, value: &str) -> Filter {
    Filter::builder().key(by).values(value).build()
}

/// What a listed secret is, if it is one that was asked for: the service's filters match more than they should.
fn meta(entry: &SecretListEntry, options: &ListSecrets) -> Option<SecretMeta> {
    // Names that this crate does not take cannot be asked for by it either.
    let name = SecretName::new(entry.name()?).ok()?;
    let tags = entry.tags().iter();
    let meta = SecretMeta {
        state: match entry.deleted_date() {
            Some(at) => SecretState::PendingDeletion { until: time(at) },
            None => SecretState::Active,
        },
        labels: tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect(),
        created: entry.created_date().and_then(time),
        name,
    };
    let wanted = meta.name.as_str().starts_with(&options.prefix)
        && options.labels.iter().all(|(key, value)| meta.labels.get(key) == Some(value))
        && (options.include_pending_deletion || meta.state == SecretState::Active);
    wanted.then_some(meta)
}
