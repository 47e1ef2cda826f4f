//! The local provider: what its files hold, and what its processes are given.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::config::LocalJob;
use anycloud::secret_store::{DeleteSecret, SecretStore};
use anycloud::{Cloud, Config, JobName, JobState, SecretName, SecretValue};
use bytes::Bytes;

use super::calls::{request, use_jobs, use_objects, use_secrets};
use super::canary::{VALUE, VARIABLE};
use super::search::{Place, inspect_debug, learn, search, search_but_for, search_files};
use crate::histories;

/// In the environment of every process of an execution.
const MARKER: &[u8] = b"ANYCLOUD_EXECUTION=";

/// One process as the kernel shows it.
struct Process {
    environment: Vec<u8>,
    command_line: Vec<u8>,
}

/// The processes that were started for executions below this root.
fn processes(root: &Path) -> Vec<Process> {
    let root = root.display().to_string().into_bytes();
    let of = |entry: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let process = Process { environment: read("environ"), command_line: read("cmdline") };
        let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
        let ours = holds(&process.environment, &root) || holds(&process.command_line, &root);
        (holds(&process.environment, MARKER) && ours).then_some(process)
    };
    std::fs::read_dir("/proc").expect("/proc is there").flatten().filter_map(of).collect()
}

fn config(root: &Path) -> Config {
    let job = LocalJob {
        command: vec!["/bin/sleep".to_owned(), "30".to_owned()],
        env: BTreeMap::from([("OWN".to_owned(), VARIABLE.to_owned())]),
        grace_seconds: Some(1),
        ..LocalJob::default()
    };
    let mut config = Config::local(root).with_local_job(JobName::new("sleep").expect("a name"), job);
    config.local.supervisor = Some(PathBuf::from(env!("CARGO_BIN_EXE_anycloud-supervisor")));
    config.local.signed_url_base = Some("http://127.0.0.1:9/files".to_owned());
    config
}

/// Secrets are in their own files, which are for their owner only; what a job is told is in its plan.
fn owns(path: &Path) -> Vec<&'static str> {
    let within = |name: &str| path.parent().and_then(Path::file_name).is_some_and(|parent| parent == name);
    if within("secrets") {
        return vec!["a secret's value"];
    }
    match path.file_name().and_then(|name| name.to_str()) {
        Some("plan.json") => vec!["a job's variable"],
        _ => Vec::new(),
    }
}

