//! Starts the stores, lets the contestants take turns, and throws away what does not add up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Failure;
use crate::contestant::Measured;
use crate::peer::{BUCKET, Named, PEERS, Provider};
use crate::report::{self, Line, Table};
use crate::row::{ROWS, Row, Work};

const GIB: u64 = 1 << 30;
const LATENCY_MS: u64 = 20;
const BANDWIDTH: u64 = 85_000_000;

/// A store in a process of its own, which ends with this.
struct Store {
    _child: Child,
    endpoint: String,
    client: Client<HttpConnector, Full<bytes::Bytes>>,
}

/// Requests, bytes sent, bytes received, bytes of finished objects.
type Counts = [u64; 4];

impl Store {
    async fn start(latency: u64, bandwidth: u64, size: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--latency", &latency.to_string(), "--bandwidth", &bandwidth.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the store has no output")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port).await?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let store = Self { _child: child, endpoint: format!("http://127.0.0.1:{}", port.trim()), client };
        store.command(&format!("seed?key={BUCKET}/small&size=1024")).await?;
        store.command(&format!("seed?key={BUCKET}/large&size={size}")).await?;
        Ok(store)
    }

    async fn command(&self, command: &str) -> Result<bytes::Bytes, Failure> {
        let response = self.client.get(format!("{}/_{command}", self.endpoint).parse()?).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }

    async fn counts(&self) -> Result<Counts, Failure> {
        Ok(serde_json::from_slice(&self.command("counts").await?)?)
    }
}

const RESULTS: &str = "benches/peers/RESULTS.md";
/// What a whole run says of the goals stands here too.
const README: &str = "README.md";

pub async fn run(options: &HashMap<String, String>) -> Result<(), Failure> {
    let words = |name: &str| -> Vec<String> {
        options.get(name).into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect()
    };
    let number = |name: &str, default: u64| options.get(name).map_or(Ok(default), |value| value.parse());
    let (rows, peers) = (words("rows"), words("peers"));
    let (rounds, size) = (number("rounds", 5)?, number("mib", 256)? << 20);
    let chosen = |name: &str, list: &[String]| list.is_empty() || list.iter().any(|part| name.contains(part.as_str()));
    let files = std::env::temp_dir().join(format!("anycloud-peers-{}", std::process::id()));
    std::fs::create_dir_all(&files)?;
    let plain = Store::start(0, 0, size).await?;
    let shaped = Store::start(LATENCY_MS, BANDWIDTH, size).await?;
    let output = options.get("output").map_or(RESULTS, String::as_str);
    let mut tables = Vec::new();
    for row in ROWS.iter().filter(|row| chosen(row.name, &rows)) {
        eprintln!("{}", row.title);
        let peers: Vec<_> = PEERS
            .iter()
            .filter(|peer| {
                peer.provider.contains(&row.provider)
                    && row.tells(peer.name)
                    && (peer.name == "anycloud" || chosen(peer.name, &peers))
            })
            .collect();
        let store = if row.shaped { &shaped } else { &plain };
        let table = measure(row, &peers, store, &files, size, rounds).await;
        let table = table?;
        print!("{}", report::table(&table));
        tables.push(table);
        // After every row, so that a run that is cut short is not lost.
        if output != "-" {
            std::fs::write(output, report::document(&tables, rounds, size)?)?;
        }
        if output == RESULTS && rows.is_empty() {
            let readme = std::fs::read_to_string(README)?;
            std::fs::write(README, report::within(&readme, &report::summary(&tables, rounds)?)?)?;
        }
    }
    std::fs::remove_dir_all(&files)?;
    Ok(())
}

