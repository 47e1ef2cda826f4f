//! A root of its own for each test, and hosts: processes that submit jobs and can be killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anycloud::config::{LocalConfig, LocalJob};
use anycloud::job_runner::{LogLine, LogMode, LogOptions, LogStream, WaitOptions};
use anycloud::local::ProcessRunner;
use anycloud::object_store::{
    CopyOptions, DeleteOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities, ObjectMeta,
    PutResult, Scheme, SignOptions, SignedRequest, StaleUploads, Upload, Version,
};
use anycloud::{
    Config, Error, ErrorKind, ExecutionId, GetOptions, IdempotencyKey, JobExecution, JobName, JobOutcome, JobRequest,
    JobRunner as _, JobRunnerExt as _, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, WriteId,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;

pub(crate) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

pub(crate) fn with_key(text: &str) -> JobRequest {
    JobRequest { idempotency_key: Some(key(text)), ..JobRequest::default() }
}

/// A root, removed at the end.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) job: JobName,
    pub(crate) runner: ProcessRunner,
    pub(crate) exchange: Arc<Memory>,
    /// Seconds to sleep that no other process sleeps: by this its processes are counted.
    pub(crate) number: u64,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let number = 900_000_000 + u64::from(std::process::id()) * 100 + count;
        Self::at(std::env::temp_dir().join(format!("anycloud-jobs-{number}")), number)
    }

    fn at(root: PathBuf, number: u64) -> Self {
        fs::create_dir_all(&root).unwrap();
        let exchange = Arc::new(Memory::default());
        let runner = ProcessRunner::new(&Config::local(&root).local, exchange.clone());
        Self { root, job: JobName::new("job").unwrap(), runner, exchange, number }
    }

    pub(crate) fn config(&self, script: &str) -> LocalConfig {
        self.config_for(&["/bin/sh", "-c", script])
    }

    fn config_for(&self, command: &[&str]) -> LocalConfig {
        let command = command.iter().map(|text| (*text).to_owned()).collect();
        let job = LocalJob { command, grace_seconds: Some(1), ..LocalJob::default() };
        Config::local(&self.root).with_local_job(self.job.clone(), job).local
    }

    pub(crate) fn runner_with(&self, config: &LocalConfig) -> ProcessRunner {
        ProcessRunner::new(config, self.exchange.clone())
    }

    pub(crate) fn runner_for(&self, script: &str) -> ProcessRunner {
        self.runner_with(&self.config(script))
    }

    pub(crate) async fn outcome(&self, script: &str) -> JobOutcome {
        self.ended(script, JobRequest::default()).await.outcome().unwrap().clone()
    }

    pub(crate) async fn ended(&self, script: &str, request: JobRequest) -> JobExecution {
        self.ended_command(&["/bin/sh", "-c", script], request).await
    }

    pub(crate) async fn ended_command(&self, command: &[&str], request: JobRequest) -> JobExecution {
        let runner = self.runner_with(&self.config_for(command));
        let execution = runner.run(&self.job, request).await.unwrap();
        self.wait(&execution.id).await
    }

    /// Starts a script and returns when it has said something.
    pub(crate) async fn running(&self, script: &str) -> JobExecution {
        let execution = self.runner_for(script).run(&self.job, with_key("running")).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.lines(&execution.id, LogMode::All).await.is_empty() {
            assert!(Instant::now() < deadline, "the job says nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        execution
    }

    pub(crate) async fn wait(&self, id: &ExecutionId) -> JobExecution {
        let options = WaitOptions {
            first_interval: Duration::from_millis(20),
            max_interval: Duration::from_millis(100),
            deadline: Some(Duration::from_secs(20)),
            on_look: None,
        };
        self.runner.wait(id, options).await.unwrap()
    }

    pub(crate) async fn lines(&self, id: &ExecutionId, mode: LogMode) -> Vec<LogLine> {
        self.runner.logs(id, LogOptions { mode }).try_collect().await.unwrap()
    }

    pub(crate) async fn stdout(&self, id: &ExecutionId) -> Vec<String> {
        let lines = self.lines(id, LogMode::All).await.into_iter();
        lines.filter(|line| line.stream == LogStream::Stdout).map(|line| line.text).collect()
    }

    pub(crate) fn directory(&self, id: &ExecutionId) -> PathBuf {
        self.root.join("jobs").join(self.job.as_str()).join(id.as_str())
    }

    /// False if it had ended.
    pub(crate) fn kill_supervisor(&self, id: &ExecutionId) -> bool {
        let record = fs::read(self.directory(id).join("state.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let pid = record["supervisor"].as_i64().unwrap();
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        killed.unwrap().success()
    }

    /// How many processes name the number of this place on their command line.
    pub(crate) fn survivors(&self) -> usize {
        let number = self.number.to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines
            .filter(|line| {
                let text = String::from_utf8_lossy(line);
                text.contains(&number) && !text.contains("anycloud:supervise")
            })
            .count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A process that submits one job and then sleeps.
pub(crate) struct Host {
    child: Child,
    answer: PathBuf,
}

impl Host {
    pub(crate) fn start(place: &Place, key: &str, script: &str) -> Self {
        Self::start_with(place, key, script, "LJ_NOTHING", "")
    }

    pub(crate) fn start_with(place: &Place, key: &str, script: &str, name: &str, value: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let answer = place.root.join(format!("host-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["local_jobs_setup::host_process", "--exact"])
            .env("LJ_HOST", key)
            .env("LJ_ROOT", &place.root)
            .env("LJ_ANSWER", &answer)
            .env("LJ_SCRIPT", script)
            .env(name, value)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, answer }
    }

    /// The id of what it has started.
    pub(crate) fn id(&self) -> ExecutionId {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match fs::read_to_string(&self.answer) {
                Ok(text) if !text.is_empty() => return ExecutionId::new(text).unwrap(),
                _ => assert!(Instant::now() < deadline, "the host does not answer"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The body of a host; returns at once in an ordinary test run.
#[test]
#[allow(clippy::disallowed_methods)]
fn host_process() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(name), Some(root)) = (variable("LJ_HOST"), variable("LJ_ROOT")) else { return };
    // Not to be removed at the end.
    let place = std::mem::ManuallyDrop::new(Place::at(root.into(), 0));
    let runner = place.runner_for(&variable("LJ_SCRIPT").unwrap());
    // As libraries leave them that do not know better: what is started would inherit it.
    let open = fs::File::create(place.root.join("inheritable")).unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let execution = runtime.block_on(runner.run(&place.job, with_key(&name))).unwrap();
    fs::write(variable("LJ_ANSWER").unwrap(), execution.id.as_str()).unwrap();
    std::thread::sleep(Duration::from_secs(20));
}

/// As much of an object store as payloads need.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    objects: Mutex<BTreeMap<String, Bytes>>,
    refuses: AtomicBool,
}

impl Memory {
    pub(crate) fn bytes(&self, uri: &str) -> Vec<u8> {
        self.objects.lock().unwrap()[uri].to_vec()
    }

    pub(crate) fn refuse(&self) {
        self.refuses.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl ObjectStore for Memory {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Local, bucket: "main".to_owned(), key: key.clone() }
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, _: PutOptions) -> Result<PutResult> {
        if !self.refuses.load(Ordering::Relaxed) {
            self.objects.lock().unwrap().insert(self.uri(key).to_string(), body);
            let version = Version::new("local", "1");
            return Ok(PutResult { version, write_id: WriteId::random(), crc32c: None });
        }
        Err(Error::new(ErrorKind::ResourceExhausted, "object_store.put", key, "full"))
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        unimplemented!()
    }

    fn transfer(&self) -> anycloud::TransferPolicy {
        Default::default()
    }
    async fn start_upload(&self, _: &ObjectKey, _: PutOptions) -> Result<Box<dyn Upload>> {
        unimplemented!()
    }
    async fn get(&self, _: &ObjectKey, _: GetOptions) -> Result<GetResult> {
        unimplemented!()
    }
    async fn head(&self, _: &ObjectKey, _: HeadOptions) -> Result<ObjectMeta> {
        unimplemented!()
    }
    fn list(&self, _: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        unimplemented!()
    }
    async fn delete(&self, _: &ObjectKey, _: DeleteOptions) -> Result<()> {
        unimplemented!()
    }
    async fn delete_many(&self, _: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        unimplemented!()
    }
    async fn copy(&self, _: &ObjectKey, _: &ObjectKey, _: CopyOptions) -> Result<PutResult> {
        unimplemented!()
    }
    async fn sign(&self, _: &ObjectKey, _: SignOptions) -> Result<SignedRequest> {
        unimplemented!()
    }
    async fn abort_stale_uploads(&self, _: Duration) -> Result<StaleUploads> {
        unimplemented!()
    }
}
