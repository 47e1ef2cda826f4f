//! One bucket, one secret store and one job runner for AWS, Google Cloud and the laptop, chosen at run time.
//!
//! [`Cloud::from_env`] reads `CLOUD_PROVIDER` (`aws`, `gcp` or `local`) and hands out an [`ObjectStore`], a
//! [`SecretStore`] and a [`JobRunner`] that behave the same whichever it is.
//!
//! ```
//! use anycloud::{Cloud, Config, ObjectKey, ObjectStoreExt as _, SecretName, SecretStoreExt as _};
//!
//! # #[tokio::main] async fn main() -> anycloud::Result<()> {
//! # let directory = std::env::temp_dir().join(format!("anycloud-doc-{}", std::process::id()));
//! # #[cfg(feature = "local")] {
//! let cloud = Cloud::connect(Config::local(&directory))?; // or `Cloud::from_env()?`
//! let key = ObjectKey::new("greetings/hello.txt")?;
//! cloud.objects().put_text(&key, "hello").await?;
//! assert_eq!(cloud.objects().get_text(&key).await?, "hello");
//!
//! let name = SecretName::new("api-token")?;
//! cloud.secrets().put_value(&name, "s3cr3t").await?;
//! assert_eq!(cloud.secrets().get_latest(&name).await?.value.expose(), b"s3cr3t");
//! # std::fs::remove_dir_all(&directory).ok();
//! # }
//! # Ok(()) }
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(any(feature = "aws", feature = "gcp"))]
mod call;
mod cloud;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
mod files;
pub mod formats;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "gcp-emulator")]
pub mod gcp_emulator;
pub mod guide;
#[cfg(any(feature = "aws", feature = "gcp"))]
#[cfg_attr(not(feature = "gcp"), allow(dead_code, reason = "`aws` alone leaves a part unused"))]
mod http;
mod id;
pub mod job_runner;
#[cfg(feature = "local")]
pub mod local;
pub mod object_store;
mod observed;
mod random;
pub mod retry;
pub mod secret_store;
mod transfer;

pub use cloud::Cloud;
pub use config::{Config, Provider};
pub use error::{Error, ErrorKind, Result};
pub use id::{
    ExecutionId, IdempotencyKey, JobName, MAX_JOB_NAME_BYTES, MAX_KEY_BYTES, MAX_SECRET_NAME_BYTES, ObjectKey,
    SecretAlias, SecretName, SecretVersionId, WriteId,
};
pub use job_runner::{JobContext, JobExecution, JobOutcome, JobRequest, JobRunner, JobRunnerExt, JobState};
pub use object_store::{GetOptions, ObjectStore, ObjectStoreExt, ObjectUri, PutMode, PutOptions};
pub use secret_store::{SecretStore, SecretStoreExt, SecretValue, VersionSelector};
pub use transfer::TransferPolicy;
