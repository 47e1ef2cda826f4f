use std::collections::HashMap;
use std::time::SystemTime;

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use aws_smithy_types::DateTime;

use super::bucket::Bucket;
use crate::object_store::{ContentHeaders, Crc32c, Metadata, ObjectMeta, Version, WRITE_ID_METADATA};
use crate::{ErrorKind, ObjectKey, PutOptions, Result, WriteId};

/// What is sent with a new object beside its bytes.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) headers: ContentHeaders,
    pub(super) metadata: HashMap<String, String>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) kms_key: Option<String>,
}

impl Attributes {
    pub(super) fn new(headers: ContentHeaders, metadata: &Metadata, write_id: &WriteId) -> Self {
        let mut entries: HashMap<_, _> = metadata.to_wire().map(|(key, value)| (key.to_owned(), value)).collect();
        entries.insert(WRITE_ID_METADATA.to_owned(), write_id.to_string());
        Self { headers, metadata: entries, storage_class: None, kms_key: None }
    }

    pub(super) fn of_put(options: &PutOptions, write_id: &WriteId, bucket: &Bucket) -> Self {
        Self {
            storage_class: options.storage_class.as_deref().map(StorageClass::from),
            kms_key: options.encryption_key.clone().or_else(|| bucket.kms_key.clone()),
            ..Self::new(options.headers.clone(), &options.metadata, write_id)
        }
    }

    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }
}

/// Puts the attributes on any of the requests that make an object: their builders share names, not a trait.
macro_rules! with_attributes {
    ($request:expr, $attributes:expr) => {{
        let attributes: &$crate::aws::object_store::meta::Attributes = $attributes;
        let headers = &attributes.headers;
        $request
            .set_content_type(headers.content_type.clone())
            .set_content_encoding(headers.content_encoding.clone())
            .set_content_disposition(headers.content_disposition.clone())
            .set_content_language(headers.content_language.clone())
            .set_cache_control(headers.cache_control.clone())
            .set_metadata(Some(attributes.metadata.clone()))
            .set_storage_class(attributes.storage_class.clone())
            .set_server_side_encryption(attributes.encryption())
            .set_ssekms_key_id(attributes.kms_key.clone())
    }};
}
pub(super) use with_attributes;

/// What an answer tells of an object.
pub(super) struct Told<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) size: u64,
    pub(super) version: Version,
    pub(super) last_modified: Option<&'a DateTime>,
    pub(super) crc32c: Option<&'a str>,
    pub(super) headers: ContentHeaders,
    pub(super) metadata: Option<&'a HashMap<String, String>>,
    pub(super) storage_class: Option<&'a str>,
}

/// What GetObject or HeadObject tells: their answers share names, not a trait.
macro_rules! told {
    ($key:expr, $size:expr, $output:expr) => {{
        let output = &$output;
        let etag = output.e_tag().unwrap_or_default();
        $crate::aws::object_store::meta::Told {
            key: $key,
            size: $size,
            version: $crate::aws::object_store::version::version(etag, output.version_id()),
            last_modified: output.last_modified(),
            crc32c: output.checksum_crc32_c(),
            headers: $crate::object_store::ContentHeaders {
                content_type: output.content_type().map(str::to_owned),
                content_encoding: output.content_encoding().map(str::to_owned),
                content_disposition: output.content_disposition().map(str::to_owned),
                content_language: output.content_language().map(str::to_owned),
                cache_control: output.cache_control().map(str::to_owned),
            },
            metadata: output.metadata(),
            storage_class: output.storage_class().map(|class| class.as_str()),
        }
    }};
}
pub(super) use told;

impl Told<'_> {
    pub(super) fn into_meta(self) -> ObjectMeta {
        let entries = self.metadata.into_iter().flatten();
        let write_id = self.metadata.and_then(|entries| entries.get(WRITE_ID_METADATA));
        ObjectMeta {
            key: self.key.clone(),
            size: self.size,
            version: self.version,
            last_modified: self.last_modified.map_or(SystemTime::UNIX_EPOCH, time),
            // Of an object that others uploaded in parts it may be the checksum of checksums, `…-7`, which is no use.
            crc32c: self.crc32c.and_then(Crc32c::from_base64),
            headers: self.headers,
            metadata: Metadata::from_wire(entries),
            write_id: write_id.and_then(|text| WriteId::new(text.as_str()).ok()),
            storage_class: self.storage_class.map(str::to_owned),
        }
    }
}

pub(super) fn time(at: &DateTime) -> SystemTime {
    SystemTime::try_from(*at).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A length as S3 tells it.
pub(super) fn length(told: Option<i64>, operation: &'static str, subject: &str) -> Result<u64> {
    told.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| {
        crate::Error::new(ErrorKind::Internal, operation, subject, "the answer does not say how long the object is")
    })
}
