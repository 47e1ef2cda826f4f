//! The side of the web application.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anycloud::config::LocalJob;
use anycloud::job_runner::{LogMode, LogOptions, WaitOptions};
use anycloud::object_store::{Progress, ProgressCallback};
use anycloud::{
    Cloud, Config, ErrorKind, ExecutionId, IdempotencyKey, JobName, JobRequest, JobRunnerExt as _, ObjectKey,
    ObjectStoreExt as _, PutOptions, SecretName, SecretStoreExt as _, SecretValue,
};
use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::job::{Order, Outcome};
use crate::search::Settings;

const DATASET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mmm/data/dt_simulated_weekly.csv");

pub(crate) async fn run() -> Result<(), Failure> {
    let own = JobName::new("mmm-train")?;
    let program = std::env::current_exe()?.display().to_string();
    // In the clouds the definition is there already: a task family, a Cloud Run job.
    let definition = LocalJob { command: vec![program], ..LocalJob::default() };
    let cloud = Cloud::connect(Config::from_env()?.with_local_job(own.clone(), definition))?;
    let job = cloud.default_job().unwrap_or(&own);

    let key = IdempotencyKey::random();
    let order = Order {
        dataset: upload(&cloud, &key).await?,
        results: format!("mmm/{key}/results/"),
        sealing_key: SecretName::new("mmm-report-sealing-key")?,
        settings: Settings::default(),
    };
    let sealing_key = sealing_key(&cloud, &order.sealing_key).await?;

    let request = JobRequest {
        args: Some(vec!["train".to_owned()]),
        idempotency_key: Some(key),
        timeout: Some(Duration::from_secs(600)),
        ..JobRequest::with_payload(&order)?
    };
    let execution = cloud.jobs().run(job, request).await?;
    eprintln!("running {} on {}", execution.id, cloud.provider());
    let execution = watch(&cloud, &execution.id).await?;
    if execution.outcome().is_none_or(|outcome| !outcome.is_success()) {
        let reason = execution.reason.unwrap_or_default();
        return Err(format!("the training has not succeeded: {} {reason}", execution.state).into());
    }

    let outcome: Outcome = cloud.jobs().result(&execution).await?;
    if !outcome.is_sealed_with(&sealing_key) {
        return Err("the report was not sealed with our key".into());
    }
    println!("{}", outcome.report);
    for object in cloud.objects().list_all(&order.results).await? {
        eprintln!("{} ({} bytes)", cloud.objects().uri(&object.key), object.size);
    }
    Ok(())
}

async fn upload(cloud: &Cloud, key: &IdempotencyKey) -> Result<ObjectKey, Failure> {
    let dataset = ObjectKey::new(format!("mmm/{key}/dataset.csv"))?;
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("upload {bar:40} {bytes}/{total_bytes} {bytes_per_sec}")?);
    let shown = bar.clone();
    let progress: ProgressCallback = Arc::new(move |Progress { bytes, total, .. }| {
        shown.set_length(total.unwrap_or(bytes));
        shown.set_position(bytes);
    });
    cloud.objects().upload_file(Path::new(DATASET), &dataset, PutOptions::default(), Some(progress)).await?;
    bar.finish_and_clear();
    Ok(dataset)
}

/// The key that the job seals its report with: made once, kept as a secret, and read by the job by its name.
async fn sealing_key(cloud: &Cloud, name: &SecretName) -> Result<SecretValue, Failure> {
    match cloud.secrets().get_latest(name).await {
        Ok(secret) => Ok(secret.value),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = SecretValue::from(IdempotencyKey::random().to_string());
            match cloud.secrets().create(name, made.clone(), Default::default()).await {
                Ok(_) => Ok(made),
                // Somebody else was quicker; theirs is the key.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    Ok(cloud.secrets().get_latest(name).await?.value)
                }
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows how far the job is, by what it prints, until it has ended.
async fn watch(cloud: &Cloud, id: &ExecutionId) -> Result<anycloud::JobExecution, Failure> {
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template("{msg:9} {bar:40} {pos}/{len} trials, {elapsed}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let shown = bar.clone();
    let options = WaitOptions {
        first_interval: Duration::from_millis(200),
        max_interval: Duration::from_secs(2),
        on_look: Some(Arc::new(move |execution| shown.set_message(execution.state.to_string()))),
        ..WaitOptions::default()
    };
    let follow = cloud.jobs().logs(id, LogOptions { mode: LogMode::Follow }).try_for_each(|line| {
        if let Some((done, total)) = line.text.strip_prefix("trials ").and_then(|text| text.split_once('/')) {
            bar.set_length(total.parse().unwrap_or_default());
            bar.set_position(done.parse().unwrap_or_default());
        } else {
            bar.println(line.text);
        }
        std::future::ready(Ok(()))
    });
    // What the job prints is for the eye: a log that cannot be read must not end the waiting.
    let follow = async {
        if let Err(error) = follow.await {
            bar.println(format!("the log cannot be followed: {error}"));
        }
    };
    let (execution, ()) = tokio::join!(cloud.jobs().wait(id, options), follow);
    bar.finish_and_clear();
    Ok(execution?)
}
