//! Notes among a secret's annotations that say who is about to do what, each put there by a comparison of the etag.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::WriteId;

/// Who may add the version after this one.
pub(super) const CLAIM: &str = "anycloud-claim";
/// Who made the secret and is about to add its first version.
pub(super) const CREATOR: &str = "anycloud-creator";

/// A note: the version that it is about (0 before the first), the write, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) number: u64,
    pub(super) write_id: WriteId,
    at: u64,
}

impl Note {
    pub(super) fn new(number: u64, write_id: WriteId) -> Self {
        Self { number, write_id, at: seconds(SystemTime::now()) }
    }

    pub(super) fn read(annotations: &HashMap<String, String>, key: &str) -> Option<Self> {
        let mut parts = annotations.get(key)?.split(' ');
        let number = parts.next()?.parse().ok()?;
        let write_id = WriteId::new(parts.next()?).ok()?;
        Some(Self { number, write_id, at: parts.next()?.parse().ok()? })
    }

    pub(super) fn text(&self) -> String {
        format!("{} {} {}", self.number, self.write_id, self.at)
    }

    /// Whether whoever made it may still be at work. A clock that is ahead by less than a life does no harm.
    pub(super) fn is_fresh(&self, life: Duration) -> bool {
        seconds(SystemTime::now()).abs_diff(self.at) < life.as_secs()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_others_are_not_taken_for_one() {
        let note = Note::new(7, WriteId::random());
        let annotations = HashMap::from([(CLAIM.to_owned(), note.text())]);
        assert_eq!(Note::read(&annotations, CLAIM), Some(note));
        assert_eq!(Note::read(&annotations, CREATOR), None);
        let odd = HashMap::from([(CLAIM.to_owned(), "seven".to_owned())]);
        assert_eq!(Note::read(&odd, CLAIM), None);
    }

    #[test]
    fn a_note_grows_old() {
        let mut note = Note::new(1, WriteId::random());
        assert!(note.is_fresh(Duration::from_secs(180)));
        note.at -= 200;
        assert!(!note.is_fresh(Duration::from_secs(180)));
    }
}
