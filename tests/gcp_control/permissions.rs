//! The guide names the permission of every call that an operation makes, and so does the error when it is denied.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use anycloud::gcp_emulator::Fault;
use anycloud::job_runner::{ListExecutions, LogMode, LogOptions};
use anycloud::object_store::{CopyOptions, DeleteOptions, HeadOptions, ListOptions};
use anycloud::secret_store::{DeleteSecret, ListSecrets, PutSecretOptions};
use anycloud::{
    Cloud, ErrorKind, ExecutionId, IdempotencyKey, JobRequest, ObjectKey, ObjectStoreExt as _, Result, SecretAlias,
    SecretName, SecretStoreExt as _, SecretVersionId, VersionSelector,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{World, job, status};

const GUIDE: &str = include_str!("../../docs/permissions.md");

/// What a method needs, by the pages that the guide refers to. Empty for what needs nothing, or what the emulator alone
/// is asked for.
fn permissions(method: &str) -> &'static [&'static str] {
    match method {
        "storage.objects.insert" => &["storage.objects.create"],
        "storage.objects.compose" | "storage.objects.rewrite" => &["storage.objects.create", "storage.objects.get"],
        "storage.objects.get" | "xml.objects.get" => &["storage.objects.get"],
        "storage.objects.list" => &["storage.objects.list"],
        "storage.objects.delete" => &["storage.objects.delete"],
        "storage.buckets.get" => &["storage.buckets.get"],
        "storage.buckets.testIamPermissions" => &[],
        "secretmanager.projects.secrets.create" => &["secretmanager.secrets.create"],
        "secretmanager.projects.secrets.list" => &["secretmanager.secrets.list"],
        "secretmanager.projects.secrets.get" => &["secretmanager.secrets.get"],
        "secretmanager.projects.secrets.patch" => &["secretmanager.secrets.update"],
        "secretmanager.projects.secrets.delete" => &["secretmanager.secrets.delete"],
        "secretmanager.projects.secrets.addVersion" => &["secretmanager.versions.add"],
        "secretmanager.projects.secrets.versions.list" => &["secretmanager.versions.list"],
        "secretmanager.projects.secrets.versions.get" => &["secretmanager.versions.get"],
        "secretmanager.projects.secrets.versions.access" => &["secretmanager.versions.access"],
        "secretmanager.projects.secrets.versions.enable" => &["secretmanager.versions.enable"],
        "secretmanager.projects.secrets.versions.disable" => &["secretmanager.versions.disable"],
        "secretmanager.projects.secrets.versions.destroy" => &["secretmanager.versions.destroy"],
        "run.projects.locations.jobs.run" => &["run.jobs.run", "run.jobs.runWithOverrides"],
        "run.projects.locations.jobs.executions.list" => &["run.executions.list"],
        "run.projects.locations.jobs.executions.get" => &["run.executions.get"],
        "run.projects.locations.jobs.executions.cancel" => &["run.executions.cancel"],
        "run.projects.locations.jobs.executions.tasks.list" => &["run.tasks.list"],
        "logging.entries.list" => &["logging.logEntries.list"],
        other => panic!("what does {other} need?"),
    }
}

