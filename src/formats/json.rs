use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorKind, Result};

/// Parses JSON; an error names line and column, never the content.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    operation: &'static str,
    subject: impl fmt::Display,
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => "the JSON is not of the expected shape",
            serde_json::error::Category::Eof => "the JSON ends too early",
            _ => "the text is not JSON",
        };
        let message = format!("{problem} at line {} column {}", error.line(), error.column());
        Error::new(ErrorKind::InvalidFormat, operation, subject, message)
    })
}

/// Encodes a value as JSON.
pub(crate) fn encode<T: Serialize>(value: &T, operation: &'static str, subject: impl fmt::Display) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|_| Error::new(ErrorKind::InvalidFormat, operation, subject, "the value has no JSON form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place_and_not_the_content() {
        let error = parse::<Vec<u8>>(b"[1,\n \"hunter2\"]", "t", "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidFormat);
        assert!(error.message().contains("line 2") && !error.to_string().contains("hunter2"), "{error}");
    }
}
