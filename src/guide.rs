//! Guides: what the API's pages do not say in one place.

/// What each kind of error means and what to do about it.
#[doc = include_str!("../docs/errors.md")]
pub mod errors {}

/// What is promised when things fail, with the test that proves each promise; and what is not promised.
#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}
