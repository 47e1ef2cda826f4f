use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The bytes that came before the reader wanted them, against the most that may.
///
/// What counts are bytes that came and not ranges that were asked for: most of a range is still on its way while the
/// reader is at an older one, so that several times more connections fit into the same memory.
#[derive(Debug)]
pub(super) struct Held {
    most: u64,
    bytes: AtomicU64,
    changed: Notify,
}

impl Held {
    pub(super) fn new(most: u64) -> Self {
        Self { most, bytes: AtomicU64::new(0), changed: Notify::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) >= self.most
    }

    /// Waits until there is room, or this is what the reader waits for: the one that must always get on.
    pub(super) async fn room(&self, wanted: &AtomicBool) {
        let may_go_on = || wanted.load(Ordering::SeqCst) || !self.is_full();
        while !may_go_on() {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if may_go_on() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    pub(super) fn taken(&self, bytes: u64) {
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if before >= self.most && before - bytes < self.most {
            self.changed.notify_waiters();
        }
    }

    /// The reader has got to this range.
    pub(super) fn want(&self, range: &AtomicBool) {
        range.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_not_wanted_yet_waits_for_room_and_what_is_wanted_does_not() {
        let held = Held::new(10);
        let (first, second) = (AtomicBool::new(false), AtomicBool::new(false));
        held.came(9);
        held.room(&first).await;
        held.came(9);
        assert!(held.room(&first).now_or_never().is_none());
        let mut waiting = pin!(held.room(&first));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        held.want(&first);
        assert!(futures_util::poll!(waiting).is_ready());
        let mut waiting = pin!(held.room(&second));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        held.taken(8);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending(), "10 are as many as may be held");
        held.taken(1);
        assert!(futures_util::poll!(waiting).is_ready());
    }
}
