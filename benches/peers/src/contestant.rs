//! One measurement of one peer, in a process of its own, so that processor time and memory are its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::peer::{self, Peer, Place, Provider};
use crate::row::Work;

/// What came out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The bytes or keys that the peer says it saw.
    pub seen: u64,
    pub seconds: f64,
    pub cpu: f64,
    /// Peak resident memory over what it was before the work, in bytes.
    pub memory: u64,
}

pub async fn run(options: &HashMap<String, String>) -> Result<(), Failure> {
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
    let work: Work = serde_json::from_str(&text("work"))?;
    let place = Place {
        provider: match text("provider").as_str() {
            "Gcs" => Provider::Gcs,
            "Local" => Provider::Local,
            _ => Provider::S3,
        },
        endpoint: text("endpoint"),
        directory: PathBuf::from(text("directory")),
        tuned: [" tuned", " fsync"].iter().any(|form| text("peer").ends_with(form)),
        alike: text("peer").ends_with(" alike"),
        parallel: usize::try_from(number("parallel"))?,
    };
    let files = PathBuf::from(text("files"));
    let cold = matches!(work, Work::ColdStart);
    let begun = Instant::now();
    let peer: Arc<dyn Peer> = Arc::from(peer::connect(&text("peer"), place).await?);
    if cold {
        let seen = peer.read_whole("small").await;
        let seen = match seen {
            Err(error) if error.to_string() == "not offered" => peer.read("small", 1024).await?,
            seen => seen?,
        };
        return print(&Measured { seen, seconds: begun.elapsed().as_secs_f64(), cpu: cpu().as_secs_f64(), memory: 0 });
    }
    if !matches!(work, Work::LocalIn | Work::LocalOut | Work::LocalPut { .. } | Work::LocalGet { .. }) {
        // The connection, the credentials and the rest of the start are another row.
        peer.read("small", 1024).await?;
    }
    // Lets the next line count the peak from here on: https://docs.kernel.org/filesystems/proc.html
    std::fs::write("/proc/self/clear_refs", "5")?;
    let idle = status("VmRSS")?;
    let (begun, before) = (Instant::now(), cpu());
    let seen = perform(peer, work, number("size"), files).await?;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu() - before);
    let memory = status("VmHWM")?.saturating_sub(idle);
    print(&Measured { seen, seconds, cpu: cpu.as_secs_f64(), memory })
}

fn print(measured: &Measured) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(measured)?);
    Ok(())
}

async fn perform(peer: Arc<dyn Peer>, work: Work, size: u64, files: PathBuf) -> Result<u64, Failure> {
    let source = files.join("source");
    Ok(match work {
        Work::Read => peer.read("large", size).await?,
        Work::ReadWhole => peer.read_whole("large").await?,
        Work::WriteStream => {
            peer.write_stream("written", size).await?;
            size
        }
        Work::Upload | Work::LocalIn => {
            peer.upload(&source, "written").await?;
            size
        }
        Work::Download | Work::LocalOut => {
            let target = files.join("target");
            peer.download(if matches!(work, Work::LocalOut) { "written" } else { "large" }, &target).await?;
            std::fs::metadata(target)?.len()
        }
        Work::List { keys } => peer.list(&format!("many-{keys}/")).await?,
        Work::Get { count, at_once } => {
            many(peer, count, at_once, |peer, _| async move { peer.read("small", 1024).await }).await?
        }
        Work::Head { count, at_once } => {
            many(peer, count, at_once, |peer, _| async move { peer.head("small").await }).await?
        }
        Work::Put { count, at_once } => {
            let data = Bytes::from(vec![0x5A; 1024]);
            many(peer, count, at_once, move |peer, number| {
                let data = data.clone();
                async move { peer.write(&format!("put/{}", number % 1000), data).await.map(|()| 1024) }
            })
            .await?
        }
        Work::LocalPut { count } => {
            let data = Bytes::from(vec![0x5A; 4096]);
            many(peer, count, 16, move |peer, number| {
                let data = data.clone();
                async move { peer.write(&format!("many/{number}"), data).await.map(|()| 4096) }
            })
            .await?
        }
        Work::LocalGet { count } => {
            many(peer, count, 16, |peer, number| async move { peer.read(&format!("many/{number}"), 4096).await })
                .await?
        }
        Work::ColdStart => 0,
    })
}

async fn many<F>(
    peer: Arc<dyn Peer>,
    count: u64,
    at_once: u64,
    one: impl Fn(Arc<dyn Peer>, u64) -> F + Clone + Send + 'static,
) -> Result<u64, Failure>
where
    F: Future<Output = Result<u64, Failure>> + Send,
{
    let workers = (0..at_once).map(|worker| {
        let (peer, one) = (Arc::clone(&peer), one.clone());
        tokio::spawn(async move {
            let mut seen = 0;
            for number in (worker..count).step_by(usize::try_from(at_once)?) {
                seen += one(Arc::clone(&peer), number).await?;
            }
            Ok::<_, Failure>(seen)
        })
    });
    let mut seen = 0;
    for worker in workers.collect::<Vec<_>>() {
        seen += worker.await??;
    }
    Ok(seen)
}

/// The processor time of this process, user and system.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn status(name: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in /proc/self/status")?;
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
