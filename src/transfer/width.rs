use std::time::Duration;

/// How much faster more ranges at a time must be, so that they are kept and still more are tried.
const WORTH: f64 = 1.15;
/// What one connection gives that more of them hardly help but to use more processors, in bytes a second: several
/// times the
/// [85 MB/s of one to S3](https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html).
const AMPLE: f64 = 400e6;
/// How many ranges are under way beside each other before anything is known of the connections.
pub(super) const FIRST: usize = 4;
/// As soon as one connection shows itself narrow. Doubling from a few on took a third of the time of 256 MiB.
const NARROW: usize = 32;
/// How many rounds nothing more is tried after the store asked for less.
const CALM_ROUNDS: u32 = 8;
/// A reader that is waited for during more than this part of the time is the limit, and not the network.
const SLOW_READER: f64 = 0.9;

/// How many ranges to have under way: more as long as more pays, which is judged once a round of them is done, and
/// fewer when the store asks for that or the reader does not keep up.
pub(super) struct Width {
    now: usize,
    most: usize,
    best: f64,
    /// More does not pay.
    settled: bool,
    calm: u32,
    round: Round,
}

/// What came while as many ranges were done as are under way.
#[derive(Default)]
struct Round {
    bytes: u64,
    time: Duration,
    /// How much of the time the network was waited for.
    waited: Duration,
    ranges: usize,
}

impl Width {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { now: FIRST.min(most), most, best: 0.0, settled: false, calm: 0, round: Round::default() }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// So much came of the first connection, in so much time of waiting for it.
    pub(super) fn judge_connection(&mut self, bytes: u64, waited: Duration) {
        self.best = rate(bytes, waited);
        if self.best < AMPLE && self.calm == 0 {
            self.now = NARROW.clamp(self.now, self.most.max(self.now));
        }
    }

    /// A range of so many bytes was done so long after the one before, and the network was waited for so long of that.
    pub(super) fn note(&mut self, bytes: u64, time: Duration, waited: Duration) {
        let Round { bytes: sum, time: so_far, waited: waits, ranges } = &self.round;
        self.round = Round { bytes: sum + bytes, time: *so_far + time, waited: *waits + waited, ranges: ranges + 1 };
        if self.round.ranges < self.now {
            return;
        }
        let Round { bytes, time, waited, .. } = std::mem::take(&mut self.round);
        self.calm = self.calm.saturating_sub(1);
        if waited.as_secs_f64() < (1.0 - SLOW_READER) * time.as_secs_f64() {
            self.now = (self.now - self.now / 4).max(FIRST.min(self.now));
            return;
        }
        let rate = rate(bytes, time);
        if self.calm > 0 || self.settled {
            return;
        }
        if rate >= WORTH * self.best {
            self.best = rate;
            self.now = (2 * self.now).min(self.most);
        } else {
            self.settled = true;
        }
    }

    /// The store asked for less.
    pub(super) fn back_off(&mut self) {
        self.now = (self.now / 2).max(1);
        self.calm = CALM_ROUNDS;
        self.round = Round::default();
    }
}

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.max(Duration::from_micros(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn round(width: &mut Width, bytes: u64, waited: Duration) {
        for _ in 0..width.now() {
            width.note(bytes, MILLISECOND, waited);
        }
    }

    #[test]
    fn fast_connections_get_more_beside_them_while_that_pays() {
        let mut width = Width::new(48);
        width.judge_connection(1_000_000, MILLISECOND);
        assert_eq!(width.now(), 4);
        round(&mut width, 2_000_000, MILLISECOND);
        assert_eq!(width.now(), 8);
        for _ in 0..10 {
            round(&mut width, 2_100_000, MILLISECOND);
        }
        assert_eq!(width.now(), 8, "which did not");
    }

    #[test]
    fn a_narrow_connection_gets_much_help_at_once_and_more_while_that_pays() {
        let mut width = Width::new(48);
        width.judge_connection(85_000, MILLISECOND);
        assert_eq!(width.now(), 32);
        for _ in 0..31 {
            width.note(1_400_000, MILLISECOND, MILLISECOND);
        }
        assert_eq!(width.now(), 32, "not before a round is done");
        width.note(1_400_000, MILLISECOND, MILLISECOND);
        assert_eq!(width.now(), 48);
        let mut width = Width::new(3);
        width.judge_connection(85_000, MILLISECOND);
        assert_eq!(width.now(), 3);
    }

    #[test]
    fn a_reader_that_does_not_keep_up_gets_fewer() {
        let mut width = Width::new(48);
        width.judge_connection(85_000, MILLISECOND);
        for expected in [24, 18, 14, 11, 9, 7, 6, 5, 4, 4] {
            round(&mut width, 1_400_000, MILLISECOND / 20);
            assert_eq!(width.now(), expected);
        }
    }

    #[test]
    fn a_store_that_asks_for_less_is_asked_for_less_and_nothing_more_is_tried_for_some_time() {
        let mut width = Width::new(48);
        width.judge_connection(85_000, MILLISECOND);
        width.back_off();
        assert_eq!(width.now(), 16);
        for _ in 1..CALM_ROUNDS {
            round(&mut width, 4_000_000, MILLISECOND);
            assert_eq!(width.now(), 16);
        }
        round(&mut width, 4_000_000, MILLISECOND);
        assert_eq!(width.now(), 32);
        for _ in 0..10 {
            width.back_off();
        }
        assert_eq!(width.now(), 1);
    }
}
