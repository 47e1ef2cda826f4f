use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::SystemTime;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::version::version;
use crate::call::Call;
use crate::object_store::{ContentHeaders, Crc32c, Metadata, ObjectMeta, WRITE_ID_METADATA};
use crate::{ErrorKind, ObjectKey, Result, WriteId};

/// The fields of an object that are asked for.
pub(super) const FIELDS: &str = "size,generation,updated,crc32c,contentType,contentEncoding,contentDisposition,\
                                 contentLanguage,cacheControl,metadata,storageClass";

/// An object to be made, as the JSON API takes it.
///
/// <https://cloud.google.com/storage/docs/json_api/v1/objects#resource>
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    pub(super) content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<&'a str>,
    pub(super) metadata: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_class: Option<&'a str>,
}

impl<'a> NewObject<'a> {
    pub(super) fn new(headers: &'a ContentHeaders, metadata: &'a Metadata, write_id: &WriteId) -> Self {
        let mut entries: BTreeMap<_, _> = metadata.to_wire().collect();
        entries.insert(WRITE_ID_METADATA, write_id.to_string());
        Self {
            name: None,
            content_type: headers.content_type.as_deref().unwrap_or("application/octet-stream"),
            content_encoding: headers.content_encoding.as_deref(),
            content_disposition: headers.content_disposition.as_deref(),
            content_language: headers.content_language.as_deref(),
            cache_control: headers.cache_control.as_deref(),
            metadata: entries,
            crc32c: None,
            storage_class: None,
        }
    }
}

/// What the JSON API tells of an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource {
    #[serde(deserialize_with = "number")]
    pub(super) generation: i64,
    #[serde(default, deserialize_with = "number")]
    size: u64,
    updated: Option<String>,
    pub(super) crc32c: Option<String>,
    content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) cache_control: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    storage_class: Option<String>,
}

/// What the JSON API tells of an object that was just made: no more than is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    #[serde(deserialize_with = "number")]
    pub(super) generation: i64,
    crc32c: Option<String>,
}

impl Made {
    /// The fields that are asked for.
    pub(super) const FIELDS: &str = "generation,crc32c";

    pub(super) fn crc(&self) -> Option<Crc32c> {
        self.crc32c.as_deref().and_then(Crc32c::from_base64)
    }
}

impl Resource {
    pub(super) fn crc(&self) -> Option<Crc32c> {
        self.crc32c.as_deref().and_then(Crc32c::from_base64)
    }

    pub(super) fn into_meta(self, key: &ObjectKey, call: Call<'_>) -> Result<ObjectMeta> {
        let updated = self.updated.as_deref().and_then(moment);
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(ObjectMeta {
            key: key.clone(),
            size: self.size,
            version: version(self.generation),
            last_modified: updated.ok_or_else(|| {
                call.error(ErrorKind::Internal, "the answer does not say when the object was written")
            })?,
            crc32c: self.crc(),
            headers: ContentHeaders {
                content_type: given(self.content_type),
                content_encoding: given(self.content_encoding),
                content_disposition: given(self.content_disposition),
                content_language: given(self.content_language),
                cache_control: given(self.cache_control),
            },
            write_id: self.metadata.get(WRITE_ID_METADATA).and_then(|text| WriteId::new(text.as_str()).ok()),
            metadata: Metadata::from_wire(self.metadata),
            storage_class: self.storage_class,
        })
    }
}

/// A time as the JSON API writes it.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    SystemTime::try_from(text.parse::<jiff::Timestamp>().ok()?).ok()
}

/// A number that the JSON API writes as text.
pub(super) fn number<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    deserializer.deserialize_str(Quoted(PhantomData))
}

struct Quoted<T>(PhantomData<T>);

impl<T: FromStr> Visitor<'_> for Quoted<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number in quotes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<T, E> {
        text.parse().map_err(|_| E::custom("a number in quotes was expected"))
    }
}
