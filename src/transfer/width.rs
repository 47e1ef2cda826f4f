use std::time::Duration;

/// How much faster more ranges at a time must be, so that they are kept and still more are tried.
const WORTH: f64 = 1.15;
/// What one connection gives that more of them hardly help, in bytes a second: several times the
/// [85 MB/s of one to S3](https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html).
pub(super) const AMPLE: f64 = 400e6;
/// How many ranges are asked for at once as soon as one connection shows itself narrow: doubling from one on took a
/// third of the time of 256 MiB.
const FIRST_PARALLEL: usize = 16;

/// How many ranges to have under way: one until that shows itself narrow, then more as long as more pays, which is
/// judged once a round of them is done. It never shrinks: one sample may mislead, and to be too narrow costs many times
/// what it costs to be too wide.
pub(super) struct Width {
    now: usize,
    most: usize,
    /// The rate from which on one connection stays alone.
    enough: f64,
    best: f64,
    round: (u64, Duration, usize),
}

impl Width {
    pub(super) fn new(most: usize, enough: f64) -> Self {
        Self { now: 1, most: most.max(1), enough, best: 0.0, round: Default::default() }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// So many bytes more came of one range, for which the network was waited for so long.
    pub(super) fn note(&mut self, bytes: u64, waited: Duration) {
        let (sum, time, count) = self.round;
        let (sum, time, count) = (sum + bytes, time + waited, count + 1);
        self.round = (sum, time, count);
        if count < self.now || self.now >= self.most {
            return;
        }
        let rate = sum as f64 / time.max(Duration::from_micros(1)).as_secs_f64();
        if self.now == 1 {
            if rate >= self.enough {
                // What is older counts for less.
                self.round = (sum / 2, time / 2, 0);
                return;
            }
            self.now = if rate < AMPLE { FIRST_PARALLEL } else { 2 }.min(self.most);
        } else if rate >= WORTH * self.best {
            self.best = rate;
            self.now = (2 * self.now).min(self.most);
        } else {
            self.most = self.now;
        }
        self.round = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn one_fast_connection_stays_alone() {
        let mut width = Width::new(32, AMPLE);
        for _ in 0..100 {
            width.note(1_000_000, MILLISECOND);
        }
        assert_eq!(width.now(), 1);
    }

    #[test]
    fn a_narrow_connection_gets_help_at_once_and_more_while_that_pays() {
        let mut width = Width::new(32, AMPLE);
        width.note(85_000, MILLISECOND);
        assert_eq!(width.now(), 16);
        for _ in 0..15 {
            width.note(250_000, MILLISECOND);
        }
        assert_eq!(width.now(), 16, "not before a round is done");
        width.note(250_000, MILLISECOND);
        assert_eq!(width.now(), 32);
    }

    #[test]
    fn no_more_is_asked_for_once_that_does_not_pay() {
        let mut width = Width::new(32, f64::INFINITY);
        width.note(1_000_000, MILLISECOND);
        assert_eq!(width.now(), 2, "a fast one gets less help");
        width.note(1_000_000, MILLISECOND);
        width.note(1_000_000, MILLISECOND);
        assert_eq!(width.now(), 4);
        for _ in 0..40 {
            width.note(1_000_000, MILLISECOND);
        }
        assert_eq!(width.now(), 4);
    }

    #[test]
    fn a_beginning_that_came_in_a_burst_does_not_keep_it_narrow() {
        let mut width = Width::new(32, AMPLE);
        width.note(390_000, MILLISECOND);
        for _ in 0..16 {
            width.note(400_000, MILLISECOND);
        }
        assert_eq!(width.now(), 32);
    }
}
