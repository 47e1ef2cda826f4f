//! A call that is dropped at any of its await points leaves the promises true (I26).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::task::Poll;
use std::time::{Duration, Instant};

use anycloud::config::LocalJob;
use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions};
use anycloud::{
    Cloud, Config, ErrorKind, IdempotencyKey, JobName, JobRequest, ObjectKey, ObjectStoreExt as _, PutOptions,
    SecretName, VersionSelector,
};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use libtest_mimic::Failed;

use crate::histories::directory;

/// Polls so many times, then drops. `None` if it had not ended by then.
pub(crate) async fn poll_times<F: Future>(times: usize, call: F) -> Option<F::Output> {
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

fn key(text: impl Into<String>) -> ObjectKey {
    ObjectKey::new(text).expect("a key")
}

const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new, and longer";

/// What is blocking goes on without its caller: it gets this long to end.
const TO_END: Duration = Duration::from_millis(40);

/// Where the object of a step is, and what it may hold.
struct Step {
    name: &'static str,
    before: Option<&'static [u8]>,
    after: Option<&'static [u8]>,
}

/// More than one part.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..12_345_678).map(|index| (index % 251) as u8).collect());

fn steps() -> [Step; 6] {
    let step = |name, after| Step { name, before: Some(OLD), after };
    [
        step("put", Some(NEW)),
        step("upload", Some(NEW)),
        step("stream", Some(&LARGE)),
        step("file", Some(&LARGE)),
        step("copy", Some(NEW)),
        step("delete", None),
    ]
}

async fn act(cloud: &Cloud, step: &str, file: &Path) -> anycloud::Result<()> {
    let objects = cloud.objects();
    match step {
        "put" => objects.put(&key("dir/k"), Bytes::from_static(NEW), PutOptions::default()).await.map(drop),
        "upload" => {
            let mut upload = objects.start_upload(&key("dir/k"), PutOptions::default()).await?;
            upload.put_part(NEW.into()).await?;
            upload.finish(Crc32c::of(NEW)).await.map(drop)
        }
        "stream" => {
            let pieces = LARGE.chunks(1 << 20).map(|piece| Ok(Bytes::from_static(piece)));
            objects.put_stream(&key("dir/k"), stream::iter(pieces), PutOptions::default()).await.map(drop)
        }
        "file" => objects.upload_file(file, &key("dir/k"), PutOptions::default(), None).await.map(drop),
        "copy" => objects.copy(&key("source"), &key("dir/k"), CopyOptions::default()).await.map(drop),
        _ => objects.delete(&key("dir/k"), DeleteOptions::default()).await,
    }
}

async fn check(cloud: &Cloud, step: &Step, times: usize) -> Result<(), Failed> {
    let stored = match cloud.objects().get_bytes(&key("dir/k")).await {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{} dropped after {times} polls: {error}", step.name).into()),
    };
    if stored.as_deref() != step.before && stored.as_deref() != step.after {
        let stored = stored.map(|stored| stored.len());
        return Err(format!("{} dropped after {times} polls leaves {stored:?} bytes", step.name).into());
    }
    let listed = cloud.objects().list_all("").await?;
    if let Some(odd) = listed.iter().find(|object| !matches!(object.key.as_str(), "dir/k" | "source")) {
        return Err(format!("{} dropped after {times} polls lists {odd:?}", step.name).into());
    }
    Ok(())
}

pub(crate) async fn objects() -> Result<(), Failed> {
    let root = directory("dropping");
    let cloud = Cloud::connect(Config::local(&root))?;
    cloud.objects().put(&key("source"), Bytes::from_static(NEW), PutOptions::default()).await?;
    let file = root.join("file");
    std::fs::write(&file, &*LARGE)?;
    let mut dropped = 0;
    for step in &steps() {
        for times in 0.. {
            cloud.objects().put(&key("dir/k"), Bytes::from_static(OLD), PutOptions::default()).await?;
            let ended = poll_times(times, act(&cloud, step.name, &file)).await;
            // Whatever it still does, nobody sees it half done.
            let until = Instant::now() + TO_END;
            while Instant::now() < until {
                check(&cloud, step, times).await?;
            }
            if let Some(ended) = ended {
                ended?;
                break;
            }
            dropped += 1;
            if times > 200 {
                return Err(format!("{} never ends", step.name).into());
            }
        }
    }
    cloud.objects().abort_stale_uploads(Duration::ZERO).await?;
    let left = cloud.objects().abort_stale_uploads(Duration::ZERO).await?;
    println!("dropping, local objects: {} operations, {dropped} drops, left after the sweep: {left:?}", steps().len());
    let _ = std::fs::remove_dir_all(root);
    if dropped < steps().len() { Err("nothing was dropped".into()) } else { Ok(()) }
}

pub(crate) async fn secrets() -> Result<(), Failed> {
    let root = directory("dropping-secrets");
    let cloud = Cloud::connect(Config::local(&root))?;
    let mut dropped = 0;
    for times in 0.. {
        let name = SecretName::new(format!("s{times}"))?;
        cloud.secrets().create(&name, "old".into(), Default::default()).await?;
        let ended = poll_times(times, cloud.secrets().put(&name, "new".into(), Default::default())).await;
        let until = Instant::now() + TO_END;
        while Instant::now() < until {
            let value = cloud.secrets().get(&name, &VersionSelector::Latest).await?.value;
            let versions: Vec<_> = cloud.secrets().list_versions(&name).try_collect().await?;
            if !matches!(value.expose(), b"old" | b"new") || versions.len() > 2 {
                return Err(format!("dropped after {times} polls: {} versions", versions.len()).into());
            }
        }
        match ended {
            Some(ended) => {
                ended?;
                break;
            }
            None => dropped += 1,
        }
    }
    println!("dropping, local secrets: 1 operation, {dropped} drops");
    let _ = std::fs::remove_dir_all(root);
    if dropped == 0 { Err("nothing was dropped".into()) } else { Ok(()) }
}

pub(crate) async fn jobs() -> Result<(), Failed> {
    let root = directory("dropping-jobs");
    let job = JobName::new("touch")?;
    let command = LocalJob { command: vec!["/bin/true".to_owned()], ..LocalJob::default() };
    let mut config = Config::local(&root).with_local_job(job.clone(), command);
    config.local.supervisor = Some(PathBuf::from(env!("CARGO_BIN_EXE_anycloud-supervisor")));
    let cloud = Cloud::connect(config)?;
    let mut dropped = 0;
    for times in 0..200 {
        let request = JobRequest {
            idempotency_key: Some(IdempotencyKey::new(format!("key-{times}"))?),
            labels: [("drop".to_owned(), format!("n{times}"))].into(),
            ..JobRequest::default()
        };
        let ended = poll_times(times, cloud.jobs().run(&job, request.clone())).await;
        let again = cloud.jobs().run(&job, request.clone()).await?;
        tokio::time::sleep(TO_END).await;
        let options = anycloud::job_runner::ListExecutions { labels: request.labels, ..Default::default() };
        let all: Vec<_> = cloud.jobs().list(options).try_collect().await?;
        if all.len() != 1 || all[0].id != again.id {
            return Err(format!("run dropped after {times} polls: {} executions", all.len()).into());
        }
        match ended {
            Some(ended) => {
                ended?;
                break;
            }
            None => dropped += 1,
        }
    }
    println!("dropping, local jobs: 1 operation, {dropped} drops");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _ = std::fs::remove_dir_all(root);
    if dropped == 0 { Err("nothing was dropped".into()) } else { Ok(()) }
}
