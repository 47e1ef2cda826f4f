//! Whether a secret's bytes are gone from this process's memory when nobody holds it any more: all of it is read.

use std::fs::File;
use std::io::BufRead as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anycloud::secret_store::{CachedSecrets, PutSecretOptions, SecretStore as _};
use anycloud::{Cloud, Config, SecretName, SecretValue, VersionSelector};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::histories;

const LENGTH: usize = 1200;
/// Not a secret's own bytes, or the search would find what it searches for.
const MASK: u8 = 0x55;
const PIECE: usize = 1 << 20;

/// The middle of a secret, masked. The ends may be overwritten by whoever gets the memory next.
struct Needle(Vec<u8>);

impl Needle {
    fn of(secret: &[u8]) -> Self {
        let middle = secret.len() / 2;
        Self(secret[middle..middle + 48].iter().map(|byte| byte ^ MASK).collect())
    }

    /// Of the secret in base64.
    fn of_base64(secret: &[u8]) -> Self {
        let mut text = BASE64_STANDARD.encode(secret).into_bytes();
        let needle = Self::of(&text);
        text.fill(0);
        // Or the line above does nothing that could be seen.
        assert!(text.iter().all(|byte| std::hint::black_box(*byte) == 0));
        needle
    }

    /// How often it is in the memory of this process.
    fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").expect("own memory can be read");
        let maps = std::io::BufReader::new(File::open("/proc/self/maps").expect("maps are there"));
        let mut piece = vec![0; PIECE + self.0.len()];
        let own = piece.as_ptr() as usize..piece.as_ptr() as usize + piece.len();
        let mut count = 0;
        for line in maps.lines().map_while(Result::ok).filter(|line| line.contains(" rw")) {
            let range = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let at = |text| usize::from_str_radix(text, 16).expect("an address");
            let (start, end) = (at(range.0), at(range.1));
            for start in (start..end).step_by(PIECE) {
                let length = piece.len().min(end - start);
                if memory.read_exact_at(&mut piece[..length], start as u64).is_err() {
                    continue;
                }
                let is_it = |window: &[u8]| window.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked);
                let found = piece[..length].windows(self.0.len()).enumerate().filter(|(_, window)| is_it(window));
                count += found.filter(|(offset, _)| !own.contains(&(start + offset)) && *offset < PIECE).count();
            }
        }
        // What was read must not be found by the next search.
        piece.fill(0);
        std::hint::black_box(&piece);
        count
    }
}

/// A secret that nobody else has, with room to spare, and how to recognise it.
fn secret() -> (Vec<u8>, Needle) {
    let mut secret = Vec::with_capacity(LENGTH + 64);
    secret.extend(std::iter::repeat_with(|| fastrand::u8(b'!'..=b'~')).take(LENGTH));
    let needle = Needle::of(&secret);
    (secret, needle)
}

fn values() -> Vec<(&'static str, usize, usize)> {
    let mut seen = Vec::new();
    let (plain, needle) = secret();
    let before = needle.count();
    drop(std::hint::black_box(plain));
    seen.push(("plain bytes, which are not wiped", before, needle.count()));

    let (bytes, needle) = secret();
    let value = SecretValue::new(bytes);
    let clone = value.clone();
    drop(value);
    let before = needle.count();
    drop(std::hint::black_box(clone));
    seen.push(("a value", before, needle.count()));

    let (bytes, needle) = secret();
    let value = SecretValue::from(String::from_utf8(bytes).expect("it is ASCII"));
    let before = needle.count();
    drop(std::hint::black_box(value));
    seen.push(("a value of text", before, needle.count()));
    seen
}

async fn stores() -> Vec<(&'static str, usize, usize)> {
    let root = histories::directory("memory");
    let cloud = Cloud::connect(Config::local(&root)).expect("the local provider needs nothing");
    let name = SecretName::new("wiped").expect("a name");
    let (bytes, needle) = secret();
    let encoded = Needle::of_base64(&bytes);
    let first = SecretValue::new(bytes);
    cloud.secrets().create(&name, first.clone(), Default::default()).await.expect("created");
    cloud.secrets().put(&name, first, PutSecretOptions::default()).await.expect("unchanged");
    let cached = CachedSecrets::new(cloud.secrets().clone(), Default::default());
    let read = cached.get(&name, &VersionSelector::Latest).await.expect("read");
    let before = needle.count();
    drop(read);
    let kept = needle.count();
    cached.forget(&name);
    // The blocking threads end their work a moment after it was waited for.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let seen = vec![
        ("a value in a cache", kept, needle.count()),
        ("a value in a store's files", before, needle.count()),
        ("the same in base64", 1, encoded.count()),
    ];
    let _ = std::fs::remove_dir_all(root);
    seen
}

/// What was there before each was dropped, and after.
pub(crate) fn child() {
    let mut seen = values();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    seen.extend(runtime.expect("a runtime starts").block_on(stores()));
    for (what, before, after) in seen {
        println!("memory: {before} copies of {what}, {after} when nobody holds it");
    }
}
