use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::{SecretAlias, SecretName, SecretVersionId, WriteId};

/// Which version of a secret is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionSelector {
    /// The current one, even if it is disabled (reading it fails then).
    #[default]
    Latest,
    /// The current one, or if that is disabled the newest that is not. Costs a listing where that differs.
    LatestEnabled,
    /// The one that was current before; on Google Cloud the next older enabled one.
    Previous,
    /// Exactly this one.
    Id(SecretVersionId),
    /// The one that the alias points to.
    Alias(SecretAlias),
}

/// How to create a secret. Fill in what matters and take the rest from `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct CreateSecretOptions {
    /// Labels (tags on AWS): keys of 1 to 63 characters of `[a-z0-9_-]` that start with a letter, values of up to 63
    /// characters of `[a-z0-9_-]`, at most 50.
    pub labels: BTreeMap<String, String>,
    /// The provider's own name of a key-management key; the account's default if none.
    pub encryption_key: Option<String>,
    /// Where the secret is kept: region names for user-managed replication on Google Cloud, replica regions on AWS.
    /// The provider's default if empty. Cannot be changed later on Google Cloud.
    pub locations: Vec<String>,
    /// The id of this logical write; a random one if none is given.
    pub write_id: Option<WriteId>,
}

/// Whether a put makes its version current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretStage {
    /// The version is current at once.
    #[default]
    Current,
    /// The version can be read by its id; [`promote`](super::SecretStore::promote) makes it current.
    Staged,
}

/// How to put a value. Fill in what matters and take the rest from `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct PutSecretOptions {
    /// Only if this version is current, else `PreconditionFailed`.
    pub if_current: Option<SecretVersionId>,
    /// Whether the version becomes current.
    pub stage: SecretStage,
    /// Adds a version even if the value is the current one.
    pub add_unchanged: bool,
    /// The id of this logical write; a random one if none is given.
    pub write_id: Option<WriteId>,
    /// How to create the secret if it is absent.
    pub create: CreateSecretOptions,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutSecretResult {
    /// The version that holds the value.
    pub version: SecretVersionId,
    /// Whether the version is new; `false` when the value was the current one already.
    pub added: bool,
}

/// How to delete a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteSecret {
    /// Can be restored for this many days, 7 to 30; unreadable meanwhile.
    Recoverable {
        /// The length of the window.
        days: u8,
    },
    /// At once and for ever.
    Immediate,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSecrets {
    /// Only names that start with this text.
    pub prefix: String,
    /// Only secrets that have all these labels.
    pub labels: BTreeMap<String, String>,
    /// Also those that are to be deleted.
    pub include_pending_deletion: bool,
}

/// Whether a secret can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// Yes.
    Active,
    /// No: it is to be deleted, and can be restored until then.
    PendingDeletion {
        /// When it goes, if the provider tells.
        until: Option<SystemTime>,
    },
}

/// What is known of a secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMeta {
    /// The name.
    pub name: SecretName,
    /// Whether it can be read.
    pub state: SecretState,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created, if the provider tells.
    pub created: Option<SystemTime>,
}

/// Whether a version can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretVersionState {
    /// Yes.
    Enabled,
    /// Not until it is enabled again.
    Disabled,
    /// Never again.
    Destroyed,
}

/// What is known of a version without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// The id.
    pub id: SecretVersionId,
    /// Whether it can be read.
    pub state: SecretVersionState,
    /// Whether it is the current one.
    pub current: bool,
    /// The aliases that point to it.
    pub aliases: Vec<SecretAlias>,
    /// When it was made, if the provider tells.
    pub created: Option<SystemTime>,
}

/// What a secret store can do, as data. The conformance suite checks that it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretCapabilities {
    /// The provider: `aws`, `gcp`, `local` or a name of your own.
    pub provider: &'static str,
    /// [`DeleteSecret::Recoverable`] and [`restore`](super::SecretStore::restore).
    pub recoverable_delete: bool,
    /// [`enable`](super::SecretStore::enable), [`disable`](super::SecretStore::disable) and
    /// [`destroy`](super::SecretStore::destroy) of single versions.
    pub version_states: bool,
    /// [`SecretStage::Staged`].
    pub staged_put: bool,
    /// [`promote`](super::SecretStore::promote) keeps the version's id.
    pub promote_keeps_id: bool,
    /// [`PutSecretOptions::if_current`] is judged by the provider, or under a lock; otherwise there is a moment
    /// between the check and the write.
    pub atomic_conditional_put: bool,
    /// Values have a checksum that the provider verified.
    pub stored_checksum: bool,
    /// The largest value, in bytes.
    pub max_value_bytes: usize,
}
