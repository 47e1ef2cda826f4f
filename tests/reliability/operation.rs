//! The operations that the lanes run, each with what it needs, what it does and how to see what became of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions, Version};
use anycloud::{
    ErrorKind, JobName, JobRunner, ObjectKey, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, Result,
    SecretName, SecretStore, SecretValue, VersionSelector,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

pub(crate) type Step<T> = for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// One client of each family that the provider has.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) objects: Option<Arc<dyn ObjectStore>>,
    pub(crate) secrets: Option<Arc<dyn SecretStore>>,
    pub(crate) jobs: Option<Arc<dyn JobRunner>>,
}

/// Where one cell happens: names of its own, a client that meets faults, and one that does not.
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) faulted: Clients,
    pub(crate) clean: Clients,
    /// A job that ends at once, and one that runs on.
    pub(crate) quick: JobName,
    pub(crate) long: JobName,
    pub(crate) canary: String,
    pub(crate) noted: Mutex<BTreeMap<&'static str, String>>,
}

/// What the server holds afterwards.
#[derive(Debug, PartialEq)]
pub(crate) enum Truth {
    Applied,
    NotApplied,
    /// Some of several independent changes.
    Partly,
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Objects,
    Secrets,
    Jobs,
}

#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) prepare: Step<()>,
    /// What it answered; of a change, nothing that differs from one run to the next.
    pub(crate) act: Step<String>,
    /// `None` for a read.
    pub(crate) truth: Option<Step<Truth>>,
}

