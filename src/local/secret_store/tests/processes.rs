//! What holds between processes: the test program starts itself again in a role.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

const ROLE: &str = "ANYCLOUD_TEST_SECRET_ROLE";
const ROOT: &str = "ANYCLOUD_TEST_SECRET_ROOT";
const COUNTS: u64 = 25;

fn start(role: &str, fixture: &Fixture) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "local::secret_store::tests::processes::plays_its_role", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(ROOT, &fixture.root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "started by the other tests in a process of its own"]
async fn plays_its_role() {
    let Some(role) = crate::config::process_variable(ROLE) else { return };
    let store = FileSecretStore::new(crate::config::process_variable(ROOT).unwrap());
    match role.as_str() {
        "count" => {
            for _ in 0..COUNTS {
                add_one(&store).await;
            }
        }
        "put" => {
            let secret = name("crash");
            for number in 1_u64.. {
                put(&store, &secret, &number.to_string().repeat(2000), PutSecretOptions::default()).await.unwrap();
                println!("acknowledged {number}");
            }
        }
        umask => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(u32::from_str_radix(umask, 8).unwrap()));
            for number in 0..100_u64 {
                put(&store, &name("modes"), &number.to_string(), PutSecretOptions::default()).await.unwrap();
            }
        }
    }
}

/// Compare-and-swap until it succeeds.
async fn add_one(store: &FileSecretStore) {
    loop {
        let read = store.get(&name("counter"), &VersionSelector::Latest).await.unwrap();
        let number: u64 = read.value.expose_str().unwrap().parse().unwrap();
        let options = PutSecretOptions { if_current: Some(read.version), ..PutSecretOptions::default() };
        match put(store, &name("counter"), &(number + 1).to_string(), options).await {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_counter_kept_by_several_processes_loses_no_update() {
    let fixture = Fixture::new();
    put(&fixture.store, &name("counter"), "0", PutSecretOptions::default()).await.unwrap();
    let children: Vec<_> = (0..3).map(|_| start("count", &fixture)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(value(&fixture.store, &name("counter"), VersionSelector::Latest).await, Ok((3 * COUNTS).to_string()));
}

#[tokio::test]
async fn a_killed_process_leaves_the_old_record_or_the_new_one_whole() {
    for round in 0..25_u64 {
        let fixture = Fixture::new();
        let mut child = start("put", &fixture);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acknowledged = || lines.find_map(|line| line.rsplit_once("acknowledged ")?.1.parse::<u64>().ok());
        let mut last = acknowledged().unwrap();
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..20_000) + round));
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(number) = acknowledged() {
            last = number;
        }
        let found = value(&fixture.store, &name("crash"), VersionSelector::Latest).await.unwrap();
        let number = [last, last + 1].into_iter().find(|number| found == number.to_string().repeat(2000));
        assert!(number.is_some(), "{last} was acknowledged, and {} bytes were found", found.len());
        put(&fixture.store, &name("crash"), "after", PutSecretOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn modes_are_right_from_the_first_moment_under_any_umask() {
    for umask in ["000", "022", "777"] {
        let fixture = Fixture::new();
        let mut child = start(umask, &fixture);
        let mode = |path: &str| std::fs::metadata(fixture.root.join(path)).map(|meta| meta.mode() & 0o7777).ok();
        while child.try_wait().unwrap().is_none() {
            for path in ["secrets", "secrets/modes", "secrets/.new"] {
                assert!(mode(path).is_none_or(|mode| mode & 0o077 == 0), "{path} {umask}");
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!((mode("secrets"), mode("secrets/modes")), (Some(0o700), Some(0o600)), "{umask}");
        assert_eq!(mode("").unwrap() & 0o022, 0, "{umask}");
    }
}
