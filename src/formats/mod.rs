//! Typed contents of objects: JSON, and behind features CSV and Parquet.

pub(crate) mod json;