impl Scene {
    pub(crate) fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(format!("{}/{name}", self.name)).expect("a key")
    }

    fn secret(&self) -> SecretName {
        SecretName::new(format!("{}-password", self.name)).expect("a name")
    }

    fn value(&self, number: u32) -> SecretValue {
        SecretValue::from(format!("{}{number}", self.canary).as_str())
    }

    fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.faulted.objects.as_ref().expect("the family is there")
    }

    fn secrets(&self) -> &Arc<dyn SecretStore> {
        self.faulted.secrets.as_ref().expect("the family is there")
    }

    pub(crate) fn jobs(&self) -> &Arc<dyn JobRunner> {
        self.faulted.jobs.as_ref().expect("the family is there")
    }

    fn clean_objects(&self) -> &Arc<dyn ObjectStore> {
        self.clean.objects.as_ref().expect("the family is there")
    }

    fn clean_secrets(&self) -> &Arc<dyn SecretStore> {
        self.clean.secrets.as_ref().expect("the family is there")
    }

    fn clean_jobs(&self) -> &Arc<dyn JobRunner> {
        self.clean.jobs.as_ref().expect("the family is there")
    }

    fn note(&self, what: &'static str, text: impl ToString) {
        self.noted.lock().expect("no panic before").insert(what, text.to_string());
    }

    fn noted(&self, what: &'static str) -> String {
        self.noted.lock().expect("no panic before").get(what).cloned().expect("it was noted")
    }

    fn version(&self) -> Version {
        self.noted("version").parse().expect("a version")
    }

    async fn stored(&self, key: &ObjectKey) -> Result<Option<Bytes>> {
        match self.clean_objects().get_bytes(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object is `new` (applied) or `old` (not applied), and nothing else.
    async fn object_truth(&self, key: &ObjectKey, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<Truth> {
        let stored = self.stored(key).await?;
        Ok(match stored.as_deref() {
            stored if stored == new => Truth::Applied,
            stored if stored == old => Truth::NotApplied,
            stored => Truth::Broken(format!("the object is neither old nor new: {:?} bytes", stored.map(<[u8]>::len))),
        })
    }

    /// The current value is the second (applied) or the first, with so many versions.
    async fn secret_truth(&self, old: Option<u32>, new: u32, most_versions: usize) -> Result<Truth> {
        let name = self.secret();
        let current = match self.clean_secrets().get(&name, &VersionSelector::Latest).await {
            Ok(secret) => Some(secret.value),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is = |number: u32| current.as_ref().is_some_and(|value| value.same_as(&self.value(number)));
        if is(new) {
            let versions: Vec<_> = self.clean_secrets().list_versions(&name).try_collect().await?;
            if versions.len() > most_versions {
                return Ok(Truth::Broken(format!("{} versions where {most_versions} were put", versions.len())));
            }
            return Ok(Truth::Applied);
        }
        Ok(match (old, current.is_some()) {
            (None, false) => Truth::NotApplied,
            (Some(old), true) if is(old) => Truth::NotApplied,
            _ => Truth::Broken("the current value is none that was put last".to_owned()),
        })
    }

    async fn version_truth(&self, selector: &str, expected: Option<ErrorKind>) -> Result<Truth> {
        let id = anycloud::SecretVersionId::new(selector).expect("an id");
        let read = self.clean_secrets().get(&self.secret(), &VersionSelector::Id(id)).await;
        match (read.map_err(|error| error.kind()), expected) {
            (Ok(_), None) => Ok(Truth::Applied),
            (Err(kind), Some(expected)) if kind == expected => Ok(Truth::Applied),
            (Ok(_), Some(_)) | (Err(ErrorKind::VersionDisabled), None) => Ok(Truth::NotApplied),
            (Err(kind), _) => Ok(Truth::Broken(format!("reading the version fails as {kind}"))),
        }
    }
}

const OLD: &[u8] = b"the old object";
const NEW: &[u8] = b"the new object, which is longer than the old one";

fn large() -> Bytes {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

async fn begin(scene: &Scene, key: &ObjectKey) -> Result<()> {
    let put = scene.clean_objects().put(key, Bytes::from_static(OLD), PutOptions::default()).await?;
    scene.note("version", put.version);
    Ok(())
}

async fn begin_secret(scene: &Scene) -> Result<()> {
    let version = scene.clean_secrets().create(&scene.secret(), scene.value(1), Default::default()).await?;
    scene.note("first", version.as_str());
    Ok(())
}

async fn begin_two_versions(scene: &Scene) -> Result<()> {
    begin_secret(scene).await?;
    let put = scene.clean_secrets().put(&scene.secret(), scene.value(2), Default::default()).await?;
    scene.note("second", put.version.as_str());
    Ok(())
}

fn request(scene: &Scene) -> anycloud::JobRequest {
    let key = anycloud::IdempotencyKey::new(format!("{}-key", scene.name)).expect("a key");
    anycloud::JobRequest { idempotency_key: Some(key), ..Default::default() }
}

async fn begin_job(scene: &Scene) -> Result<()> {
    let execution = scene.clean_jobs().run(&scene.long, request(scene)).await?;
    scene.note("execution", execution.id);
    Ok(())
}

fn execution(scene: &Scene) -> anycloud::ExecutionId {
    anycloud::ExecutionId::new(scene.noted("execution")).expect("an id")
}

async fn job_truth(scene: &Scene, job: &JobName) -> Result<Truth> {
    let options = anycloud::job_runner::ListExecutions { job: Some(job.clone()), ..Default::default() };
    let all: Vec<_> = scene.clean_jobs().list(options).try_collect().await?;
    Ok(match all.len() {
        0 => Truth::NotApplied,
        1 => Truth::Applied,
        many => Truth::Broken(format!("{many} executions of one submission")),
    })
}

macro_rules! steps {
    ($($name:literal $family:ident {
        prepare($p:ident) $prepare:block
        act($a:ident) $act:block
        $(truth($t:ident) $truth:block)?
    })*) => {
        &[$(Operation {
            name: $name,
            family: Family::$family,
            prepare: |$p| Box::pin(async move { $prepare }),
            act: |$a| Box::pin(async move { $act }),
            truth: steps!(@truth $($t $truth)?),
        }),*]
    };
    (@truth) => { None };
    (@truth $t:ident $truth:block) => { Some(|$t| Box::pin(async move { $truth })) };
}

/// What an operation answers that has nothing to tell.
fn done<T>(_: T) -> String {
    String::new()
}

pub(crate) const OPERATIONS: &[Operation] = steps! {
    "put_over" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { s.objects().put(&s.key("k"), Bytes::from_static(NEW), PutOptions::default()).await.map(done) }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), Some(NEW)).await }
    }
    "put_create" Objects {
        prepare(_s) { Ok(()) }
        act(s) {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            s.objects().put(&s.key("k"), Bytes::from_static(NEW), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("k"), None, Some(NEW)).await }
    }
    "put_replace" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) {
            let options = PutOptions { mode: PutMode::Replace(s.version()), ..PutOptions::default() };
            s.objects().put(&s.key("k"), Bytes::from_static(NEW), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), Some(NEW)).await }
    }
    "upload_create" Objects {
        prepare(_s) { Ok(()) }
        act(s) {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let mut upload = s.objects().start_upload(&s.key("k"), options).await?;
            let rules = upload.rules();
            let least = rules.min_bytes.max(512 * 1024).next_multiple_of(rules.multiple_of);
            let least = usize::try_from(least).expect("it fits");
            let first = Bytes::from(vec![7; least]);
            let all = Crc32c::of(&[&first[..], NEW].concat());
            let sent = match upload.put_part(first).await {
                Ok(()) => upload.put_part(Bytes::from_static(NEW)).await,
                failed => failed,
            };
            if let Err(error) = sent {
                // What is thrown away is judged by the truth; whether it could be is another matter.
                let _ = upload.abort().await;
                return Err(error);
            }
            upload.finish(all).await.map(done)
        }
        truth(s) {
            let stored = s.stored(&s.key("k")).await?;
            Ok(match stored {
                None => Truth::NotApplied,
                Some(bytes) if bytes.len() > NEW.len() && bytes.ends_with(NEW)
                    && bytes[..bytes.len() - NEW.len()].iter().all(|byte| *byte == 7) => Truth::Applied,
                Some(bytes) => Truth::Broken(format!("a torn upload of {} bytes", bytes.len())),
            })
        }
    }
    "copy" Objects {
        prepare(s) { begin(s, &s.key("from")).await }
        act(s) { s.objects().copy(&s.key("from"), &s.key("to"), CopyOptions::default()).await.map(done) }
        truth(s) { s.object_truth(&s.key("to"), None, Some(OLD)).await }
    }
    "copy_create" Objects {
        prepare(s) { begin(s, &s.key("from")).await }
        act(s) {
            let options = CopyOptions { mode: PutMode::Create, ..CopyOptions::default() };
            s.objects().copy(&s.key("from"), &s.key("to"), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("to"), None, Some(OLD)).await }
    }
    "delete" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { s.objects().delete(&s.key("k"), DeleteOptions::default()).await.map(done) }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), None).await }
    }
    "delete_if_match" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { s.objects().delete(&s.key("k"), DeleteOptions { if_match: Some(s.version()) }).await.map(done) }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), None).await }
    }
    "delete_many" Objects {
        prepare(s) {
            begin(s, &s.key("a")).await?;
            begin(s, &s.key("b")).await
        }
        act(s) {
            let results = s.objects().delete_many(vec![s.key("a"), s.key("b")]).await;
            results.into_iter().map(|(_, result)| result).collect::<Result<Vec<()>>>().map(done)
        }
        truth(s) {
            let left = s.clean_objects().list_all(&format!("{}/", s.name)).await?.len();
            Ok(match left { 0 => Truth::Applied, 1 => Truth::Partly, _ => Truth::NotApplied })
        }
    }
    "get" Objects {
        prepare(s) { s.clean_objects().put(&s.key("k"), large(), PutOptions::default()).await.map(drop) }
        act(s) {
            let bytes = s.objects().get_bytes(&s.key("k")).await?;
            Ok(format!("{} bytes, {:?}", bytes.len(), Crc32c::of(&bytes)))
        }
    }
    "get_range" Objects {
        prepare(s) { s.clean_objects().put(&s.key("k"), large(), PutOptions::default()).await.map(drop) }
        act(s) {
            let options = anycloud::GetOptions { range: Some((1000..5000).into()), ..Default::default() };
            let bytes = s.objects().get(&s.key("k"), options).await?.bytes().await?;
            Ok(format!("{} bytes, {:?}", bytes.len(), Crc32c::of(&bytes)))
        }
    }
    "head" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { Ok(format!("{}", s.objects().head(&s.key("k"), HeadOptions::default()).await?.size)) }
    }
    "list" Objects {
        prepare(s) {
            for number in 0..5 {
                begin(s, &s.key(&format!("o{number}"))).await?;
            }
            Ok(())
        }
        act(s) {
            let start = format!("{}/", s.name);
            let options = ListOptions { page_size: Some(2), ..ListOptions::prefix(&start) };
            let names: Vec<_> = s.objects().list(options).try_collect().await?;
            Ok(names.iter().map(|entry| entry.name().trim_start_matches(&start)).collect::<Vec<_>>().join(","))
        }
    }
    "create" Secrets {
        prepare(_s) { Ok(()) }
        act(s) { s.secrets().create(&s.secret(), s.value(1), Default::default()).await.map(done) }
        truth(s) { s.secret_truth(None, 1, 1).await }
    }
    "put_new" Secrets {
        prepare(_s) { Ok(()) }
        act(s) { s.secrets().put(&s.secret(), s.value(1), Default::default()).await.map(done) }
        truth(s) { s.secret_truth(None, 1, 1).await }
    }
    "put_version" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().put(&s.secret(), s.value(2), Default::default()).await.map(done) }
        truth(s) { s.secret_truth(Some(1), 2, 2).await }
    }
    "put_if_current" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            let options = anycloud::secret_store::PutSecretOptions { if_current: Some(first), ..Default::default() };
            s.secrets().put(&s.secret(), s.value(2), options).await.map(done)
        }
        truth(s) { s.secret_truth(Some(1), 2, 2).await }
    }
    "promote" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().promote(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.secret_truth(Some(2), 1, 3).await }
    }
    "get" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let secret = s.secrets().get(&s.secret(), &VersionSelector::Latest).await?;
            Ok(format!("{}", secret.value.same_as(&s.value(2))))
        }
    }
    "describe" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().describe(&s.secret()).await.map(|meta| format!("{:?}", meta.state)) }
    }
    "list" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) {
            let options = anycloud::secret_store::ListSecrets { prefix: s.secret().to_string(), ..Default::default() };
            let all: Vec<_> = s.secrets().list(options).try_collect().await?;
            Ok(format!("{} secrets", all.len()))
        }
    }
    "list_versions" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let all: Vec<_> = s.secrets().list_versions(&s.secret()).try_collect().await?;
            Ok(format!("{} versions", all.len()))
        }
    }
    "disable" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().disable(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.version_truth(&s.noted("first"), Some(ErrorKind::VersionDisabled)).await }
    }
    "enable" Secrets {
        prepare(s) {
            begin_two_versions(s).await?;
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.clean_secrets().disable(&s.secret(), &first).await
        }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().enable(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.version_truth(&s.noted("first"), None).await }
    }
    "destroy" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().destroy(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.version_truth(&s.noted("first"), Some(ErrorKind::VersionDisabled)).await }
    }
    "set_alias" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            let alias = anycloud::SecretAlias::new("stable").expect("an alias");
            s.secrets().set_alias(&s.secret(), &alias, Some(&first)).await.map(done)
        }
        truth(s) {
            let all: Vec<_> = s.clean_secrets().list_versions(&s.secret()).try_collect().await?;
            let set = all.iter().any(|version| version.aliases.iter().any(|alias| alias.as_str() == "stable"));
            Ok(if set { Truth::Applied } else { Truth::NotApplied })
        }
    }
    "delete" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().delete(&s.secret(), anycloud::secret_store::DeleteSecret::Immediate).await.map(done) }
        truth(s) {
            match s.clean_secrets().get(&s.secret(), &VersionSelector::Latest).await {
                Ok(_) => Ok(Truth::NotApplied),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Truth::Applied),
                Err(error) => Err(error),
            }
        }
    }
    "run" Jobs {
        prepare(_s) { Ok(()) }
        act(s) { s.jobs().run(&s.quick, request(s)).await.map(done) }
        truth(s) { job_truth(s, &s.quick).await }
    }
    "run_without_key" Jobs {
        prepare(_s) { Ok(()) }
        act(s) { s.jobs().run(&s.quick, Default::default()).await.map(done) }
        truth(s) { job_truth(s, &s.quick).await }
    }
    "find" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) {
            let key = request(s).idempotency_key.expect("it has one");
            let found = s.jobs().find(&s.long, &key, 1).await?;
            Ok(format!("{}", found.is_some_and(|found| found.id == execution(s))))
        }
    }
    "get" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) { s.jobs().get(&execution(s)).await.map(|found| format!("{}", found.state.is_finished())) }
    }
    "list" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) {
            let options =
                anycloud::job_runner::ListExecutions { job: Some(s.long.clone()), ..Default::default() };
            let all: Vec<_> = s.jobs().list(options).try_collect().await?;
            Ok(format!("{} executions", all.len()))
        }
    }
    "cancel" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) { s.jobs().cancel(&execution(s)).await.map(done) }
        truth(s) {
            use anycloud::JobState;
            let found = s.clean_jobs().get(&execution(s)).await?;
            Ok(match found.state {
                JobState::Stopping | JobState::Finished(_) => Truth::Applied,
                _ => Truth::NotApplied,
            })
        }
    }
};