/// The rows of the guide that name an operation.
fn row(operation: &str) -> String {
    let (_, google) = GUIDE.split_once("\n# Google Cloud\n").expect("the guide has a part for each provider");
    let named = |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{operation}`")));
    google.lines().filter(named).collect()
}

/// What has been prepared: an object, a secret with two versions, an execution that failed.
struct Prepared {
    cloud: Cloud,
    second: SecretVersionId,
    execution: ExecutionId,
}

type Act = for<'a> fn(&'a Prepared) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

macro_rules! operations {
    ($($name:literal($p:ident) $act:expr;)*) => {
        &[$(($name, |$p| Box::pin(async move { $act.await.map(drop) })),)*]
    };
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a key")
}

fn secret(name: &str) -> SecretName {
    SecretName::new(name).expect("a name")
}

fn alias() -> SecretAlias {
    SecretAlias::new("blue").expect("an alias")
}

fn keyed() -> JobRequest {
    JobRequest { idempotency_key: Some(IdempotencyKey::random()), ..super::job::script("exit 0") }
}

async fn upload(prepared: &Prepared) -> Result<()> {
    let mut writer = prepared.cloud.objects().writer(&key("large"), Default::default()).with_parts(1 << 20, 2);
    for _ in 0..3 {
        writer.write(Bytes::from(vec![0; 1 << 20])).await?;
    }
    writer.finish().await.map(drop)
}

async fn logs(prepared: &Prepared) -> Result<()> {
    let options = LogOptions { mode: LogMode::Tail(3) };
    prepared.cloud.jobs().logs(&prepared.execution, options).try_collect::<Vec<_>>().await.map(drop)
}

async fn abort(prepared: &Prepared) -> Result<()> {
    prepared.cloud.objects().abort_stale_uploads(Duration::ZERO).await.map(drop)
}

const OPERATIONS: &[(&str, Act)] = operations! {
    "object_store.put"(p) p.cloud.objects().put_bytes(&key("new"), "x");
    "object_store.start_upload"(p) upload(p);
    "object_store.get"(p) p.cloud.objects().get_bytes(&key("k"));
    "object_store.head"(p) p.cloud.objects().head(&key("k"), HeadOptions::default());
    "object_store.list"(p) p.cloud.objects().list(ListOptions::default()).try_collect::<Vec<_>>();
    "object_store.delete"(p) p.cloud.objects().delete(&key("k"), DeleteOptions::default());
    "object_store.copy"(p) p.cloud.objects().copy(&key("k"), &key("copy"), CopyOptions::default());
    "object_store.abort_stale_uploads"(p) abort(p);
    "secret_store.get"(p) p.cloud.secrets().get_latest(&secret("db"));
    "secret_store.get"(p) p.cloud.secrets().get(&secret("db"), &VersionSelector::Previous);
    "secret_store.get"(p) p.cloud.secrets().get(&secret("db"), &VersionSelector::LatestEnabled);
    "secret_store.create"(p) p.cloud.secrets().create(&secret("new"), "x".into(), Default::default());
    "secret_store.create"(p) p.cloud.secrets().create(&secret("db"), "x".into(), Default::default());
    "secret_store.put"(p) p.cloud.secrets().put_value(&secret("db"), "three");
    "secret_store.put"(p) p.cloud.secrets().put_value(&secret("new"), "one");
    "secret_store.put"(p) p.cloud.secrets().put(&secret("db"), "three".into(), PutSecretOptions {
        if_current: Some(p.second.clone()), ..PutSecretOptions::default()
    });
    "secret_store.delete"(p) p.cloud.secrets().delete(&secret("db"), DeleteSecret::Immediate);
    "secret_store.describe"(p) p.cloud.secrets().describe(&secret("db"));
    "secret_store.list"(p) p.cloud.secrets().list(ListSecrets::default()).try_collect::<Vec<_>>();
    "secret_store.list_versions"(p) p.cloud.secrets().list_versions(&secret("db")).try_collect::<Vec<_>>();
    "secret_store.disable"(p) p.cloud.secrets().disable(&secret("db"), &p.second);
    "secret_store.enable"(p) p.cloud.secrets().enable(&secret("db"), &p.second);
    "secret_store.destroy"(p) p.cloud.secrets().destroy(&secret("db"), &p.second);
    "secret_store.promote"(p) p.cloud.secrets().promote(&secret("db"), &SecretVersionId::new("1").expect("an id"));
    "secret_store.set_alias"(p) p.cloud.secrets().set_alias(&secret("db"), &alias(), Some(&p.second));
    "job_runner.run"(p) p.cloud.jobs().run(&job("sh"), keyed());
    "job_runner.run"(p) p.cloud.jobs().run(&job("sh"), super::job::script("exit 0"));
    "job_runner.find"(p) p.cloud.jobs().find(&job("sh"), &IdempotencyKey::random(), 1);
    "job_runner.list"(p) p.cloud.jobs().list(ListExecutions::default()).try_collect::<Vec<_>>();
    "job_runner.get"(p) p.cloud.jobs().get(&p.execution);
    "job_runner.cancel"(p) p.cloud.jobs().cancel(&p.execution);
    "job_runner.logs"(p) logs(p);
};

async fn prepared(world: &World) -> Prepared {
    let cloud = Cloud::connect(world.config.clone()).expect("no network is needed");
    cloud.objects().put_bytes(&key("k"), "hello").await.expect("stored");
    cloud.secrets().put_value(&secret("db"), "one").await.expect("stored");
    let second = cloud.secrets().put_value(&secret("db"), "two").await.expect("stored").version;
    let execution = cloud.jobs().run(&job("sh"), super::job::script("exit 3")).await.expect("taken").id;
    while !cloud.jobs().get(&execution).await.expect("there").state.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Prepared { cloud, second, execution }
}

#[tokio::test]
async fn the_guide_and_the_denials_name_what_every_call_needs() {
    let (mut calls, mut problems) = (0, Vec::new());
    for (operation, act) in OPERATIONS {
        let row = row(operation);
        let world = World::new();
        let ready = prepared(&world).await;
        let before = world.emulator.requests().len();
        // Refusals too tell what is called.
        let _ = act(&ready).await;
        let methods: BTreeSet<_> =
            world.emulator.requests().split_off(before).into_iter().map(|served| served.method).collect();
        assert!(!methods.is_empty(), "{operation} calls nothing");
        for method in methods {
            let needed = permissions(&method);
            let lacking = needed.iter().filter(|name| !row.contains(&format!("`{name}`")));
            problems.extend(lacking.map(|name| format!("the row of {operation} lacks {name}, for {method}")));
            if needed.is_empty() {
                continue;
            }
            calls += 1;
            let world = World::new();
            let ready = prepared(&world).await;
            world.emulator.add_fault(Fault { times: u32::MAX, ..Fault::next(&method, status(403)) });
            let Err(error) = act(&ready).await else { continue };
            if error.kind() != ErrorKind::PermissionDenied || !needed.iter().any(|name| error.message().contains(name))
            {
                problems.push(format!("{operation} without {needed:?} for {method} ends in {error:?}"));
            }
        }
    }
    println!("{} operations, {calls} calls denied", OPERATIONS.len());
    assert_eq!(problems, Vec::<String>::new());
}
