//! A disk of 1 MiB, and a limit on the size of files: what does not fit is an error, and what is there is whole.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anycloud::local::{FileSecretStore, FileStore};
use anycloud::{ErrorKind, ObjectKey, ObjectStore as _, ObjectStoreExt as _, SecretName, SecretStoreExt as _};
use libtest_mimic::Failed;

use crate::scratch::Scratch;

/// The first argument of the process that fills its root.
pub(crate) const ARGUMENT: &str = "fill";

const SIZES: [usize; 4] = [100, 9_000, 60_000, 150_000];

/// Whether a file system can be mounted where nobody else sees it.
pub(crate) fn namespaces() -> Result<(), String> {
    let mut command = Command::new("unshare");
    let tried = command.args(["-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]).output();
    match tried {
        Err(error) => Err(format!("unshare: {error}")),
        Ok(output) if !output.status.success() => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(_) => Ok(()),
    }
}

fn content(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; SIZES[number % SIZES.len()]];
    fastrand::Rng::with_seed(number as u64).fill(&mut bytes);
    bytes
}

/// The body of the process: writes objects and secrets until eight in a row do not fit, and checks them all.
pub(crate) fn fill(root: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stored, refused, secrets) = runtime.block_on(async {
        let (store, secrets) = (FileStore::new(root, "main"), FileSecretStore::new(root));
        let name = SecretName::new("db").unwrap();
        let key = |number: usize| ObjectKey::new(format!("d{}/{number:04}", number % 3)).unwrap();
        let (mut stored, mut refused, mut in_a_row, mut secret) = (Vec::new(), Vec::new(), 0, 0_u32);
        for number in 0..400 {
            match store.put_bytes(&key(number), content(number)).await {
                Ok(_) => {
                    stored.push(number);
                    in_a_row = 0;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
                    refused.push(number);
                    in_a_row += 1;
                }
            }
            match secrets.put_value(&name, format!("{:04}", secret + 1)).await {
                Ok(_) => secret += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}"),
            }
            if in_a_row >= 8 {
                break;
            }
        }
        check(&store, &stored, key).await;
        let latest = secrets.get_latest(&name).await.unwrap();
        assert_eq!(latest.value.expose_str().unwrap(), format!("{secret:04}"));
        // Room can be made on a full disk.
        for number in stored.drain(..stored.len() / 2).collect::<Vec<_>>() {
            store.delete(&key(number), Default::default()).await.unwrap();
        }
        store.put_bytes(&key(0), content(0)).await.unwrap();
        store.abort_stale_uploads(Duration::ZERO).await.unwrap();
        assert_eq!(std::fs::read_dir(root.join("objects/main/unfinished")).unwrap().count(), 0);
        (stored.len(), refused.len(), secret)
    });
    println!("{stored} objects kept, {refused} refused, {secrets} versions of a secret");
}

async fn check(store: &FileStore, stored: &[usize], key: impl Fn(usize) -> ObjectKey) {
    let mut listed: Vec<_> = store.list_all("").await.unwrap().into_iter().map(|object| object.key).collect();
    let mut expected: Vec<_> = stored.iter().map(|number| key(*number)).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    for number in stored {
        assert_eq!(store.get_bytes(&key(*number)).await.unwrap(), content(*number));
    }
}

/// Runs this program in a shell after some preparation.
fn after(prelude: &str, root: &Path) -> Output {
    Command::new("sh")
        .args(["-c", &format!("{prelude} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .arg(ARGUMENT)
        .arg(root)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn conclude(what: &str, output: &Output) -> Result<(), Failed> {
    println!("{what}: {}", String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

pub(crate) fn full_disk() -> Result<(), Failed> {
    let root = Scratch::new();
    let mount = format!("mount -t tmpfs -o size=1m,mode=700 none {} &&", root.0.display());
    let inner = format!("{mount} exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &inner])
        .arg(std::env::current_exe().unwrap())
        .arg(ARGUMENT)
        .arg(&root.0)
        .output()
        .unwrap();
    conclude("1 MiB of disk", &output)
}

/// 100 blocks of 512 bytes; the larger objects do not fit. An ignored signal stays ignored in what is executed.
pub(crate) fn file_size_limit() -> Result<(), Failed> {
    let root = Scratch::new();
    let output = after("trap '' XFSZ; ulimit -f 100;", &root.0);
    conclude("51,200 bytes a file", &output)
}

/// A process that has not said what it wants done with the signal is ended by it; its objects are whole.
pub(crate) fn ended_by_the_limit() -> Result<(), Failed> {
    let root = Scratch::new();
    let output = after("ulimit -f 100;", &root.0);
    if output.status.signal() != Some(rustix::process::Signal::XFSZ.as_raw()) {
        return Err(format!("not ended by SIGXFSZ but with {}", output.status).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = FileStore::new(&root.0, "main");
        check(&store, &[0, 1], |number| ObjectKey::new(format!("d{}/{number:04}", number % 3)).unwrap()).await;
        assert_eq!(store.abort_stale_uploads(Duration::ZERO).await.unwrap().aborted, 1);
    });
    Ok(())
}
