//! What this process uses, and the emulator beside it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

/// Google Cloud's emulator in a process of its own, so that what it keeps is not counted here.
pub(crate) struct Emulator {
    child: Child,
    pub(crate) url: String,
}

impl Emulator {
    pub(crate) fn start(bucket: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_anycloud-gcp-emulator"))
            .args(["--bucket", bucket])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("# serving on ").unwrap().to_owned();
        Self { child, url }
    }

    /// Lets one of the next calls on a path with this text in it go wrong.
    pub(crate) fn add_fault(&self, path: &str, action: &str) {
        let body = format!(r#"{{"operation": "*", "path": "{path}", "action": {action}}}"#);
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        let length = body.len();
        let head = "POST /_emulator/faults HTTP/1.1\r\nhost: emulator\r\nconnection: close";
        write!(stream, "{head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one transfer more that is under way may take: its budget.
const TRANSFER_KIB: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    kib: u64,
    descriptors: u64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Self { kib, descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 }
    }

    /// The last quarter may not need more than the second one, but for what chance adds.
    pub(crate) fn judge(samples: &[Self]) -> Result<(), Failed> {
        let quarter = samples.len() / 4;
        let median = |samples: &[Self], of: fn(&Self) -> u64| {
            let mut values: Vec<u64> = samples.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
        let memory = (median(early, |usage| usage.kib), median(late, |usage| usage.kib));
        let open = (median(early, |usage| usage.descriptors), median(late, |usage| usage.descriptors));
        println!("resident: {} KiB, then {} KiB; descriptors: {}, then {}", memory.0, memory.1, open.0, open.1);
        if memory.1 > memory.0 + memory.0 / 5 + TRANSFER_KIB {
            return Err("the memory grows".into());
        }
        if open.1 > open.0 + open.0 / 4 + 16 { Err("the descriptors grow".into()) } else { Ok(()) }
    }
}