async fn measure<'a>(
    row: &'a Row,
    peers: &[&'static Named],
    store: &Store,
    files: &Path,
    size: u64,
    rounds: u64,
) -> Result<Table<'a>, Failure> {
    let size = if row.provider == Provider::Local { GIB } else { size };
    if matches!(row.work, Work::Upload | Work::LocalIn) {
        source(&files.join("source"), size)?;
    }
    let mut lines: Vec<_> = peers.iter().map(|peer| Line::new(peer.name)).collect();
    let rounds = if matches!(row.work, Work::List { keys: 1_000_000.. }) { 1 } else { rounds };
    for round in 0..rounds {
        for turn in 0..peers.len() {
            // Everyone comes first, and after everyone else, once in a while.
            let index = (turn + usize::try_from(round)?) % peers.len();
            if lines[index].trouble.is_some() {
                continue;
            }
            match once(row, peers[index].name, store, files, size).await {
                Ok((measured, counts)) => match objection(row, &measured, counts, size) {
                    None => lines[index].add(measured, counts),
                    Some(objection) => lines[index].trouble = Some(format!("thrown away: {objection}")),
                },
                Err(error) => lines[index].trouble = Some(error.to_string()),
            }
        }
    }
    lines.retain(|line| line.trouble.as_deref() != Some("not offered"));
    Ok(Table { row, lines, size })
}

async fn once(row: &Row, peer: &str, store: &Store, files: &Path, size: u64) -> Result<(Measured, Counts), Failure> {
    let directory: PathBuf = files.join(peer.replace(' ', "-"));
    if matches!(row.work, Work::LocalIn | Work::LocalPut { .. }) {
        let _ = std::fs::remove_dir_all(&directory);
    }
    let before = store.counts().await?;
    let output = Command::new(std::env::current_exe()?)
        .arg("contestant")
        .args(["--peer", peer, "--provider", &format!("{:?}", row.provider), "--endpoint", &store.endpoint])
        .args(["--work", &serde_json::to_string(&row.work)?, "--size", &size.to_string()])
        .args(["--parallel", if row.shaped { "32" } else { "8" }])
        .arg("--directory")
        .arg(&directory)
        .arg("--files")
        .arg(files)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", files)
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(90), output).await??;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let error = errors.lines().last().unwrap_or_default().trim_start_matches("Error: ").trim_matches('"');
        return Err(error.chars().take(400).collect::<String>().into());
    }
    let after = store.counts().await?;
    let mut counts = after;
    counts.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
    Ok((serde_json::from_slice(&output.stdout)?, counts))
}

/// Why a measurement does not count: the peer or the store saw other bytes than were to be moved.
fn objection(
    row: &Row,
    measured: &Measured,
    [requests, sent, received, published]: Counts,
    size: u64,
) -> Option<String> {
    let (seen, down, up) = match row.work {
        Work::Read | Work::ReadWhole | Work::Download => (size, size, 0),
        Work::WriteStream | Work::Upload => (size, 0, size),
        Work::Get { count, .. } => (1024 * count, 1024 * count, 0),
        Work::Put { count, .. } => (1024 * count, 0, 1024 * count),
        Work::Head { count, .. } => (1024 * count, 0, 0),
        Work::List { keys } => (keys, 0, 0),
        Work::ColdStart => (1024, 1024, 0),
        Work::LocalIn | Work::LocalOut => (size, 0, 0),
        Work::LocalPut { count } | Work::LocalGet { count } => (4096 * count, 0, 0),
    };
    if measured.seen != seen {
        return Some(format!("the peer saw {} where {seen} were to come", measured.seen));
    }
    if sent < down {
        return Some(format!("the store sent {sent} bytes of {down}"));
    }
    if received < up || published != up {
        return Some(format!("the store received {received} bytes and keeps {published} of {up}"));
    }
    if let Work::Get { count, .. } | Work::Put { count, .. } | Work::Head { count, .. } = row.work
        && requests < count
    {
        return Some(format!("{requests} requests for {count} operations"));
    }
    None
}

/// A file of bytes that do not compress to nothing, unless it is there.
fn source(path: &Path, size: u64) -> Result<(), Failure> {
    use std::io::Write as _;
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() == size) {
        return Ok(());
    }
    let mut file = std::fs::File::create(path)?;
    let piece: Vec<u8> = (0_u32..1 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for _ in 0..size / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(())
}
