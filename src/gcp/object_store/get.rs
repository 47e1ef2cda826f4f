use std::time::Duration;

use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method};

use super::bucket::{Bucket, Request, encode};
use super::resource::{FIELDS, Resource};
use super::version::{generation, version};
use crate::call::Call;
use crate::http::Answer;
use crate::object_store::{
    Announced, ByteStream, ContentHeaders, Crc32c, GetResult, HeadOptions, Metadata, ObjectMeta, Reading, Told,
    WRITE_ID_METADATA, answered_range,
};
use crate::retry::Safety;
use crate::{Error, ErrorKind, GetOptions, ObjectKey, Result, WriteId};

const GET: &str = "object_store.get";
const HEAD: &str = "object_store.head";
const METADATA: &str = "x-goog-meta-";
pub(super) const PERMISSION: &str = "storage.objects.get";

impl Bucket {
    pub(super) async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let subject = self.uri(key).to_string();
        let wanted = |version| generation(version, GET, &subject);
        let pinned = options.version.as_ref().map(wanted).transpose()?;
        let if_match = options.if_match.as_ref().map(wanted).transpose()?;
        let if_none_match = options.if_none_match.as_ref().map(wanted).transpose()?;
        // The XML API has no "unless this generation", and with a pinned version conditions are about the current one.
        if if_none_match.is_some() || (pinned.is_some() && if_match.is_some()) {
            let current = self.head(key, HeadOptions::default()).await.map_err(|e| e.with_operation(GET, &subject))?;
            check_current(&current, if_match, if_none_match, &subject)?;
        }
        let mut url = format!("{}/{}/{}", self.endpoint, encode(&self.name), encode(key.as_str()));
        if let Some(pinned) = pinned {
            url.push_str(&format!("?generation={pinned}"));
        }
        let mut request = Request::new(Method::GET, url);
        if let Some(range) = options.range {
            request = request.header("range", range.to_header());
        }
        if let (Some(if_match), None) = (if_match, pinned) {
            request = request.header("x-goog-if-generation-match", if_match.to_string());
        }
        let call = Call::reading(GET, &subject, PERMISSION);
        let answer = self
            .connection
            .retrier()
            .run(GET, &subject, Safety::Read, |_| {
                let request = request.clone();
                async move { self.ask(call, request).await }
            })
            .await?;
        let patience = self.connection.retrier().policy().attempt_timeout;
        result(key, answer, &options, call, patience, (pinned, if_match, if_none_match))
    }

    pub(super) async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        let subject = self.uri(key).to_string();
        let call = Call::reading(HEAD, &subject, PERMISSION);
        let mut url = format!("{}?fields={FIELDS}", self.object_url(key));
        if let Some(version) = &options.version {
            url.push_str(&format!("&generation={}", generation(version, HEAD, &subject)?));
        }
        self.resource(call, Request::new(Method::GET, url)).await?.into_meta(key, call)
    }

    async fn resource(&self, call: Call<'_>, request: Request) -> Result<Resource> {
        self.connection
            .retrier()
            .run(call.operation, call.subject, Safety::Read, |_| {
                let request = request.clone();
                async move { self.ask_json::<Resource>(call, request).await }
            })
            .await
    }
}

fn check_current(meta: &ObjectMeta, if_match: Option<i64>, if_none_match: Option<i64>, subject: &str) -> Result<()> {
    if if_match.is_some_and(|wanted| version(wanted) != meta.version) {
        return Err(Error::new(ErrorKind::PreconditionFailed, GET, subject, "another version is current"));
    }
    if if_none_match.is_some_and(|known| version(known) == meta.version) {
        return Err(Error::new(ErrorKind::NotModified, GET, subject, "the copy is current"));
    }
    Ok(())
}

/// What came, checked against what was asked for.
fn result(
    key: &ObjectKey,
    answer: Answer,
    options: &GetOptions,
    call: Call<'_>,
    patience: Duration,
    (pinned, if_match, if_none_match): (Option<i64>, Option<i64>, Option<i64>),
) -> Result<GetResult> {
    let internal = |message: String| call.error(ErrorKind::Internal, message);
    let came = answer.body.announced().or_else(|| Told(&answer.headers).number("x-goog-stored-content-length"));
    let came = came.ok_or_else(|| internal("the answer does not say how long it is".to_owned()))?;
    let (range, size) = answered_range(answer.header("content-range"), came, options.range, call.subject)?;
    let meta = meta_of_headers(key, size, &answer.headers, call)?;
    // Whatever the other side made of the conditions: another version than the one asked for is never handed out.
    if pinned.is_none() {
        check_current(&meta, if_match, if_none_match, call.subject)?;
    } else if pinned.is_some_and(|wanted| version(wanted) != meta.version) {
        return Err(call.error(ErrorKind::NotFound, "this version is no longer kept"));
    }
    let announced = Announced {
        bytes: came,
        crc32c: meta.crc32c.filter(|_| came == size),
        patience,
        subject: call.subject.to_owned(),
    };
    let subject = call.subject.to_owned();
    let chunks = answer.body.map_err(move |failure| failure.into_reading_error(GET, &subject));
    Ok(GetResult { meta, range, body: ByteStream::answer(Reading::new(chunks, announced)) })
}

/// <https://cloud.google.com/storage/docs/xml-api/reference-headers>
fn meta_of_headers(key: &ObjectKey, size: u64, headers: &HeaderMap, call: Call<'_>) -> Result<ObjectMeta> {
    let told = Told(headers);
    let generation = told.text("x-goog-generation").and_then(|text| text.parse().ok());
    let (Some(generation), Some(last_modified)) = (generation, told.time("last-modified")) else {
        return Err(call.error(ErrorKind::Internal, "the answer does not name the version or its time"));
    };
    let encoding = told.text("x-goog-stored-content-encoding").or_else(|| told.text("content-encoding"));
    let encoding = encoding.filter(|encoding| *encoding != "identity").map(str::to_owned);
    let mut entries = told.entries(METADATA);
    Ok(ObjectMeta {
        key: key.clone(),
        size,
        version: version(generation),
        last_modified,
        crc32c: crc_of(headers),
        headers: ContentHeaders { content_encoding: encoding, ..told.content() },
        write_id: entries.find(|(name, _)| *name == WRITE_ID_METADATA).and_then(|(_, text)| WriteId::new(text).ok()),
        metadata: Metadata::from_wire(told.entries(METADATA)),
        storage_class: told.text("x-goog-storage-class").map(str::to_owned),
    })
}

/// `crc32c=…,md5=…`, in one header or in two.
fn crc_of(headers: &HeaderMap) -> Option<Crc32c> {
    headers
        .get_all("x-goog-hash")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|pair| Crc32c::from_base64(pair.trim().strip_prefix("crc32c=")?))
}
