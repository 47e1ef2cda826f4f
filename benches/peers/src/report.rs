use std::fmt::Write as _;

use crate::Failure;
use crate::contestant::Measured;
use crate::row::{Goal, Measure, Row, Work};

/// All the measurements of one peer in one row.
pub struct Line {
    pub name: &'static str,
    pub trouble: Option<String>,
    rounds: Vec<(Measured, [u64; 4])>,
}

pub struct Table<'a> {
    pub row: &'a Row,
    pub lines: Vec<Line>,
    pub size: u64,
}

impl Line {
    pub fn new(name: &'static str) -> Self {
        Self { name, trouble: None, rounds: Vec::new() }
    }

    pub fn add(&mut self, measured: Measured, counts: [u64; 4]) {
        self.rounds.push((measured, counts));
    }

    fn median(&self, of: impl Fn(&(Measured, [u64; 4])) -> f64) -> f64 {
        let mut values: Vec<_> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => values[count / 2],
            count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
        }
    }

    fn seconds(&self) -> f64 {
        self.median(|(measured, _)| measured.seconds)
    }

    fn cpu(&self) -> f64 {
        self.median(|(measured, _)| measured.cpu)
    }

    fn memory(&self) -> f64 {
        self.median(|(measured, _)| measured.memory as f64) / 1e6
    }

    /// Speed and processor time, in these [`units`].
    fn figures(&self, operations: Option<u64>, size: u64) -> (String, String) {
        match operations {
            Some(count) => {
                let count = count as f64;
                (format!("{:.0}", count / self.seconds()), format!("{:.1}", self.cpu() * 1e6 / count))
            }
            None => {
                let gib = size as f64 / GIB;
                (format!("{:.3}", gib / self.seconds()), format!("{:.3}", self.cpu() / gib))
            }
        }
    }
}

fn units(operations: Option<u64>) -> (&'static str, &'static str) {
    if operations.is_some() { ("op/s", "CPU µs/op") } else { ("GiB/s", "CPU s/GiB") }
}

const GIB: f64 = (1_u64 << 30) as f64;

pub fn table(table: &Table<'_>) -> String {
    let mut text = String::new();
    let operations = table.row.work.operations();
    let (speed, cpu) = units(operations);
    let _ = writeln!(
        text,
        "\n### {}\n\n`{}`\n\n| | {speed} | {cpu} | MB over idle | requests | sent + received ÷ payload | speed | CPU |\n|---|---|---|---|---|---|---|---|",
        table.row.title, table.row.name
    );
    let own = table.lines.iter().find(|line| line.name == "anycloud" && line.trouble.is_none());
    for line in &table.lines {
        if let Some(trouble) = &line.trouble {
            let _ = writeln!(text, "| {} | {} | | | | | | |", line.name, trouble.replace('|', "/"));
            continue;
        }
        let (speed, cpu) = line.figures(operations, table.size);
        let requests = line.median(|(_, counts)| counts[0] as f64);
        let moved = line.median(|(_, counts)| (counts[1] + counts[2]) as f64);
        let moved = match operations {
            None if requests > 0.0 => format!("{:.2}", moved / table.size as f64),
            _ => String::new(),
        };
        let (faster, cheaper) = own.map_or_else(Default::default, |own| {
            (format!("{:.2}", line.seconds() / own.seconds()), format!("{:.2}", own.cpu() / line.cpu()))
        });
        let _ = writeln!(
            text,
            "| {} | {speed} | {cpu} | {:.0} | {requests:.0} | {moved} | {faster} | {cheaper} |",
            line.name,
            line.memory()
        );
    }
    for goal in table.row.goals {
        let _ = writeln!(text, "\n{}", verdict(table, goal));
    }
    text
}

/// One sentence on a goal.
fn verdict(table: &Table<'_>, goal: &Goal) -> String {
    let Some(own) = table.lines.iter().find(|line| line.name == "anycloud" && line.trouble.is_none()) else {
        return "*This crate was not measured.*".to_owned();
    };
    if goal.measure == Measure::Memory {
        let memory = own.memory();
        return format!(
            "{}: {memory:.0} MB over idle, of {} allowed.",
            word(memory <= goal.factor, false),
            goal.factor
        );
    }
    let rivals = table.lines.iter().filter(|line| {
        line.name != "anycloud"
            && line.trouble.is_none()
            && if goal.against.is_empty() {
                line.name != "hyper"
            } else {
                // An `=` at the end means the peer's defaults and not its tuned form.
                goal.against.iter().any(|name| match name.strip_suffix('=') {
                    Some(exact) => line.name == exact,
                    None => line.name.starts_with(name),
                })
            }
    });
    let (what, value) = match goal.measure {
        Measure::Speed => ("speed", Line::seconds as fn(&Line) -> f64),
        _ => ("CPU", Line::cpu as fn(&Line) -> f64),
    };
    let Some(best) = rivals.min_by(|left, right| value(left).total_cmp(&value(right))) else {
        return "*No peer was measured for this goal.*".to_owned();
    };
    let (ratio, met, near, sign) = match goal.measure {
        Measure::Speed => {
            let ratio = value(best) / value(own);
            (ratio, ratio >= goal.factor, ratio >= goal.factor * 0.9, "≥")
        }
        _ => {
            let ratio = value(own) / value(best);
            (ratio, ratio <= goal.factor, ratio <= goal.factor * 1.1, "≤")
        }
    };
    format!("{}: {what} {ratio:.2} × {} (goal {sign} {}).", word(met, near), best.name, goal.factor)
}

