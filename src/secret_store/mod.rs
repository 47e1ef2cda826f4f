//! Secrets: the contract that every secret store keeps, and the values it speaks in.
//!
//! [`SecretStore`] is what a provider implements; [`SecretStoreExt`] adds text, JSON fields and typed decoding.

mod cache;
mod contract;
mod ext;
mod options;
mod value;

pub use cache::{CacheOptions, CachedSecrets};
pub use contract::SecretStore;
pub use ext::SecretStoreExt;
pub use options::{
    CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions, PutSecretResult, SecretCapabilities, SecretMeta,
    SecretStage, SecretState, SecretVersion, SecretVersionState, VersionSelector,
};
pub use value::{MAX_SECRET_BYTES, Secret, SecretValue};
