//! Cases for [`SecretStore`].

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;

use super::{Case, cases, kind, unique};
use crate::secret_store::{
    CreateSecretOptions, DeleteSecret, ListSecrets, MAX_SECRET_BYTES, PutSecretOptions, SecretStage, SecretState,
    SecretVersion, SecretVersionState,
};
use crate::{
    ErrorKind, SecretAlias, SecretName, SecretStore, SecretStoreExt as _, SecretValue, SecretVersionId,
    VersionSelector, WriteId,
};

/// A store, and a name of its own for one case.
#[derive(Clone, Debug)]
pub struct Fixture {
    store: Arc<dyn SecretStore>,
    name: SecretName,
}

impl Fixture {
    /// A fixture on a store, which may hold other secrets.
    #[must_use]
    pub fn new(store: Arc<dyn SecretStore>) -> Self {
        Self { store, name: SecretName::new(unique("conformance")).expect("the case's name is valid") }
    }

    async fn create(&self, value: &str) -> SecretVersionId {
        self.store
            .create(&self.name, value.into(), CreateSecretOptions::default())
            .await
            .expect("the creation succeeds")
    }

    async fn put(&self, value: &str) -> SecretVersionId {
        self.store.put_value(&self.name, value).await.expect("the put succeeds").version
    }

    async fn read(&self, version: VersionSelector) -> String {
        let secret = self.store.get(&self.name, &version).await.expect("the version can be read");
        secret.value.expose_str().unwrap().to_owned()
    }

    async fn versions(&self) -> Vec<SecretVersion> {
        self.store.list_versions(&self.name).try_collect().await.expect("the versions can be listed")
    }

