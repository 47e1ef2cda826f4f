use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anycloud::config::LocalJob;
use anycloud::{Cloud, Config, ErrorKind, GetOptions, JobName, ObjectKey, ObjectStoreExt as _, PutMode, PutOptions};
use hyper_util::rt::TokioIo;
use libtest_mimic::{Failed, Trial};
use tokio::net::TcpListener;

use super::{Backend, Jobs, RUNTIME};

/// Names the root to a child process that counts.
const CHILD: &str = "ANYCLOUD_TEST_COUNT_IN";
const PROCESSES: usize = 4;
const EACH: usize = 25;

static ROOT: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("anycloud-conformance-{}", std::process::id())));

pub(super) async fn backend() -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("the port is known");
    let job = JobName::new("conformance").expect("a job's name");
    let broken = JobName::new("broken").expect("a job's name");
    let command = |program: &str| LocalJob { command: vec![program.to_owned()], ..LocalJob::default() };
    let mut config = Config::local(&*ROOT)
        .with_local_job(job.clone(), command(env!("CARGO_BIN_EXE_anycloud-conformance-job")))
        .with_local_job(broken.clone(), command("/nowhere/no-such-program"));
    config.local.supervisor = Some(PathBuf::from(env!("CARGO_BIN_EXE_anycloud-supervisor")));
    config.local.signed_url_base = Some(format!("http://{address}/files"));
    let cloud = Cloud::connect(config).expect("the local provider needs nothing");
    serve(listener, &cloud);
    Backend {
        name: "local",
        objects: Some(Ok(cloud.objects().clone())),
        secrets: Some(Ok(cloud.secrets().clone())),
        jobs: Some(Ok(Jobs { runner: cloud.jobs().clone(), job, broken })),
    }
}

/// Mounts the handler of signed URLs, as a web application would.
fn serve(listener: TcpListener, cloud: &Cloud) {
    let handler = cloud.signed_url_handler().expect("the local provider has a handler").clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            let service = hyper::service::service_fn(move |request| {
                let handler = handler.clone();
                async move { Ok::<_, std::convert::Infallible>(handler.handle(request).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

pub(super) fn clean() {
    let _ = std::fs::remove_dir_all(&*ROOT);
}

pub(super) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn counter() -> ObjectKey {
    ObjectKey::new("processes/counter").expect("a key")
}

/// Counts up, in competition with other processes.
pub(super) fn child() {
    let root = std::env::var_os(CHILD).expect("the parent names the root");
    let cloud = Cloud::connect(Config::local(Path::new(&root))).expect("the local provider needs nothing");
    RUNTIME.block_on(async {
        let mut done = 0;
        while done < EACH {
            let read = cloud.objects().get(&counter(), GetOptions::default()).await.expect("the counter is there");
            let mode = PutMode::Replace(read.meta.version.clone());
            let value: usize =
                std::str::from_utf8(&read.bytes().await.expect("whole")).expect("text").parse().expect("a number");
            let options = PutOptions { mode, ..PutOptions::default() };
            match cloud.objects().put(&counter(), (value + 1).to_string().into(), options).await {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}"),
            }
        }
    });
}

/// The compare-and-swap counter again, with processes in place of tasks.
pub(super) fn processes() -> Trial {
    Trial::test("local::object_store::a_counter_of_several_processes_loses_no_update", || {
        let cloud = Cloud::connect(Config::local(&*ROOT)).map_err(Failed::from)?;
        RUNTIME.block_on(cloud.objects().put_text(&counter(), "0")).map_err(Failed::from)?;
        let spawn = |_| Command::new(std::env::current_exe()?).env(CHILD, &*ROOT).spawn();
        let children = (0..PROCESSES).map(spawn).collect::<Result<Vec<_>, _>>().map_err(Failed::from)?;
        for mut child in children {
            if !child.wait().map_err(Failed::from)?.success() {
                return Err(Failed::from("a counting process failed"));
            }
        }
        let counted = RUNTIME.block_on(cloud.objects().get_text(&counter())).map_err(Failed::from)?;
        if counted == (PROCESSES * EACH).to_string() { Ok(()) } else { Err(Failed::from(counted)) }
    })
}
