//! What a server really did for one client of a history: it says how many effects a call had that was sent repeatedly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::linearizability::Call;
use crate::proxy::Watch;

/// The digits before the value in an object of a history.
pub(crate) const ZEROS: usize = 150;

/// A change that was asked for, and that the server answered with success.
struct Effect {
    at: u64,
    key: usize,
    /// `None` is a deletion.
    put: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct Journal {
    clock: Arc<AtomicU64>,
    /// What stands before the number of a key, in a path and in a query.
    marks: [String; 2],
    effects: Arc<Mutex<Vec<Effect>>>,
}

fn place(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The number that begins here.
fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

impl Journal {
    pub(crate) fn new(prefix: &str, clock: Arc<AtomicU64>) -> Self {
        let marks = ["/", "%2F"].map(|slash| format!("{prefix}{slash}moving-"));
        Self { clock, marks, effects: Arc::default() }
    }

    /// Writes down what goes through a proxy.
    pub(crate) fn watch(&self) -> Watch {
        let journal = self.clone();
        Arc::new(move |request, answer| journal.note(request, answer))
    }

    fn note(&self, request: &[u8], answer: &[u8]) {
        if request.starts_with(b"GET") || request.starts_with(b"HEAD") || answer.get(9) != Some(&b'2') {
            return;
        }
        let named = self.marks.iter().find_map(|mark| Some(place(request, mark.as_bytes())? + mark.len()));
        let Some(key) = named.and_then(|place| number(&request[place..])) else { return };
        let put = match request.starts_with(b"DELETE") {
            true => None,
            false => place(request, &[b'0'; ZEROS]).and_then(|place| number(&request[place..])),
        };
        let (at, key) = (self.clock.fetch_add(1, Ordering::SeqCst), usize::try_from(key).expect("few keys"));
        self.effects.lock().expect("no panic before").push(Effect { at, key, put });
    }

    /// How often this call took effect. What came of a deletion that was given up is not told from the next one of the
    /// same key by the same client: one effect after its end is counted for it.
    pub(crate) fn effects(&self, call: Call, key: usize, began: u64, ended: u64) -> usize {
        let effects = self.effects.lock().expect("no panic before");
        let of_key = effects.iter().filter(|effect| effect.key == key);
        match call {
            Call::Write(value) | Call::Create(value) | Call::Swap { to: value, .. } => {
                of_key.filter(|effect| effect.put == Some(value)).count()
            }
            Call::Delete => {
                let deletions: Vec<u64> =
                    of_key.filter(|effect| effect.put.is_none()).map(|effect| effect.at).collect();
                let late = deletions.iter().filter(|at| **at > ended).count().min(1);
                deletions.iter().filter(|at| (began..=ended).contains(at)).count() + late
            }
            Call::Read(_) => 0,
        }
    }
}
