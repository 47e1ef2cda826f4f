//! Measures `anycloud` beside the clients that its users would otherwise take. `run` prints the table and writes
//! `RESULTS.md`; the other commands are the processes that it starts.

mod contestant;
mod peer;
mod report;
mod row;
mod run;
mod server;

use std::collections::HashMap;
use std::time::Duration;

/// Any error, for the one who reads the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
cargo run --release -p anycloud-peers -- run [options]
  --rows A,B       only the rows whose name contains one of these
  --peers A,B      only the peers whose name contains one of these
  --rounds N       how often every contestant runs; default 5
  --mib N          the size of large objects; default 256
  --output FILE    where the Markdown goes; default benches/peers/RESULTS.md, `-` for nowhere";

/// A CRC32C as both clouds write it.
pub fn base64(crc: u32) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u64::from(crc) << 4;
    let mut text: String = (0..6).rev().map(|place| DIGITS[(bits >> (6 * place)) as usize & 63] as char).collect();
    text.push_str("==");
    text
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let mut options = HashMap::new();
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name.starts_with("--") => options.insert(name[2..].to_owned(), value.clone()),
            _ => return Err(USAGE.into()),
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command.as_str() {
        "serve" => {
            let number = |name: &str| options.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
            let latency = Duration::from_millis(number("latency"));
            runtime.block_on(server::serve(server::Network { latency, bandwidth: number("bandwidth") }))
        }
        "contestant" => runtime.block_on(contestant::run(&options)),
        "run" => runtime.block_on(run::run(&options)),
        _ => Err(USAGE.into()),
    }
}
