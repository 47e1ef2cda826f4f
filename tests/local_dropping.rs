//! Calls of the `local` provider that are dropped after any number of polls: uploads of several parts, every change of
//! a secret, and what looks after a job. What they leave is the old or the new state, whole.
#![cfg(feature = "local")]
#![allow(clippy::print_stdout, reason = "tests print their counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use anycloud::config::LocalJob;
use anycloud::job_runner::{LogMode, LogOptions, WaitOptions};
use anycloud::object_store::Crc32c;
use anycloud::secret_store::{CreateSecretOptions, DeleteSecret, PutSecretOptions, SecretStage};
use anycloud::{
    Cloud, Config, ErrorKind, IdempotencyKey, JobExecution, JobName, JobOutcome, JobRequest, JobRunnerExt as _,
    JobState, ObjectKey, ObjectStoreExt as _, PutOptions, Result, SecretAlias, SecretName, SecretVersionId,
    VersionSelector, WriteId,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;

/// What is blocking goes on without its caller: it gets this long to end.
const TO_END: Duration = Duration::from_millis(40);

/// Polls so many times, then drops. `None` if it had not ended by then.
async fn poll_times<F: Future>(times: usize, call: F) -> Option<F::Output> {
    let mut call = Box::pin(call);
    let mut polls = 0;
    std::future::poll_fn(move |context| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match call.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A root, removed at the end.
struct Place {
    root: PathBuf,
    cloud: Cloud,
}

impl Place {
    fn new() -> Self {
        Self::with_script("true")
    }

    fn with_script(script: &str) -> Self {
        let root = std::env::temp_dir().join(format!("anycloud-dropping-{}", WriteId::random()));
        let script = script.replace("RAN", &root.join("ran").display().to_string());
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let definition = LocalJob { command, grace_seconds: Some(1), ..LocalJob::default() };
        let mut config = Config::local(&root).with_local_job(job(), definition);
        config.local.supervisor = Some(PathBuf::from(env!("CARGO_BIN_EXE_anycloud-supervisor")));
        Self { cloud: Cloud::connect(config).unwrap(), root }
    }

    fn unfinished(&self) -> usize {
        fs::read_dir(self.root.join("objects/main/unfinished")).unwrap().count()
    }

    async fn submit(&self, number: usize) -> JobExecution {
        let idempotency_key = Some(IdempotencyKey::new(format!("key-{number}")).unwrap());
        self.cloud.jobs().run(&job(), JobRequest { idempotency_key, ..JobRequest::default() }).await.unwrap()
    }

    async fn wait(&self, execution: &JobExecution) -> Result<JobExecution> {
        let options = WaitOptions {
            first_interval: Duration::from_millis(10),
            max_interval: Duration::from_millis(50),
            deadline: Some(Duration::from_secs(20)),
            on_look: None,
        };
        self.cloud.jobs().wait(&execution.id, options).await
    }

    async fn lines(&self, execution: &JobExecution, mode: LogMode) -> Result<Vec<String>> {
        let lines = self.cloud.jobs().logs(&execution.id, LogOptions { mode });
        lines.map_ok(|line| line.text).try_collect().await
    }

    /// How many tasks have begun.
    fn runs(&self) -> usize {
        fs::read_to_string(self.root.join("ran")).unwrap_or_default().lines().count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn job() -> JobName {
    JobName::new("job").unwrap()
}

const OLD: &[u8] = b"old";
const PARTS: [&[u8]; 4] = [b"new, ", b"and in ", b"several ", b"parts"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    OneByOne,
    AllAtOnce,
    Aborted,
}

async fn upload(cloud: &Cloud, key: &ObjectKey, sending: Sending) -> Result<()> {
    let mut upload = cloud.objects().start_upload(key, PutOptions::default()).await?;
    if sending == Sending::AllAtOnce {
        let parts: Vec<_> = PARTS.iter().map(|part| upload.put_part(Bytes::from_static(part).into())).collect();
        try_join_all(parts).await?;
    } else {
        for part in PARTS {
            upload.put_part(Bytes::from_static(part).into()).await?;
        }
    }
    match sending {
        Sending::Aborted => upload.abort().await,
        _ => upload.finish(Crc32c::of(&PARTS.concat())).await.map(drop),
    }
}

#[tokio::test]
async fn an_upload_of_several_parts_leaves_the_old_object_or_the_new_one_and_nothing_else() {
    let (place, key) = (Place::new(), ObjectKey::new("dir/k").unwrap());
    let mut drops = 0;
    for sending in [Sending::OneByOne, Sending::AllAtOnce, Sending::Aborted] {
        for times in 0.. {
            place.cloud.objects().put_bytes(&key, OLD).await.unwrap();
            let ended = poll_times(times, upload(&place.cloud, &key, sending)).await;
            for pause in [Duration::ZERO, TO_END] {
                tokio::time::sleep(pause).await;
                let stored = place.cloud.objects().get_bytes(&key).await.unwrap();
                let new = stored == PARTS.concat() && sending != Sending::Aborted;
                assert!(stored == OLD || new, "{sending:?} after {times} polls: {stored:?}");
                assert_eq!(place.cloud.objects().list_all("").await.unwrap().len(), 1);
            }
            assert_eq!(place.unfinished(), 0, "{sending:?} after {times} polls");
            if let Some(ended) = ended {
                ended.unwrap();
                break;
            }
            drops += 1;
        }
    }
    println!("3 uploads, {drops} drops");
    assert!(drops >= 12, "{drops}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Create,
    Put,
    Stage,
    Promote,
    Alias,
    Disable,
    Enable,
    Destroy,
    DeleteRecoverably,
    DeleteAtOnce,
    Restore,
}

const CHANGES: [Change; 11] = [
    Change::Create,
    Change::Put,
    Change::Stage,
    Change::Promote,
    Change::Alias,
    Change::Disable,
    Change::Enable,
    Change::Destroy,
    Change::DeleteRecoverably,
    Change::DeleteAtOnce,
    Change::Restore,
];

fn version(number: u64) -> SecretVersionId {
    SecretVersionId::new(number.to_string()).unwrap()
}

impl Change {
    async fn prepare(self, cloud: &Cloud, name: &SecretName) {
        let secrets = cloud.secrets();
        if self == Self::Create {
            return;
        }
        for value in ["one", "two"] {
            secrets.put(name, value.into(), PutSecretOptions::default()).await.unwrap();
        }
        match self {
            Self::Enable => secrets.disable(name, &version(1)).await.unwrap(),
            Self::Restore => secrets.delete(name, DeleteSecret::Recoverable { days: 7 }).await.unwrap(),
            _ => {}
        }
    }

    async fn make(self, cloud: &Cloud, name: &SecretName) -> Result<()> {
        let secrets = cloud.secrets();
        let staged = PutSecretOptions { stage: SecretStage::Staged, ..PutSecretOptions::default() };
        match self {
            Self::Create => secrets.create(name, "one".into(), CreateSecretOptions::default()).await.map(drop),
            Self::Put => secrets.put(name, "three".into(), PutSecretOptions::default()).await.map(drop),
            Self::Stage => secrets.put(name, "three".into(), staged).await.map(drop),
            Self::Promote => secrets.promote(name, &version(1)).await.map(drop),
            Self::Alias => secrets.set_alias(name, &SecretAlias::new("stable").unwrap(), Some(&version(1))).await,
            Self::Disable => secrets.disable(name, &version(1)).await,
            Self::Enable => secrets.enable(name, &version(1)).await,
            Self::Destroy => secrets.destroy(name, &version(1)).await,
            Self::DeleteRecoverably => secrets.delete(name, DeleteSecret::Recoverable { days: 7 }).await,
            Self::DeleteAtOnce => secrets.delete(name, DeleteSecret::Immediate).await,
            Self::Restore => secrets.restore(name).await,
        }
    }
}

/// The state in which a secret is seen twice: one look is several calls, and a change may come between them.
async fn settled(cloud: &Cloud, name: &SecretName) -> String {
    let mut seen = state(cloud, name).await;
    loop {
        let again = state(cloud, name).await;
        if again == seen {
            return seen;
        }
        seen = again;
    }
}

/// All that can be seen of a secret but its name and times.
async fn state(cloud: &Cloud, name: &SecretName) -> String {
    let secrets = cloud.secrets();
    let meta = match secrets.describe(name).await {
        Ok(meta) => meta,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            return "absent".to_owned();
        }
    };
    let mut text = format!("{:?}", std::mem::discriminant(&meta.state));
    for version in secrets.list_versions(name).try_collect::<Vec<_>>().await.unwrap() {
        let read = secrets.get(name, &VersionSelector::Id(version.id.clone())).await;
        let read = read.map(|secret| secret.value.expose().to_vec()).map_err(|error| error.kind());
        text += &format!("; {} {:?} {} {:?} {read:?}", version.id, version.state, version.current, version.aliases);
    }
    text
}

#[tokio::test]
async fn a_change_of_a_secret_is_made_whole_or_not_at_all() {
    let place = Place::new();
    let (cloud, mut drops) = (&place.cloud, 0);
    for change in CHANGES {
        let whole = SecretName::new(format!("{change:?}")).unwrap();
        change.prepare(cloud, &whole).await;
        let before = state(cloud, &whole).await;
        change.make(cloud, &whole).await.unwrap();
        let after = state(cloud, &whole).await;
        assert_ne!(before, after, "{change:?}");
        for times in 0.. {
            let name = SecretName::new(format!("{change:?}_{times}")).unwrap();
            change.prepare(cloud, &name).await;
            let ended = poll_times(times, change.make(cloud, &name)).await;
            for pause in [Duration::ZERO, TO_END] {
                tokio::time::sleep(pause).await;
                let found = settled(cloud, &name).await;
                assert!(found == before || found == after, "{change:?} after {times} polls: {found}");
            }
            if let Some(ended) = ended {
                ended.unwrap();
                assert_eq!(state(cloud, &name).await, after);
                break;
            }
            drops += 1;
        }
    }
    println!("{} changes of secrets, {drops} drops", CHANGES.len());
    assert!(drops >= 2 * CHANGES.len(), "{drops}");
}

#[tokio::test]
async fn a_dropped_cancellation_is_asked_for_or_not_and_can_be_made_again() {
    let place = Place::with_script("exec sleep 600");
    for times in 0.. {
        let execution = place.submit(times).await;
        let ended = poll_times(times, place.cloud.jobs().cancel(&execution.id)).await;
        tokio::time::sleep(TO_END).await;
        let seen = place.cloud.jobs().get(&execution.id).await.unwrap();
        let cancelled = matches!(seen.state, JobState::Stopping | JobState::Finished(JobOutcome::Cancelled));
        assert!(cancelled || (ended.is_none() && !seen.state.is_finished()), "after {times} polls: {seen:?}");
        place.cloud.jobs().cancel(&execution.id).await.unwrap();
        assert_eq!(place.wait(&execution).await.unwrap().outcome(), Some(&JobOutcome::Cancelled));
        if let Some(ended) = ended {
            ended.unwrap();
            assert!(times > 1);
            println!("1 cancellation, {times} drops");
            break;
        }
    }
}

#[tokio::test]
async fn who_stops_waiting_or_following_changes_nothing_for_the_job() {
    let place = Place::with_script("echo ran >> RAN; echo one; sleep 0.1; echo two; exit 0");
    let (mut drops, mut submitted) = (0, 0);
    for following in [false, true] {
        for times in 0.. {
            let execution = place.submit(submitted).await;
            submitted += 1;
            let ended = match following {
                false => poll_times(times, place.wait(&execution)).await.map(|ended| {
                    assert_eq!(ended.unwrap().outcome(), Some(&JobOutcome::Succeeded));
                }),
                true => poll_times(times, place.lines(&execution, LogMode::Follow)).await.map(|lines| {
                    assert_eq!(lines.unwrap(), ["one", "two"]);
                }),
            };
            let last = place.wait(&execution).await.unwrap();
            assert_eq!(last.outcome(), Some(&JobOutcome::Succeeded), "after {times} polls");
            assert_eq!(place.lines(&execution, LogMode::All).await.unwrap(), ["one", "two"]);
            assert_eq!(place.runs(), submitted, "after {times} polls");
            if ended.is_some() {
                break;
            }
            drops += 1;
        }
    }
    println!("2 ways to look, {drops} drops");
    assert!(drops > 4, "{drops}");
}
