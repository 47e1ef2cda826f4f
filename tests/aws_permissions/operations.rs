//! Every operation of the three contracts, with the permissions that it needs.

mod job_runner;
mod object_store;
mod secret_store;

use std::collections::BTreeMap;

use anycloud::secret_store::{CreateSecretOptions, DeleteSecret, PutSecretOptions};
use anycloud::{Cloud, IdempotencyKey, JobRequest, PutOptions, Result, SecretValue, WriteId};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::calls::Scene;

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// It fails without any of these.
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: for<'a> fn(&'a Cloud, &'a Scene) -> BoxFuture<'a, Result<()>>,
}

/// All, in an order in which none takes away what a later one needs.
pub(crate) fn all() -> impl Iterator<Item = &'static Operation> {
    object_store::ALL.iter().chain(secret_store::ALL).chain(job_runner::ALL)
}

/// The key of the execution that was started before.
const KEY: &str = "prepared";
/// The first version of every secret that was made before.
const FIRST: &str = "11111111111111111111111111111111";

/// Makes what the operations find, and returns the id of an execution.
pub(crate) async fn prepare(cloud: &Cloud, scene: &Scene) -> Result<String> {
    let objects = cloud.objects();
    for key in ["read", "copied", "deleted", "one-of-many"] {
        objects.put(&scene.key(key), Bytes::from_static(b"content"), PutOptions::default()).await?;
    }
    let secrets = cloud.secrets();
    for suffix in ["read", "put", "swapped", "revived", "deleted", "deleted-later", "restored", "promoted", "aliased"] {
        let options = CreateSecretOptions { write_id: Some(WriteId::new(FIRST)?), ..Default::default() };
        secrets.create(&scene.secret(suffix), SecretValue::new("one"), options).await?;
    }
    secrets.put(&scene.secret("promoted"), SecretValue::new("two"), PutSecretOptions::default()).await?;
    for suffix in ["revived", "restored"] {
        secrets.delete(&scene.secret(suffix), DeleteSecret::Recoverable { days: 7 }).await?;
    }
    let request = JobRequest { idempotency_key: Some(IdempotencyKey::new(KEY)?), ..Default::default() };
    Ok(cloud.jobs().run(&scene.job(), request).await?.id.to_string())
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_owned(), "mmm".to_owned())])
}