    /// Frees the name; no case may leave a secret behind in an account that bills for it.
    async fn clean(&self) {
        self.store.delete(&self.name, DeleteSecret::Immediate).await.expect("the secret can be deleted");
    }
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case<Fixture>> {
    cases![
        a_created_secret_is_read_back,
        what_is_not_there_is_not_found,
        creating_twice_is_refused,
        of_racing_creators_exactly_one_wins,
        putting_creates_or_adds_a_version,
        an_unchanged_value_adds_no_version,
        any_bytes_round_trip,
        names_of_any_text_are_exact_or_refused,
        values_out_of_bounds_are_refused,
        older_versions_are_read_by_id_and_as_previous,
        a_conditional_put_replaces_only_the_version_that_it_names,
        a_repeated_write_adds_nothing,
        versions_are_listed_newest_first,
        an_alias_points_to_its_version,
        promoting_makes_a_version_current,
        a_staged_version_is_not_current_until_promoted,
        a_disabled_version_cannot_be_read,
        a_destroyed_version_is_gone,
        an_immediate_deletion_frees_the_name,
        a_recoverable_deletion_can_be_taken_back,
        putting_revives_a_secret_that_is_to_be_deleted,
        secrets_are_listed_by_prefix_and_labels_in_order,
        fields_and_types_are_read_from_json,
        missing_secrets_are_all_named,
        no_error_or_debug_output_holds_a_value,
    ]
}

async fn a_created_secret_is_read_back(fixture: Fixture) {
    let version = fixture.create("one").await;
    let secret = fixture.store.get_latest(&fixture.name).await.unwrap();
    assert_eq!((&secret.name, &secret.version), (&fixture.name, &version));
    assert_eq!(secret.value.expose(), b"one");
    let meta = fixture.store.describe(&fixture.name).await.unwrap();
    assert_eq!((meta.name, meta.state), (fixture.name.clone(), SecretState::Active));
    assert!(fixture.store.exists(&fixture.name).await.unwrap());
    fixture.clean().await;
}

async fn what_is_not_there_is_not_found(fixture: Fixture) {
    let (store, name) = (&fixture.store, &fixture.name);
    assert_eq!(kind(store.get_latest(name).await), ErrorKind::NotFound);
    assert_eq!(kind(store.describe(name).await), ErrorKind::NotFound);
    assert_eq!(kind(store.delete(name, DeleteSecret::Immediate).await), ErrorKind::NotFound);
    let versions: Result<Vec<_>, _> = store.list_versions(name).try_collect().await;
    assert_eq!(kind(versions), ErrorKind::NotFound);
    assert!(!store.exists(name).await.unwrap());
    let error = store.get_latest(name).await.unwrap_err();
    assert_eq!((error.operation(), error.subject()), ("secret_store.get", name.as_str()), "{error}");
    fixture.create("one").await;
    let previous = store.get(name, &VersionSelector::Previous).await;
    assert_eq!(kind(previous), ErrorKind::NotFound);
    let alias = VersionSelector::Alias(SecretAlias::new("nobody").unwrap());
    assert_eq!(kind(store.get(name, &alias).await), ErrorKind::NotFound);
    fixture.clean().await;
}

async fn creating_twice_is_refused(fixture: Fixture) {
    fixture.create("one").await;
    let again = fixture.store.create(&fixture.name, "two".into(), CreateSecretOptions::default()).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
    assert_eq!(fixture.read(VersionSelector::Latest).await, "one");
    fixture.clean().await;
}

async fn of_racing_creators_exactly_one_wins(fixture: Fixture) {
    let create = async |number: usize| {
        let value = SecretValue::from(format!("writer {number}"));
        fixture.store.create(&fixture.name, value, CreateSecretOptions::default()).await
    };
    let results = join_all((0..6).map(create)).await;
    let winners: Vec<_> = results.iter().enumerate().filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(fixture.read(VersionSelector::Latest).await, format!("writer {}", winners[0].0));
    fixture.clean().await;
}

async fn putting_creates_or_adds_a_version(fixture: Fixture) {
    let first = fixture.store.put_value(&fixture.name, "one").await.unwrap();
    let second = fixture.store.put_value(&fixture.name, "two").await.unwrap();
    assert!(first.added && second.added && first.version != second.version);
    assert_eq!(fixture.read(VersionSelector::Latest).await, "two");
    assert_eq!(fixture.read(VersionSelector::Id(second.version)).await, "two");
    fixture.clean().await;
}

async fn an_unchanged_value_adds_no_version(fixture: Fixture) {
    let first = fixture.put("one").await;
    let again = fixture.store.put_value(&fixture.name, "one").await.unwrap();
    assert_eq!((again.version, again.added), (first, false));
    assert_eq!(fixture.versions().await.len(), 1);
    let options = PutSecretOptions { add_unchanged: true, ..PutSecretOptions::default() };
    let forced = fixture.store.put(&fixture.name, "one".into(), options).await.unwrap();
    assert!(forced.added);
    assert_eq!(fixture.versions().await.len(), 2);
    fixture.clean().await;
}

async fn any_bytes_round_trip(fixture: Fixture) {
    let all: Vec<u8> = (0..=255).collect();
    for value in [all, b"\xff\xfe".to_vec(), "grüße ☃\n".as_bytes().to_vec(), vec![0], vec![7; MAX_SECRET_BYTES]] {
        fixture.store.put_value(&fixture.name, value.clone()).await.unwrap();
        assert!(fixture.store.get_latest(&fixture.name).await.unwrap().value.expose() == value);
    }
    fixture.clean().await;
}

async fn values_out_of_bounds_are_refused(fixture: Fixture) {
    let over = fixture.store.put_value(&fixture.name, vec![1; MAX_SECRET_BYTES + 1]).await;
    assert_eq!(kind(over), ErrorKind::TooLarge);
    assert_eq!(kind(fixture.store.put_value(&fixture.name, "").await), ErrorKind::InvalidInput);
    let labels = [("Bad Label".to_owned(), "x".to_owned())].into();
    let options = CreateSecretOptions { labels, ..CreateSecretOptions::default() };
    assert_eq!(kind(fixture.store.create(&fixture.name, "x".into(), options).await), ErrorKind::InvalidInput);
    assert!(!fixture.store.exists(&fixture.name).await.unwrap());
}

async fn older_versions_are_read_by_id_and_as_previous(fixture: Fixture) {
    let one = fixture.put("one").await;
    fixture.put("two").await;
    assert_eq!(fixture.read(VersionSelector::Previous).await, "one");
    fixture.put("three").await;
    assert_eq!(fixture.read(VersionSelector::Previous).await, "two");
    assert_eq!(fixture.read(VersionSelector::Id(one)).await, "one");
    assert_eq!(fixture.read(VersionSelector::LatestEnabled).await, "three");
    fixture.clean().await;
}

async fn a_conditional_put_replaces_only_the_version_that_it_names(fixture: Fixture) {
    let swap = |version: &SecretVersionId| PutSecretOptions {
        if_current: Some(version.clone()),
        ..PutSecretOptions::default()
    };
    let one = fixture.put("one").await;
    let two = fixture.store.put(&fixture.name, "two".into(), swap(&one)).await.unwrap().version;
    let stale = fixture.store.put(&fixture.name, "three".into(), swap(&one)).await;
    assert_eq!(kind(stale), ErrorKind::PreconditionFailed);
    assert_eq!(fixture.read(VersionSelector::Latest).await, "two");
    if fixture.store.capabilities().atomic_conditional_put {
        let racing =
            join_all((0..6).map(|number| {
                fixture.store.put(&fixture.name, SecretValue::from(format!("racer {number}")), swap(&two))
            }))
            .await;
        assert_eq!(racing.iter().filter(|result| result.is_ok()).count(), 1, "{racing:?}");
    }
    fixture.clean().await;
    let absent = fixture.store.put(&fixture.name, "four".into(), swap(&two)).await;
    assert_eq!(kind(absent), ErrorKind::PreconditionFailed);
}

async fn a_repeated_write_adds_nothing(fixture: Fixture) {
    fixture.put("one").await;
    let options = PutSecretOptions { write_id: Some(WriteId::random()), ..PutSecretOptions::default() };
    let first = fixture.store.put(&fixture.name, "two".into(), options.clone()).await.unwrap();
    let again = fixture.store.put(&fixture.name, "two".into(), options).await.unwrap();
    assert_eq!(first.version, again.version);
    assert_eq!(fixture.versions().await.len(), 2);
    fixture.clean().await;
}

async fn versions_are_listed_newest_first(fixture: Fixture) {
    let mut ids = Vec::new();
    for value in ["one", "two", "three"] {
        ids.push(fixture.put(value).await);
    }
    ids.reverse();
    let versions = fixture.versions().await;
    assert_eq!(versions.iter().map(|version| version.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(versions.iter().map(|version| version.current).collect::<Vec<_>>(), [true, false, false]);
    assert!(versions.iter().all(|version| version.state == SecretVersionState::Enabled));
    fixture.clean().await;
}

async fn an_alias_points_to_its_version(fixture: Fixture) {
    let alias = SecretAlias::new("stable").unwrap();
    let one = fixture.put("one").await;
    let two = fixture.put("two").await;
    fixture.store.set_alias(&fixture.name, &alias, Some(&one)).await.unwrap();
    assert_eq!(fixture.read(VersionSelector::Alias(alias.clone())).await, "one");
    let versions = fixture.versions().await;
    let holder = versions.iter().find(|version| version.aliases.contains(&alias)).unwrap();
    assert_eq!(holder.id, one);
    fixture.store.set_alias(&fixture.name, &alias, Some(&two)).await.unwrap();
    assert_eq!(fixture.read(VersionSelector::Alias(alias.clone())).await, "two");
    for _ in 0..2 {
        fixture.store.set_alias(&fixture.name, &alias, None).await.unwrap();
    }
    let gone = fixture.store.get(&fixture.name, &VersionSelector::Alias(alias)).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    let reserved = SecretAlias::new("AWSCURRENT").unwrap();
    let refused = fixture.store.set_alias(&fixture.name, &reserved, Some(&one)).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
    fixture.clean().await;
}

async fn promoting_makes_a_version_current(fixture: Fixture) {
    let one = fixture.put("one").await;
    fixture.put("two").await;
    let current = fixture.store.promote(&fixture.name, &one).await.unwrap();
    assert_eq!(current == one, fixture.store.capabilities().promote_keeps_id);
    let secret = fixture.store.get_latest(&fixture.name).await.unwrap();
    assert_eq!((secret.version, secret.value.expose_str().unwrap()), (current, "one"));
    assert_eq!(fixture.read(VersionSelector::Previous).await, "two");
    fixture.clean().await;
}

async fn a_staged_version_is_not_current_until_promoted(fixture: Fixture) {
    fixture.put("one").await;
    let options = PutSecretOptions { stage: SecretStage::Staged, ..PutSecretOptions::default() };
    let staged = fixture.store.put(&fixture.name, "two".into(), options).await;
    if !fixture.store.capabilities().staged_put {
        assert_eq!(kind(staged), ErrorKind::Unsupported);
        assert_eq!(fixture.versions().await.len(), 1);
        return fixture.clean().await;
    }
    let staged = staged.unwrap();
    assert_eq!(fixture.read(VersionSelector::Latest).await, "one");
    assert_eq!(fixture.read(VersionSelector::Id(staged.version.clone())).await, "two");
    fixture.store.promote(&fixture.name, &staged.version).await.unwrap();
    assert_eq!(fixture.read(VersionSelector::Latest).await, "two");
    fixture.clean().await;
}

async fn a_disabled_version_cannot_be_read(fixture: Fixture) {
    let (store, name) = (&fixture.store, &fixture.name);
    fixture.put("one").await;
    let two = fixture.put("two").await;
    let disabled = store.disable(name, &two).await;
    if !store.capabilities().version_states {
        assert_eq!(kind(disabled), ErrorKind::Unsupported);
        assert_eq!(kind(store.enable(name, &two).await), ErrorKind::Unsupported);
        return fixture.clean().await;
    }
    disabled.unwrap();
    store.disable(name, &two).await.unwrap();
    assert_eq!(kind(store.get_latest(name).await), ErrorKind::VersionDisabled);
    assert_eq!(kind(store.get(name, &VersionSelector::Id(two.clone())).await), ErrorKind::VersionDisabled);
    assert_eq!(fixture.read(VersionSelector::LatestEnabled).await, "one");
    assert_eq!(fixture.versions().await[0].state, SecretVersionState::Disabled);
    for _ in 0..2 {
        store.enable(name, &two).await.unwrap();
    }
    assert_eq!(fixture.read(VersionSelector::Latest).await, "two");
    fixture.clean().await;
}

async fn a_destroyed_version_is_gone(fixture: Fixture) {
    let (store, name) = (&fixture.store, &fixture.name);
    let one = fixture.put("one").await;
    fixture.put("two").await;
    let destroyed = store.destroy(name, &one).await;
    if !store.capabilities().version_states {
        assert_eq!(kind(destroyed), ErrorKind::Unsupported);
        return fixture.clean().await;
    }
    destroyed.unwrap();
    store.destroy(name, &one).await.unwrap();
    assert_eq!(kind(store.get(name, &VersionSelector::Id(one.clone())).await), ErrorKind::VersionDisabled);
    assert_eq!(kind(store.enable(name, &one).await), ErrorKind::VersionDisabled);
    assert_eq!(fixture.versions().await[1].state, SecretVersionState::Destroyed);
    assert_eq!(fixture.read(VersionSelector::Latest).await, "two");
    fixture.clean().await;
}

async fn an_immediate_deletion_frees_the_name(fixture: Fixture) {
    for value in ["one", "two"] {
        fixture.create(value).await;
        assert_eq!(fixture.read(VersionSelector::Latest).await, value);
        fixture.clean().await;
        assert_eq!(kind(fixture.store.get_latest(&fixture.name).await), ErrorKind::NotFound);
    }
}

async fn a_recoverable_deletion_can_be_taken_back(fixture: Fixture) {
    let (store, name) = (&fixture.store, &fixture.name);
    fixture.create("one").await;
    for days in [6, 31] {
        let refused = store.delete(name, DeleteSecret::Recoverable { days }).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput);
    }
    let deleted = store.delete(name, DeleteSecret::Recoverable { days: 7 }).await;
    if !store.capabilities().recoverable_delete {
        assert_eq!(kind(deleted), ErrorKind::Unsupported);
        assert_eq!(fixture.read(VersionSelector::Latest).await, "one");
        return fixture.clean().await;
    }
    deleted.unwrap();
    assert_eq!(kind(store.get_latest(name).await), ErrorKind::NotFound);
    assert!(!store.exists(name).await.unwrap());
    assert!(matches!(store.describe(name).await.unwrap().state, SecretState::PendingDeletion { .. }));
    let again = store.create(name, "two".into(), CreateSecretOptions::default()).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
    for _ in 0..2 {
        store.restore(name).await.unwrap();
    }
    assert_eq!(fixture.read(VersionSelector::Latest).await, "one");
    fixture.clean().await;
}

async fn putting_revives_a_secret_that_is_to_be_deleted(fixture: Fixture) {
    if !fixture.store.capabilities().recoverable_delete {
        return;
    }
    fixture.create("one").await;
    fixture.store.delete(&fixture.name, DeleteSecret::Recoverable { days: 7 }).await.unwrap();
    fixture.put("two").await;
    assert_eq!(fixture.read(VersionSelector::Latest).await, "two");
    assert_eq!(fixture.store.describe(&fixture.name).await.unwrap().state, SecretState::Active);
    fixture.clean().await;
}

async fn secrets_are_listed_by_prefix_and_labels_in_order(fixture: Fixture) {
    let names: Vec<_> =
        ["b", "a", "B"].iter().map(|end| SecretName::new(format!("{}-{end}", fixture.name)).unwrap()).collect();
    for (number, name) in names.iter().enumerate() {
        let labels = [("team".to_owned(), format!("team-{}", number % 2))].into();
        let options = CreateSecretOptions { labels, ..CreateSecretOptions::default() };
        fixture.store.create(name, "x".into(), options).await.unwrap();
    }
    let listed = async |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let options = ListSecrets { prefix: fixture.name.to_string(), labels, ..ListSecrets::default() };
        let metas: Vec<_> = fixture.store.list(options).try_collect().await.unwrap();
        metas.into_iter().map(|meta| meta.name).collect::<Vec<_>>()
    };
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(listed(&[]).await, sorted);
    assert_eq!(listed(&[("team", "team-1")]).await, [names[1].clone()]);
    assert_eq!(listed(&[("team", "nobody")]).await, []);
    for name in names {
        fixture.store.delete(&name, DeleteSecret::Immediate).await.unwrap();
    }
}

async fn fields_and_types_are_read_from_json(fixture: Fixture) {
    fixture.put(r#"{"user":"mmm","password":"p\u00e4ss \"x\"","port":5432}"#).await;
    let field = async |name: &str| fixture.store.get_field(&fixture.name, name).await;
    assert_eq!(field("password").await.unwrap().expose_str().unwrap(), "päss \"x\"");
    assert_eq!(field("port").await.unwrap().expose(), b"5432");
    assert_eq!(kind(field("nothing").await), ErrorKind::NotFound);
    let all: std::collections::BTreeMap<String, serde_json::Value> = fixture.store.get_as(&fixture.name).await.unwrap();
    assert_eq!(all["user"], "mmm");
    fixture.put("plain hunter2").await;
    for error in [field("password").await.unwrap_err(), fixture.store.get_as::<u32>(&fixture.name).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidFormat);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    fixture.clean().await;
}

async fn missing_secrets_are_all_named(fixture: Fixture) {
    fixture.create("x").await;
    let absent: Vec<_> = (1..=2).map(|n| SecretName::new(format!("{}-{n}", fixture.name)).unwrap()).collect();
    let names = [fixture.name.clone(), absent[0].clone(), absent[1].clone()];
    fixture.store.require(&names[..1]).await.unwrap();
    let error = fixture.store.require(&names).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(absent.iter().all(|name| error.subject().contains(name.as_str())), "{error}");
    fixture.clean().await;
}

async fn no_error_or_debug_output_holds_a_value(fixture: Fixture) {
    const CANARY: &str = "canary-2f8c61";
    let one = fixture.put(CANARY).await;
    let secret = fixture.store.get_latest(&fixture.name).await.unwrap();
    let again = fixture.store.create(&fixture.name, CANARY.into(), CreateSecretOptions::default()).await.unwrap_err();
    let stale = PutSecretOptions {
        if_current: Some(SecretVersionId::new("00000000-0000-4000-8000-000000000000").unwrap()),
        ..PutSecretOptions::default()
    };
    let stale = fixture.store.put(&fixture.name, format!("{CANARY}-2").into(), stale).await.unwrap_err();
    let mut shown = format!("{secret:?} {one:?} {:?}", fixture.store);
    for error in [&again, &stale] {
        shown.push_str(&format!("{error} {error:?}"));
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            shown.push_str(&format!("{inner} {inner:?}"));
            source = inner.source();
        }
    }
    assert!(!shown.contains(CANARY), "{shown}");
    fixture.clean().await;
}

async fn names_of_any_text_are_exact_or_refused(fixture: Fixture) {
    fixture.put("untouched").await;
    let long = "n".repeat(300);
    let endings = ["", "a", "_", "-", "--", "0123456789", "CON", "UPPER", "upper", long.as_str()];
    for ending in endings.iter().chain(super::naughty::TEXTS) {
        let text = format!("{}{ending}", fixture.name);
        let Ok(name) =
            SecretName::new(text.as_str()).map_err(|error| assert_eq!(error.kind(), ErrorKind::InvalidInput))
        else {
            continue;
        };
        if name != fixture.name {
            fixture.store.put_value(&name, text.as_str()).await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(fixture.store.get_latest(&name).await.unwrap().value.expose(), text.as_bytes());
            fixture.store.delete(&name, DeleteSecret::Immediate).await.unwrap();
        }
    }
    assert_eq!(fixture.read(VersionSelector::Latest).await, "untouched");
    fixture.clean().await;
}
