use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How much a connection may save up while nothing is sent; covers the timer's millisecond.
const SAVED: Duration = Duration::from_millis(2);

/// The token bucket of one connection, for each direction.
pub(super) struct Pace {
    bandwidth: u64,
    next: Mutex<[Instant; 2]>,
}

#[derive(Clone, Copy)]
pub(super) enum Direction {
    Down = 0,
    Up = 1,
}

impl Pace {
    pub(super) fn new(bandwidth: u64) -> Self {
        Self { bandwidth, next: Mutex::new([Instant::now(); 2]) }
    }

    pub(super) fn limited(&self) -> bool {
        self.bandwidth > 0
    }

    /// When these bytes are through.
    pub(super) fn reserve(&self, direction: Direction, bytes: usize) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let next = &mut next[direction as usize];
        let earliest = Instant::now() - SAVED;
        *next = (*next).max(earliest) + Duration::from_secs_f64(bytes as f64 / self.bandwidth as f64);
        *next
    }
}
