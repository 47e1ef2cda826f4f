//! The fuzz targets on stable Rust: their corpora replayed, and seeded mutations of these.
//!
//! `ANYCLOUD_TEST_SECONDS` says for how long each target is played (default 2), `ANYCLOUD_TEST_SEED` from which seed.
#![allow(clippy::disallowed_methods, reason = "the environment says for how long")]
#![allow(clippy::print_stdout, reason = "trials print their counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/targets/mod.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets")]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};

/// Panics of any thread: most parsers run off the caller's.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Changes bytes, cuts, repeats, splices, and puts in what parsers trip over.
fn mutate(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    const TRAPS: &[&[u8]] = &[
        b"\0",
        b"..",
        b"%2F",
        b"%",
        b"\xff\xfe",
        b"18446744073709551615",
        b"-1",
        b"1e999",
        b"\"",
        b"\\",
        b"[[[[[[[[",
        b"{\"a\":",
        b"\r\n\r\n",
        b"<Error><Code>",
        b"((((((((",
        "\u{202e}\u{0}\u{feff}".as_bytes(),
        b"null",
        b"bytes 5-2/1",
        b"--",
    ];
    let mut bytes = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..7) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, TRAPS[random.usize(..TRAPS.len())].iter().copied())),
            4 => {
                let end = random.usize(at..=bytes.len());
                let piece = bytes[at..end].repeat(random.usize(1..20));
                drop(bytes.splice(at..end, piece));
            }
            5 => drop(bytes.drain(at..random.usize(at..=bytes.len()))),
            _ => {
                let other = &corpus[random.usize(..corpus.len())];
                let from = random.usize(..=other.len());
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

fn play(target: fn(&[u8]), input: &[u8]) -> Result<(), Failed> {
    let before = PANICS.load(Ordering::SeqCst);
    let ended = catch_unwind(AssertUnwindSafe(|| target(input)));
    if ended.is_err() || PANICS.load(Ordering::SeqCst) != before {
        return Err(format!("panics on {:?}", String::from_utf8_lossy(input)).into());
    }
    Ok(())
}

fn run(name: &str, target: fn(&[u8]), seconds: u64, seed: u64) -> Result<(), Failed> {
    let corpus = corpus(name);
    for input in &corpus {
        play(target, input)?;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        play(target, &mutate(&mut random, &corpus))
            .map_err(|failed| format!("seed {seed}, mutation {count}: {}", failed.message().unwrap_or_default()))?;
        count += 1;
    }
    println!("{name}: {} inputs of the corpus, {count} mutations, seed {seed}", corpus.len());
    Ok(())
}

fn main() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (seconds, seed) = (number("ANYCLOUD_TEST_SECONDS").unwrap_or(2), number("ANYCLOUD_TEST_SEED").unwrap_or(1));
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        shown(panic);
    }));
    let mut arguments = Arguments::from_args();
    // Panics are counted for the whole process.
    arguments.test_threads = Some(1);
    let required = std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some();
    let trials = targets::TARGETS.iter().map(|(name, target)| {
        let skipped = *name == "s3_answer" && !targets::servers::has_credentials() && !required;
        if skipped {
            println!("{name}: skipped, AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set");
        }
        Trial::test(format!("{name}_takes_any_input"), move || run(name, *target, seconds, seed))
            .with_ignored_flag(skipped)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    targets::clean();
    conclusion.exit();
}
