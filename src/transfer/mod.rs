//! Moving large objects at the speed of the wire, in bounded memory, above the contract and so for every provider.

mod download;
mod in_order;
mod placement;
mod pool;
mod resuming;
mod task;
#[cfg(test)]
mod tests;
mod width;

pub(crate) use download::Downloads;
pub(crate) use pool::{Pool, Pooled};
pub(crate) use task::Task;

/// How large objects are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferPolicy {
    /// The most memory that one transfer holds, in bytes.
    pub budget_bytes: u64,
    /// The size of the ranges that a large object is read in. An object of up to four of them costs exactly one
    /// request.
    pub range_bytes: u64,
}

impl Default for TransferPolicy {
    /// 64 MiB, in ranges of 1.5 MiB: 32 connections at most, which at 20 ms of latency and the
    /// [85 MB/s that one connection to S3 gives](https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html)
    /// are worth about 1.2 GiB/s.
    fn default() -> Self {
        Self { budget_bytes: 64 << 20, range_bytes: 3 << 19 }
    }
}

impl TransferPolicy {
    /// How many ranges may be held at the same time. A quarter of the budget is for what the connections themselves
    /// hold.
    fn parallel(&self) -> usize {
        let planned = self.budget_bytes - self.budget_bytes / 4;
        usize::try_from(planned / self.range_bytes.max(1)).unwrap_or(usize::MAX).max(1)
    }
}
