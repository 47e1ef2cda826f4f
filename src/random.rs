//! Ids that nobody else has: the one place where the crate takes randomness from the system.

use std::cell::RefCell;

/// `N` random bytes from the operating system.
///
/// Where the system has none (a sandbox without the call), a generator seeded from time and address takes over:
/// ids stay distinct, but nothing that must be unguessable may rely on this alone.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    bytes
}

/// How many ids are made of one request to the system, which costs as much as a small write does elsewhere.
const STOCK: usize = 32;

thread_local! {
    static UNUSED: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// 16 random bytes that nobody else has had.
fn id() -> [u8; 16] {
    UNUSED.with_borrow_mut(|unused| {
        unused.pop().unwrap_or_else(|| {
            let stock = bytes::<{ 16 * STOCK }>();
            let (ids, _) = stock.as_chunks::<16>();
            unused.extend_from_slice(&ids[1..]);
            ids[0]
        })
    })
}

/// A version 4 UUID in its usual text form.
pub(crate) fn uuid() -> String {
    let mut bytes = id();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = hex(&bytes);
    for index in [20, 16, 12, 8] {
        text.insert(index, '-');
    }
    text
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Room for the hyphens of a UUID, so that it is one allocation.
    let mut text = String::with_capacity(bytes.len() * 2 + 4);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_ids_of_any_threads_are_the_same() {
        let make = || std::thread::spawn(|| (0..100).map(|_| super::uuid()).collect::<Vec<_>>());
        let threads: Vec<_> = (0..4).map(|_| make()).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (400, 400));
    }

    #[test]
    fn uuids_have_the_usual_form_and_differ() {
        let (one, two) = (super::uuid(), super::uuid());
        assert_ne!(one, two);
        assert_eq!((one.len(), one.as_bytes()[14], one.matches('-').count()), (36, b'4', 4));
    }
}
