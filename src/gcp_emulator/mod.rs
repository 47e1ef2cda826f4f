//! A server for the Google Cloud services that have no usable emulator, for tests and laptops.
//!
//! One server on 127.0.0.1 speaks the HTTP/JSON forms of
//!
//! - **Secret Manager** v1, global and regional,
//! - **Cloud Run Admin** v2: jobs, executions, tasks and operations; each task is a real process on
//!   this machine,
//! - **Cloud Logging** v2 `entries:list`: the lines that those processes write,
//! - **Cloud Storage**: the JSON API as far as an object-store client needs it, and reads and
//!   writes through V4 signed URLs,
//! - what hands out tokens and signatures: the metadata server, the Security Token Service, Service
//!   Account Credentials (`signBlob`, `generateAccessToken`) and OAuth for service accounts.
//!
//! Everything is kept in memory and ends with the [`Emulator`]. Unless [`IdentityConfig::callers`]
//! says otherwise there is no authentication: every caller may do everything, including starting
//! processes, so the server never leaves 127.0.0.1.
//!
//! # Examples
//!
//! ```
//! use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
//!
//! let mut config = EmulatorConfig::default();
//! config.buckets.push("data".into());
//! config.images.insert("greeter".into(), vec!["echo".into(), "hello".into()]);
//! let emulator = Emulator::start(config)?;
//! assert!(emulator.url().starts_with("http://127.0.0.1:"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How it is kept honest
//!
//! With [`EmulatorConfig::discovery`] set, every request and every answer is checked against
//! Google's own discovery documents, and what does not conform is listed by
//! [`Emulator::violations`]. Error codes and state changes cite the page that they follow.
//!
//! # What it leaves out
//!
//! - Everything over gRPC, quotas and billing; policies of IAM, but for who may act as a service
//!   account; batch requests; lists of the XML API.
//! - Cloud Storage: older generations and soft delete, `matchGlob`, changing retention and holds of
//!   a bucket that exists, keys of the customer.
//! - Secret Manager: expiry, rotation, delayed destruction, notifications.
//! - Cloud Run: everything but jobs; more than one container, probes, volumes, limits of CPU and
//!   memory; the image of a container is only a name. Creating, changing and deleting a job is done
//!   at once.
//! - Enumerations are answered by name, also to clients that ask for numbers, which every client of
//!   Google's reads.
//!
//! Where no page says what the service does, the emulator does this: a chunk of a resumable upload
//! that is neither the last nor a multiple of 256 KiB is 400; the operation of a failed execution
//! ends with the code 2 (UNKNOWN); cancelling an execution that is over is FAILED_PRECONDITION; once a
//! task has failed for good, those that have not ended are cancelled; a secret whose key of Cloud
//! KMS is denied is refused when it is made; a key's name of another form is 400.
//!
//! # Control
//!
//! | request | effect |
//! |---|---|
//! | `POST /_emulator/faults` | adds a [`Fault`], or a list of them |
//! | `GET`, `DELETE /_emulator/faults` | lists, drops the faults that still wait |
//! | `GET /_emulator/requests` | the calls served, as [`Served`] |
//! | `GET /_emulator/violations` | the violations found |
//! | `GET /_emulator/health` | answers 200 as soon as the server serves |

mod cloud_run;
mod connection;
mod discovery;
mod failure;
mod faults;
mod identity;
mod logging;
mod routes;
mod secret_manager;
mod server;
mod storage;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

pub use faults::{Fault, FaultAction};
pub use identity::{Callers, FederatedToken, IdentityConfig};
pub use server::Served;

use server::Shared;

