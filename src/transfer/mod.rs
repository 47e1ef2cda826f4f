//! Moving large objects at the speed of the wire, in bounded memory, above the contract and so for every provider.

mod ahead;
mod download;
mod held;
mod in_order;
mod placement;
mod pool;
mod resuming;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod width;

pub(crate) use download::Downloads;
pub(crate) use pool::{Pool, Pooled};
pub(crate) use task::Task;

/// How large objects are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferPolicy {
    /// The most memory that one transfer holds, in bytes: three quarters for what has come and the reader has not taken
    /// yet, the rest for the connections. How many of these there may be follows: twice as many as ranges fit into the
    /// former, because of the ranges that are under way half has come on average.
    pub budget_bytes: u64,
    /// The size of the ranges that a large object is read in; some are smaller. An object of up to four of them costs
    /// exactly one request. A larger one is read over four connections at once; over up to 32 as soon as one of them
    /// shows itself slower than 400 MB/s; over more as long as that makes it faster; and over fewer again when the
    /// store answers 429 or 503 or the reader does not keep up.
    pub range_bytes: u64,
}

impl Default for TransferPolicy {
    /// 64 MiB, in ranges of up to 2 MiB: 48 connections at most, which at 20 ms of latency and the
    /// [85 MB/s that one connection to S3 gives](https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html)
    /// are worth about 2 GiB/s.
    fn default() -> Self {
        Self { budget_bytes: 64 << 20, range_bytes: 2 << 20 }
    }
}

impl TransferPolicy {
    /// What may be held ahead of the reader. A quarter of the budget is for what the connections themselves hold.
    fn ahead_bytes(&self) -> u64 {
        self.budget_bytes - self.budget_bytes / 4
    }

    /// How many ranges may be under way at the same time: of those that are, half has come on average.
    fn parallel(&self) -> usize {
        usize::try_from(2 * self.ahead_bytes() / self.range_bytes.max(1)).unwrap_or(usize::MAX).max(1)
    }
}
