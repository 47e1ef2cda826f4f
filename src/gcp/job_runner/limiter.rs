use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Spaces calls: so many at once after a rest, then one every interval. Shared by all who read.
#[derive(Debug)]
pub(super) struct Limiter {
    interval: Duration,
    at_once: u32,
    next: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(super) fn new(interval: Duration, at_once: u32) -> Self {
        Self { interval, at_once, next: Mutex::new(None) }
    }

    /// Waits for this call's turn.
    pub(super) async fn turn(&self) {
        let wait = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let rested = now.checked_sub(self.interval * self.at_once.saturating_sub(1)).unwrap_or(now);
            let at = next.map_or(rested, |next| next.max(rested));
            *next = Some(at + self.interval);
            at.saturating_duration_since(now)
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_some_go_at_once_and_then_one_every_interval() {
        tokio::time::advance(Duration::from_secs(100)).await;
        let limiter = Limiter::new(Duration::from_secs(1), 5);
        let begun = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..8 {
            limiter.turn().await;
            turns.push(begun.elapsed().as_secs());
        }
        assert_eq!(turns, [0, 0, 0, 0, 0, 1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_side_by_side_share_the_turns() {
        tokio::time::advance(Duration::from_secs(100)).await;
        let limiter = Limiter::new(Duration::from_secs(1), 2);
        let begun = Instant::now();
        futures_util::future::join_all((0..62).map(|_| limiter.turn())).await;
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}
