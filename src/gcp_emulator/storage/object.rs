//! Objects and what becomes one.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1/objects>

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::wire::now;

/// What a caller sets.
const SETTABLE: [&str; 11] = [
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "metadata",
    "storageClass",
    "customTime",
    "kmsKeyName",
    "eventBasedHold",
    "temporaryHold",
];

/// A live object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) generation: i64,
    pub(super) metageneration: i64,
    pub(super) data: Bytes,
    pub(super) fields: Map<String, Value>,
    pub(super) components: Option<usize>,
    created: String,
    updated: String,
    crc: u32,
    /// Composed objects have none.
    md5: Option<[u8; 16]>,
}

/// What is to become an object. `fields` may have the checksums to verify.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) fields: Map<String, Value>,
    pub(super) data: Bytes,
    pub(super) components: Option<usize>,
}

impl Draft {
    /// The object, if the checksums are right.
    pub(super) fn object(mut self, generation: i64) -> Result<Object, Failure> {
        verify(&self.fields, &self.data)?;
        self.fields.retain(|name, value| SETTABLE.contains(&name.as_str()) && !value.is_null());
        let at = now();
        Ok(Object {
            generation,
            metageneration: 1,
            created: at.clone(),
            updated: at,
            crc: crc32c::crc32c(&self.data),
            md5: self.components.is_none().then(|| Md5::digest(&self.data).into()),
            bucket: self.bucket,
            name: self.name,
            data: self.data,
            fields: self.fields,
            components: self.components,
        })
    }
}

/// Checksums given with the data must be those of the data.
///
/// <https://cloud.google.com/storage/docs/data-validation>
pub(super) fn verify(fields: &Map<String, Value>, data: &[u8]) -> Result<(), Failure> {
    let checks = [
        ("crc32c", BASE64_STANDARD.encode(crc32c::crc32c(data).to_be_bytes())),
        ("md5Hash", BASE64_STANDARD.encode(Md5::digest(data))),
    ];
    for (field, own) in checks {
        let given = fields.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        if given.is_some_and(|given| given != own) {
            let given = given.unwrap_or("");
            return Err(Failure::invalid(format!(
                "Provided {field} hash \"{given}\" doesn't match calculated {field} hash \"{own}\"."
            )));
        }
    }
    Ok(())
}

/// <https://cloud.google.com/storage/docs/objects#naming>
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let length = (1..=1024).contains(&name.len());
    if !length || name.contains(['\r', '\n']) || name == "." || name == ".." {
        return Err(Failure::invalid("Invalid object name."));
    }
    Ok(())
}

impl Object {
    /// The text of a field.
    pub(super) fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or("")
    }

    pub(super) fn etag(&self) -> String {
        BASE64_STANDARD.encode(format!("{}/{}", self.generation, self.metageneration))
    }

    /// The value of `x-goog-hash`.
    ///
    /// <https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash>
    pub(super) fn hashes(&self) -> String {
        let crc = BASE64_STANDARD.encode(self.crc.to_be_bytes());
        match self.md5 {
            Some(md5) => format!("crc32c={crc},md5={}", BASE64_STANDARD.encode(md5)),
            None => format!("crc32c={crc}"),
        }
    }

    pub(super) fn updated(&self) -> &str {
        &self.updated
    }

    pub(super) fn created(&self) -> Option<jiff::Timestamp> {
        self.created.parse().ok()
    }

    /// Changes metadata: a null drops a field or an entry, what is not named stays.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/patch>
    pub(super) fn patch(&mut self, fields: &Map<String, Value>) {
        for (name, value) in fields.iter().filter(|(name, _)| SETTABLE.contains(&name.as_str())) {
            match (value, self.fields.get_mut(name)) {
                (Value::Null, _) => {
                    self.fields.remove(name);
                }
                (Value::Object(entries), Some(Value::Object(own))) => {
                    own.extend(entries.clone());
                    own.retain(|_, value| !value.is_null());
                }
                _ => {
                    self.fields.insert(name.clone(), value.clone());
                }
            }
        }
        // https://cloud.google.com/storage/docs/metadata#generation-number
        self.metageneration += 1;
        self.updated = now();
    }

    pub(super) fn json(&self, url: &str) -> Value {
        let encoded = utf8_percent_encode(&self.name, NON_ALPHANUMERIC);
        let (bucket, generation) = (&self.bucket, self.generation);
        let mut all = self.fields.clone();
        let own = json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{}/{generation}", self.name),
            "selfLink": format!("{url}/storage/v1/b/{bucket}/o/{encoded}"),
            "mediaLink": format!("{url}/download/storage/v1/b/{bucket}/o/{encoded}?generation={generation}&alt=media"),
            "name": self.name,
            "bucket": bucket,
            "generation": generation.to_string(),
            "metageneration": self.metageneration.to_string(),
            "size": self.data.len().to_string(),
            "crc32c": BASE64_STANDARD.encode(self.crc.to_be_bytes()),
            "etag": self.etag(),
            "timeCreated": self.created,
            "updated": self.updated,
            "timeStorageClassUpdated": self.created,
            "timeFinalized": self.created,
        });
        if let Value::Object(own) = own {
            all.extend(own);
        }
        if let Some(md5) = self.md5 {
            all.insert("md5Hash".into(), json!(BASE64_STANDARD.encode(md5)));
        }
        if let Some(components) = self.components {
            all.insert("componentCount".into(), json!(components));
        }
        all.entry("storageClass").or_insert_with(|| json!("STANDARD"));
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(fields: Value) -> Draft {
        Draft {
            bucket: "b".into(),
            name: "o".into(),
            fields: fields.as_object().cloned().unwrap_or_default(),
            data: Bytes::from_static(b"hello"),
            components: None,
        }
    }

    #[test]
    fn wrong_checksums_are_refused_and_right_ones_taken() {
        assert!(draft(json!({"crc32c": "AAAAAA=="})).object(1).is_err());
        assert!(draft(json!({"md5Hash": "AAAAAA=="})).object(1).is_err());
        let right = json!({"crc32c": "mnG7TA==", "md5Hash": "XUFAKrxLKna5cZ2REBfFkg=="});
        assert!(draft(right).object(1).is_ok());
    }

    #[test]
    fn a_patch_drops_what_is_null_and_keeps_what_it_does_not_name() {
        let start = json!({"metadata": {"a": "1", "b": "2"}, "contentType": "text/plain"});
        let mut object = draft(start).object(1).expect("an object");
        let change = json!({"metadata": {"a": null, "c": "3"}});
        object.patch(change.as_object().expect("fields"));
        assert_eq!(object.fields["metadata"], json!({"b": "2", "c": "3"}));
        assert_eq!(object.text("contentType"), "text/plain");
        assert_eq!(object.metageneration, 2);
    }
}
