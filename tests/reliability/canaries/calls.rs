//! Every operation of the three families, with secrets wherever there is a place for one, and a look at whatever comes
//! back.

use anycloud::job_runner::{ListExecutions, LogOptions};
use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions, SignOptions};
use anycloud::secret_store::{CachedSecrets, DeleteSecret, ListSecrets, PutSecretOptions, SecretStage, SecretStore};
use anycloud::{
    Cloud, ExecutionId, IdempotencyKey, JobName, JobRequest, JobRunner, ObjectKey, ObjectStore, ObjectStoreExt as _,
    PutOptions, Result, SecretAlias, SecretName, SecretValue, SecretVersionId, VersionSelector,
};
use futures_util::TryStreamExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::canary::{VALUE, VARIABLE};
use super::search::{inspect, inspect_all, inspect_debug};

/// What the store of secrets does, in success and failure; the answers are those of whoever is behind it.
pub(crate) async fn use_secrets(store: &Arc<dyn SecretStore>) {
    let name = SecretName::new("canary").expect("a name");
    let version = SecretVersionId::new("11111111-2222-3333-4444-555555555555").expect("an id");
    let alias = SecretAlias::new("stable").expect("an alias");
    for round in 0..2 {
        let value = || SecretValue::from(format!("{VALUE}{round}").as_str());
        let staged = PutSecretOptions { stage: SecretStage::Staged, ..Default::default() };
        let conditional = PutSecretOptions { if_current: Some(version.clone()), ..Default::default() };
        let read = store.get(&name, &VersionSelector::Latest).await;
        read.iter().for_each(inspect_debug);
        inspect_all(&[
            store.create(&name, value(), Default::default()).await.map(drop),
            store.put(&name, value(), Default::default()).await.map(drop),
            store.put(&name, value(), staged).await.map(drop),
            store.put(&name, value(), conditional).await.map(drop),
            read.map(drop),
            store.promote(&name, &version).await.map(drop),
            store.describe(&name).await.map(drop),
            store.list_versions(&name).try_collect::<Vec<_>>().await.map(drop),
            store.list(ListSecrets::default()).try_collect::<Vec<_>>().await.map(drop),
            store.set_alias(&name, &alias, Some(&version)).await,
            store.disable(&name, &version).await,
            store.enable(&name, &version).await,
            store.destroy(&name, &version).await,
            store.create(&name, SecretValue::new(VALUE.repeat(9000)), Default::default()).await.map(drop),
        ]);
        inspect_debug(&value());
    }
    let cached = CachedSecrets::new(store.clone(), Default::default());
    for _ in 0..2 {
        inspect_all(&[cached.get(&name, &VersionSelector::Latest).await]);
        inspect_debug(&cached);
    }
    inspect_all(&[
        store.delete(&name, DeleteSecret::Recoverable { days: 7 }).await,
        store.restore(&name).await,
        store.delete(&name, DeleteSecret::Immediate).await,
    ]);
}

/// What the store of objects does. Gives the URLs that it signed.
pub(crate) async fn use_objects(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let key = |name: &str| ObjectKey::new(name).expect("a key");
    let (from, to) = (key("from"), key("to"));
    let put = store.put(&from, "hello".into(), PutOptions::default()).await;
    let upload = async {
        let mut upload = store.start_upload(&from, PutOptions::default()).await?;
        inspect_debug(&upload);
        upload.put_part("hello".into()).await?;
        upload.finish(Crc32c::of(b"hello")).await.map(drop)
    };
    inspect_all(&[
        put.map(drop),
        store.get_bytes(&from).await.map(drop),
        store.head(&from, HeadOptions::default()).await.map(drop),
        store.list(ListOptions::default()).try_collect::<Vec<_>>().await.map(drop),
        upload.await,
        store.copy(&from, &to, CopyOptions::default()).await.map(drop),
        store.delete(&to, DeleteOptions::default()).await,
        store.abort_stale_uploads(Duration::from_secs(3600)).await.map(drop),
    ]);
    let deleted = store.delete_many(vec![from.clone(), to]).await;
    deleted.iter().for_each(|(_, result)| inspect_all([result]));
    let mut urls = Vec::new();
    for options in [SignOptions::get(Duration::from_secs(3600)), SignOptions::put(Duration::from_secs(600))] {
        match store.sign(&from, options).await {
            Ok(signed) => {
                inspect_debug(&signed);
                urls.push(signed.url.expose().to_owned());
            }
            Err(error) => inspect(&error),
        }
    }
    urls
}

pub(crate) fn request(key: &str) -> JobRequest {
    JobRequest {
        env: [("CANARY".to_owned(), VARIABLE.to_owned())].into(),
        idempotency_key: Some(IdempotencyKey::new(key).expect("a key")),
        ..JobRequest::default()
    }
}

/// What the runner of jobs does with one that has a secret in a variable, although that is no place for it.
pub(crate) async fn use_jobs(runner: &Arc<dyn JobRunner>, job: &str) {
    let job = JobName::new(job).expect("a name");
    for round in 0..3 {
        let request = request(&format!("canary-{round}"));
        inspect_debug(&request);
        let begun = runner.run(&job, request.clone()).await;
        begun.iter().for_each(inspect_debug);
        let id = match &begun {
            Ok(execution) => execution.id.clone(),
            Err(_) => ExecutionId::new(format!("default/{:032x}", 7)).expect("an id"),
        };
        let key = request.idempotency_key.clone().expect("there is one");
        let look = |result: Result<_>| result.map(|found: anycloud::JobExecution| inspect_debug(&found));
        inspect_all(&[
            begun.map(drop),
            look(runner.get(&id).await),
            runner.find(&job, &key, 1).await.map(drop),
            runner.list(ListExecutions::default()).try_collect::<Vec<_>>().await.map(drop),
            runner.logs(&id, LogOptions::default()).try_collect::<Vec<_>>().await.map(drop),
            runner.cancel(&id).await,
            // The same key with another request.
            runner.run(&job, JobRequest { env: Default::default(), ..request }).await.map(drop),
        ]);
    }
}

/// All of it, several times, so that every answer meets every operation. Gives the URLs that were signed.
pub(crate) async fn use_everything(cloud: &Cloud, job: &str) -> Vec<String> {
    let mut urls = Vec::new();
    inspect_debug(cloud);
    for _ in 0..3 {
        urls.extend(use_objects(cloud.objects()).await);
        use_secrets(cloud.secrets()).await;
        use_jobs(cloud.jobs(), job).await;
    }
    inspect_debug(cloud);
    urls
}
