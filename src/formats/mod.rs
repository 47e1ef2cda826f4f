//! Typed contents of objects: JSON, and behind features CSV and Parquet.

#[cfg(feature = "csv")]
pub mod csv;
pub(crate) mod json;
#[cfg(test)]
#[cfg(any(feature = "csv", feature = "parquet"))]
mod memory;
#[cfg(feature = "parquet")]
pub mod parquet;