/// What an [`Emulator`] starts with.
///
/// # Examples
///
/// ```
/// use anycloud::gcp_emulator::EmulatorConfig;
///
/// let config = EmulatorConfig { port: 0, ..EmulatorConfig::default() };
/// assert_eq!(config.cancel_grace.as_secs(), 10);
/// ```
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// The port on 127.0.0.1. Default 0: one that is free.
    pub port: u16,
    /// The directory with Google's discovery documents (`run.v2.json`, `secretmanager.v1.json`,
    /// `storage.v1.json`, `logging.v2.json`). Default none: nothing is checked.
    pub discovery: Option<PathBuf>,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// Jobs that exist from the start: a full name (`projects/P/locations/L/jobs/J`) and the job
    /// in the JSON form of the API.
    pub jobs: BTreeMap<String, Value>,
    /// What an image runs: its entry point, for containers that give no `command`.
    pub images: BTreeMap<String, Vec<String>>,
    /// Environment variables of every task, under those of the job. A task sees nothing else of
    /// the server's own environment.
    pub task_environment: BTreeMap<String, String>,
    /// The `PATH` of every task. Default `/usr/local/bin:/usr/bin:/bin`.
    pub task_path: String,
    /// How long a cancelled or timed-out task has between SIGTERM and SIGKILL. Default 10 s, as
    /// [documented](https://cloud.google.com/run/docs/container-contract#instance-shutdown).
    pub cancel_grace: Duration,
    /// The number of the one project, which Secret Manager then uses in the names that it answers, as
    /// the real service does. Default none: names have the project as the caller wrote it.
    pub project_number: Option<u64>,
    /// The most bytes that one call of `rewriteTo` copies. Default none: all at once. At least
    /// 1 MiB on the real service; any number here.
    pub rewrite_bytes_per_call: Option<u64>,
    /// The shortest time between two changes of one object; an earlier one is answered with 429.
    /// Default none. The real service takes about
    /// [one change per second](https://cloud.google.com/storage/quotas#objects).
    pub object_change_interval: Option<Duration>,
    /// Public keys (PEM) of the service accounts whose signed URLs and tokens are verified, by email address.
    /// The signature of a URL of an unknown account is not checked, its expiry is.
    pub signing_keys: BTreeMap<String, String>,
    /// Names of keys of Cloud KMS that the services may not use. Others are taken if they have the form of a name;
    /// nothing is encrypted.
    pub denied_kms_keys: Vec<String>,
    /// Service accounts, and who may act as them. Default: none, and everybody may call.
    pub identity: IdentityConfig,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            port: 0,
            discovery: None,
            buckets: Vec::new(),
            jobs: BTreeMap::new(),
            images: BTreeMap::new(),
            task_environment: BTreeMap::new(),
            task_path: "/usr/local/bin:/usr/bin:/bin".into(),
            cancel_grace: Duration::from_secs(10),
            project_number: None,
            rewrite_bytes_per_call: None,
            object_change_interval: None,
            signing_keys: BTreeMap::new(),
            denied_kms_keys: Vec::new(),
            identity: IdentityConfig::default(),
        }
    }
}

/// A running server; dropping it ends the server and kills the tasks that still run.
pub struct Emulator {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts a server on a thread of its own, so that it serves whatever the caller's runtime
    /// does.
    ///
    /// # Errors
    ///
    /// When the port cannot be bound, a discovery document cannot be read, a job of the
    /// configuration is not valid or no thread can be started.
    pub fn start(config: EmulatorConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, config.port)))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared::new(config, url)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("gcp-emulator")
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("gcp-emulator".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = server::serve(listener, Arc::clone(&serving)) => {}
                    _ = stopped => {}
                }
            });
            serving.run.kill_everything();
            runtime.shutdown_timeout(Duration::from_secs(1));
            // What was being started meanwhile; nothing starts any more.
            serving.run.kill_everything();
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The server's URL, without a final slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The environment variables with which clients reach the server, by name.
    ///
    /// `STORAGE_EMULATOR_HOST` is the one that Google's own storage clients know; the others are
    /// this crate's.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        [
            "STORAGE_EMULATOR_HOST",
            "SECRET_MANAGER_EMULATOR_HOST",
            "CLOUD_RUN_EMULATOR_HOST",
            "CLOUD_LOGGING_EMULATOR_HOST",
        ]
        .into_iter()
        .map(|name| (name, self.url().to_owned()))
        .collect()
    }

    /// Scripts a fault.
    pub fn add_fault(&self, fault: Fault) {
        server::lock(&self.shared.faults).add(fault);
    }

    /// Drops the faults that still wait.
    pub fn clear_faults(&self) {
        server::lock(&self.shared.faults).clear();
    }

    /// Drops the faults that still wait for this path.
    pub fn clear_faults_of(&self, path: &str) {
        server::lock(&self.shared.faults).clear_of(path);
    }

    /// The calls served so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Served> {
        server::lock(&self.shared.served).clone()
    }

    /// Where requests or answers did not conform to the discovery documents. Values are never
    /// named, only fields.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        server::lock(&self.shared.violations).clone()
    }
}

impl fmt::Debug for Emulator {
    /// The address; what the server holds may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