fn word(met: bool, near: bool) -> &'static str {
    match (met, near) {
        (true, _) => "**Met**",
        (false, true) => "**Tied** (within 10 %)",
        (false, false) => "**Missed**",
    }
}

pub fn document(tables: &[Table<'_>], rounds: u64, size: u64) -> Result<String, Failure> {
    let cores = std::thread::available_parallelism()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let mut text = format!(
        "# anycloud beside its peers

Made by `cargo run --release -p anycloud-peers -- run`: {rounds} rounds, large objects of {} MiB, medians.

- Machine: {cores} cores of {}, Linux {}; load {} when the last row was done. The store, an HTTP server in memory, runs
  on the same cores in a process of its own, so that speeds on loopback share them with it; the CPU columns are the
  client's alone.
- Every measurement is a process of its own; the peers take turns within a round. CPU is user and system time, memory
  the peak resident size over that before the work, both of the client after a first request has been made.
- *speed* is this crate's divided by the peer's (more is better for this crate), *CPU* likewise (less is better).
  Differences under 10 % are a tie.
- The store counts what it sends and receives. A row whose bytes do not add up is thrown away, and says so.
- The network of the shaped rows: {} ms before every answer, {} MB/s a connection in each direction.
- `hyper` and the tuned SDK drop the bytes of a range as they come, where the others hold them to hand them over in
  order: theirs is the wire's limit, not a stream's.
- *tuned*: ranges or parts of 8 MiB, 8 at once on loopback and 32 at once on the shaped network; on S3 with checksums
  only when required and unsigned payload where the peer can. *alike*: set up to do what this crate does, with the
  same checksums and no retries of its own. The others are as their documentation shows them. A form is left out of
  a row where it does nothing else than the peer's defaults.
  `hyper` signs and checks nothing: the limit.

| peer | version | integrity of what it moves |
|---|---|---|
",
        size >> 20,
        processor()?,
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
        20,
        85,
    );
    for peer in crate::peer::PEERS {
        let _ = writeln!(text, "| {} | {} | {} |", peer.name, version(peer.name), peer.integrity);
    }
    for each in tables {
        text.push_str(&table(each));
    }
    Ok(text)
}

/// This crate's figures and what became of each goal, in a table of its own.
pub fn summary(tables: &[Table<'_>], rounds: u64) -> Result<String, Failure> {
    let mut text = format!(
        "Medians of {rounds} rounds on {} cores of {}, the store on the same cores; ratios are this crate's figure by \
         the best of the peers that the goal names.\n\n| work | this crate | goals |\n|---|---|---|\n",
        std::thread::available_parallelism()?,
        processor()?,
    );
    for table in tables {
        let verdicts: Vec<String> = table.row.goals.iter().map(|goal| verdict(table, goal)).collect();
        let _ = writeln!(text, "| {} | {} | {}{} |", table.row.title, own(table), verdicts.join(" "), distances(table));
    }
    Ok(text)
}

fn own(table: &Table<'_>) -> String {
    let Some(own) = table.lines.iter().find(|line| line.name == "anycloud" && line.trouble.is_none()) else {
        return String::new();
    };
    let operations = table.row.work.operations();
    let ((speed, cpu), (speed_unit, cpu_unit)) = (own.figures(operations, table.size), units(operations));
    format!("{speed} {speed_unit}, {cpu} {cpu_unit}, {:.0} MB", own.memory())
}

/// How far a small call is from the leanest clients, whatever its goal is.
fn distances(table: &Table<'_>) -> String {
    let find = |name: &str| table.lines.iter().find(|line| line.name == name && line.trouble.is_none());
    let small = matches!(table.row.work, Work::Get { .. } | Work::Put { .. } | Work::Head { .. } | Work::List { .. });
    let (true, Some(own)) = (small, find("anycloud")) else { return String::new() };
    let parts: Vec<String> = ["object_store", "hyper"]
        .into_iter()
        .filter_map(|name| Some(format!("{:.2} × {name}", own.cpu() / find(name)?.cpu())))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" CPU beside others: {}.", parts.join(", ")) }
}

/// The document with this text between its marks.
pub fn within(document: &str, text: &str) -> Result<String, Failure> {
    const MARKS: (&str, &str) = ("<!-- peers -->\n", "<!-- /peers -->");
    let parts = document.split_once(MARKS.0).and_then(|(before, rest)| Some((before, rest.split_once(MARKS.1)?.1)));
    let (before, behind) = parts.ok_or("the document has no marks for the table")?;
    Ok(format!("{before}{}{text}{}{behind}", MARKS.0, MARKS.1))
}

fn processor() -> Result<String, Failure> {
    let all = std::fs::read_to_string("/proc/cpuinfo")?;
    let name = all.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    Ok(name.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// As the lock file says.
fn version(peer: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let package = match peer.split(' ').next().unwrap_or_default() {
        "transfer-manager" => "aws-sdk-s3-transfer-manager",
        other => other,
    };
    let entry = format!("name = \"{package}\"\nversion = \"");
    // Of several versions the last, which is the newest, is the one used here.
    let version = LOCK.rsplit_once(&entry).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}
