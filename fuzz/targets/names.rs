//! Names, ids, addresses, settings.

use std::collections::HashMap;

use anycloud::object_store::{Crc32c, Metadata};
use anycloud::{
    Config, ExecutionId, IdempotencyKey, JobName, ObjectKey, ObjectUri, SecretAlias, SecretName, SecretVersionId,
    WriteId,
};

/// Whatever is accepted comes back as it was given.
pub fn names(input: &[u8]) {
    if let Ok(key) = ObjectKey::from_bytes(input) {
        assert_eq!(key.as_str().as_bytes(), input);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    macro_rules! exact {
        ($($name:ident),*) => { $(if let Ok(name) = $name::new(text) { assert_eq!(name.as_str(), text); })* };
    }
    exact!(ObjectKey, SecretName, SecretAlias, SecretVersionId, JobName, ExecutionId, IdempotencyKey, WriteId);
    if let Ok(uri) = text.parse::<ObjectUri>() {
        assert_eq!(uri.to_string().parse::<ObjectUri>().unwrap(), uri);
    }
    if let Some(sum) = Crc32c::from_base64(text) {
        assert_eq!(Crc32c::from_base64(&sum.to_base64()), Some(sum));
    }
    let mut metadata = Metadata::new();
    if metadata.insert("k", text).is_ok() {
        let wire: Vec<_> = metadata.to_wire().map(|(key, value)| (key.to_owned(), value)).collect();
        assert!(wire.iter().all(|(_, value)| value.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
        assert_eq!(Metadata::from_wire(wire), metadata);
    }
    let _ = Metadata::from_wire([("k", text)]);
}

/// Lines of `NAME=VALUE`.
pub fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let settings: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    if let Err(error) = Config::from_lookup(|name| settings.get(name).map(|value| (*value).to_owned())) {
        assert!(!error.to_string().is_empty());
    }
}
