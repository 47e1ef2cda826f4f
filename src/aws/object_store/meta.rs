use std::collections::HashMap;
use std::time::SystemTime;

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use aws_smithy_types::DateTime;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName};

use super::bucket::Bucket;
use super::request::Request;
use super::version::version;
use crate::object_store::{ContentHeaders, Crc32c, Metadata, ObjectMeta, Told, Version, WRITE_ID_METADATA};
use crate::{ObjectKey, PutOptions, WriteId};

const METADATA: &str = "x-amz-meta-";
const WRITE_ID: HeaderName = HeaderName::from_static("x-amz-meta-anycloud-write-id");
const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
const ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
const KMS_KEY: HeaderName = HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id");
pub(super) const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-crc32c");

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

impl Request<'_> {
    /// Sets the headers of a new object.
    pub(super) fn attributes(self, options: &PutOptions, write_id: &WriteId, bucket: &Bucket) -> Self {
        let ContentHeaders { content_type, content_encoding, content_disposition, content_language, cache_control } =
            &options.headers;
        let kms_key = options.encryption_key.as_deref().or(bucket.kms_key.as_deref());
        let request = self
            // S3's own default is another.
            .header(CONTENT_TYPE, Some(content_type.as_deref().unwrap_or("application/octet-stream")))
            .header(CONTENT_ENCODING, content_encoding.as_deref())
            .header(CONTENT_DISPOSITION, content_disposition.as_deref())
            .header(CONTENT_LANGUAGE, content_language.as_deref())
            .header(CACHE_CONTROL, cache_control.as_deref())
            .header(STORAGE_CLASS, options.storage_class.as_deref())
            .header(ENCRYPTION, kms_key.map(|_| "aws:kms"))
            .header(KMS_KEY, kms_key)
            .header(WRITE_ID, Some(write_id.as_str()));
        options.metadata.to_wire().fold(request, |request, (key, value)| {
            // Keys are made of what names of headers may hold.
            match HeaderName::try_from(format!("{METADATA}{key}")) {
                Ok(name) => request.header(name, Some(value)),
                Err(_) => request,
            }
        })
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

/// What GetObject or HeadObject tells of an object of this size.
pub(super) fn meta_of(key: &ObjectKey, size: u64, headers: &HeaderMap) -> ObjectMeta {
    let told = Told(headers);
    let write_id = told.text(WRITE_ID.as_str());
    ObjectMeta {
        key: key.clone(),
        size,
        version: version_of(headers),
        last_modified: told.time("last-modified").unwrap_or(SystemTime::UNIX_EPOCH),
        // Of an object that others uploaded in parts it may be the checksum of checksums, `…-7`, which is no use.
        crc32c: told.text(CHECKSUM.as_str()).and_then(Crc32c::from_base64),
        headers: told.content(),
        metadata: Metadata::from_wire(told.entries(METADATA)),
        write_id: write_id.and_then(|text| WriteId::new(text).ok()),
        storage_class: told.text(STORAGE_CLASS.as_str()).map(str::to_owned),
    }
}

/// The version that an answer tells of.
pub(super) fn version_of(headers: &HeaderMap) -> Version {
    let told = Told(headers);
    version(told.text("etag").unwrap_or_default(), told.text("x-amz-version-id"))
}

pub(super) fn time(at: &DateTime) -> SystemTime {
    SystemTime::try_from(*at).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_write_id_is_metadata_of_its_name() {
        assert_eq!(WRITE_ID.as_str(), format!("{METADATA}{WRITE_ID_METADATA}"));
    }
}