fn check_files(root: &Path) -> BTreeMap<String, usize> {
    let owned = search_files(root, &owns);
    for path in owned.keys() {
        let mode = std::fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    owned
}

async fn secrets_in_files(root: &Path, secrets: &Arc<dyn SecretStore>) {
    let name = SecretName::new("kept").expect("a name");
    secrets.create(&name, SecretValue::from(VALUE), Default::default()).await.expect("created");
    let owned = check_files(root);
    assert_eq!(owned.len(), 1, "one file holds the value, so that the search can see it: {owned:?}");
    secrets.delete(&name, DeleteSecret::Immediate).await.expect("deleted");
    assert_eq!(check_files(root), BTreeMap::new(), "nothing holds it any more");
}

async fn a_running_job(root: &Path, cloud: &Cloud) {
    let job = JobName::new("sleep").expect("a name");
    let begun = cloud.jobs().run(&job, request("running")).await.expect("started");
    inspect_debug(&begun);
    let deadline = Instant::now() + Duration::from_secs(10);
    // The supervisor, and the task once it has become the program.
    let found = loop {
        let found = processes(root);
        let is_task = |process: &&Process| process.command_line.starts_with(b"/bin/sleep");
        if found.iter().any(|process| is_task(&process)) || Instant::now() > deadline {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (tasks, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|process| process.command_line.starts_with(b"/bin/sleep"));
    assert!(!tasks.is_empty() && !others.is_empty(), "{} tasks and {} others", tasks.len(), others.len());
    for task in &tasks {
        let told = search_but_for(Place::Environment, &task.environment, &["a job's variable"]);
        assert_eq!(told, 2, "the task has both variables, so that the search can see them");
        search(Place::CommandLine, &task.command_line);
    }
    for other in &others {
        search(Place::Environment, &other.environment);
        search(Place::CommandLine, &other.command_line);
    }
    check_files(root);
    cloud.jobs().cancel(&begun.id).await.expect("cancelled");
    while !matches!(cloud.jobs().get(&begun.id).await.expect("found").state, JobState::Finished(_)) {
        assert!(Instant::now() < deadline, "it ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A genuine URL, one that was tampered with, and one without a signature, as the handler serves them.
async fn use_urls(cloud: &Cloud, urls: &[String]) {
    let handler = cloud.signed_url_handler().expect("there is one");
    inspect_debug(handler);
    for url in urls {
        let unsigned = url.split('?').next().expect("a path").to_owned();
        for url in [url.clone(), format!("{url}0"), unsigned] {
            let target = url.split_once("/files").expect("the base").1.to_owned();
            let request = http::Request::get(target).body(http_body_util::Full::<Bytes>::default()).expect("a request");
            let answer = handler.handle(request).await;
            let body = http_body_util::BodyExt::collect(answer.into_body()).await;
            search(Place::DebugForm, format!("{:?}", body.map(|body| body.to_bytes())));
        }
    }
}

/// The process that is searched. Gives how many secrets it learned of afterwards.
pub(crate) async fn child() -> usize {
    let root = histories::directory("canaries");
    let cloud = Cloud::connect(config(&root)).expect("the local provider needs nothing");
    inspect_debug(&config(&root));
    inspect_debug(&cloud);
    secrets_in_files(&root, cloud.secrets()).await;
    use_secrets(cloud.secrets()).await;
    let urls = use_objects(cloud.objects()).await;
    assert_eq!(urls.len(), 2, "URLs are signed");
    use_urls(&cloud, &urls).await;
    a_running_job(&root, &cloud).await;
    use_jobs(cloud.jobs(), "sleep").await;
    check_files(&root);
    // A directory that cannot be one, and records that are none.
    for broken in ["root", "record", "plan"] {
        let at = histories::directory(&format!("canaries-{broken}"));
        match broken {
            "root" => {
                let _ = std::fs::remove_dir_all(&at);
                std::fs::write(&at, VALUE).expect("a file");
            }
            "record" => {
                let made = Cloud::connect(config(&at)).expect("the local provider needs nothing");
                let name = SecretName::new("canary").expect("a name");
                made.secrets().create(&name, VALUE.into(), Default::default()).await.expect("created");
                spoil(&at.join("secrets"));
            }
            _ => {
                std::fs::create_dir_all(&at).expect("a directory");
                std::fs::write(at.join("jobs"), VARIABLE).expect("a file");
            }
        }
        let cloud = Cloud::connect(config(&at)).expect("the local provider needs nothing");
        use_secrets(cloud.secrets()).await;
        use_jobs(cloud.jobs(), "sleep").await;
        let _ = std::fs::remove_dir_all(&at).or_else(|_| std::fs::remove_file(&at));
    }
    let mut secrets: Vec<(&str, Vec<u8>)> = Vec::new();
    for path in signing_keys(&root) {
        secrets.push(("the key that signs URLs", std::fs::read(path).expect("a key")));
    }
    assert_eq!(secrets.len(), 1, "the bucket has a key");
    for url in &urls {
        let signature = url.split_once("signature=").expect("it is signed").1;
        secrets.push(("the signature of a URL", signature.as_bytes().to_vec()));
    }
    learn(&secrets);
    let _ = std::fs::remove_dir_all(root);
    secrets.len()
}

/// Makes of every record one that breaks off in the middle of the value.
fn spoil(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        if bytes.len() > 100 {
            std::fs::write(entry.path(), &bytes[..bytes.len() - 30]).expect("a file");
        }
    }
}

fn signing_keys(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = entries.flat_map(|path| match path.is_dir() {
        true => signing_keys(&path),
        false if path.file_name().is_some_and(|name| name == "signing-key") => vec![path],
        false => Vec::new(),
    });
    found.collect()
}

/// A process with this in its environment and its command line, as one would be seen that gets too much.
pub(crate) fn plant(text: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line", text]).env_clear().env("PLANTED", text);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell");
    let at = PathBuf::from(format!("/proc/{}", process.id()));
    // Between its start and the shell's the process still shows its parent's.
    let deadline = Instant::now() + Duration::from_secs(5);
    let read = |name: &str| std::fs::read(at.join(name)).unwrap_or_default();
    while !read("environ").starts_with(b"PLANTED=") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    search(Place::Environment, read("environ"));
    search(Place::CommandLine, read("cmdline"));
    let _ = process.stdin.take().map(|mut input| input.write_all(b"\n"));
    let _ = process.wait();
}
