//! Keys of Cloud KMS, of which only the names are known here.
//!
//! <https://cloud.google.com/storage/docs/encryption/using-customer-managed-keys>

use serde_json::{Map, Value, json};

use super::super::failure::Failure;

/// The parts of `projects/P/locations/L/keyRings/R/cryptoKeys/K` at even places.
const FORM: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];

/// Whether a text has the form of a key's name.
pub(in crate::gcp_emulator) fn is_name(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    parts.len() == 2 * FORM.len()
        && FORM.iter().enumerate().all(|(at, part)| parts[2 * at] == *part && !parts[2 * at + 1].is_empty())
}

/// Says on an object what key it is encrypted with.
pub(super) fn note(fields: &mut Map<String, Value>, key: Option<&str>, denied: &[String]) -> Result<(), Failure> {
    fields.remove("kmsKeyName");
    let Some(key) = key else { return Ok(()) };
    if !is_name(key) {
        return Err(Failure::invalid(format!("Invalid Cloud KMS key name: {key}")));
    }
    if denied.iter().any(|denied| denied == key) {
        // The words: https://github.com/googleapis/nodejs-storage/issues/1254
        return Err(Failure::denied(
            "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been \
             authorized to use this key.",
        ));
    }
    // Objects name the version: https://cloud.google.com/storage/docs/json_api/v1/objects#resource
    fields.insert("kmsKeyName".into(), json!(format!("{key}/cryptoKeyVersions/1")));
    Ok(())
}
