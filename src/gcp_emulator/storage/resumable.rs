//! Resumable uploads.
//!
//! <https://cloud.google.com/storage/docs/performing-resumable-uploads>

use axum::http::StatusCode;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::faults::FaultAction;
use super::super::wire::{Call, Reply, random_suffix};
use super::object::Draft;
use super::precondition::{Conditions, Purpose};
use super::upload::{add_hashes, name_of};
use super::{Storage, kms};

/// Every chunk but the last is a multiple of this many bytes.
const UNIT: usize = 256 * 1024;

/// An upload under way, or what became of it.
#[derive(Debug)]
pub(super) enum Session {
    Open { draft: Box<Draft>, conditions: Conditions, stored: Vec<u8> },
    Done(Value),
    Cancelled,
}

/// Where the bytes of a request belong.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// `bytes */*` and `bytes */N` ask how far the upload is.
    Question(Option<usize>),
    Chunk {
        start: usize,
        end: usize,
        total: Option<usize>,
    },
    /// Without `Content-Range`: all that is missing.
    Rest,
}

/// Starts a session. Preconditions are checked now and when the object is made.
pub(super) fn start(
    storage: &mut Storage,
    url: &str,
    call: &Call,
    bucket: String,
    conditions: Conditions,
) -> Result<Reply, Failure> {
    let mut fields = call.json()?;
    if let Some(kind) = call.header("x-upload-content-type") {
        fields.entry("contentType").or_insert(json!(kind));
    }
    if let Some(encoding) = call.query("contentEncoding") {
        fields.insert("contentEncoding".into(), json!(encoding));
    }
    kms::note(&mut fields, call.query("kmsKeyName"), &storage.denied_keys)?;
    let name = name_of(call, &fields)?;
    let existing = storage.bucket(&bucket)?.objects.get(&name);
    conditions.check(existing, Purpose::Change)?;
    let id = random_suffix(40);
    let location = format!(
        "{url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={}&upload_id={id}",
        utf8_percent_encode(&name, NON_ALPHANUMERIC)
    );
    let draft = Box::new(Draft { bucket, name, fields, data: Bytes::new(), components: None });
    storage.sessions.insert(id.clone(), Session::Open { draft, conditions, stored: Vec::new() });
    Ok(Reply::empty(StatusCode::OK).with("location", &location).with("x-guploader-uploadid", &id))
}

/// Takes a chunk or answers how far the upload is.
pub(super) fn proceed(
    storage: &mut Storage,
    url: &str,
    call: &Call,
    fault: Option<&FaultAction>,
) -> Result<Reply, Failure> {
    let id = call.query("upload_id").unwrap_or("");
    let place = place_of(call.header("content-range"))?;
    let session = storage.sessions.get_mut(id);
    let session = session.ok_or_else(|| Failure::not_found("No such upload session."))?;
    let (draft, conditions, stored) = match session {
        Session::Done(object) => return Ok(Reply::json(object)),
        Session::Cancelled => return Err(Failure::gone("The upload session was cancelled.")),
        Session::Open { draft, conditions, stored } => (draft, conditions, stored),
    };
    let (body, total) = match place {
        Place::Question(total) => (&call.body[..0], total),
        Place::Rest => (&call.body[..], Some(stored.len() + call.body.len())),
        Place::Chunk { start, end, total } => {
            if end - start != call.body.len() {
                return Err(Failure::invalid("Content-Range and the length of the body differ."));
            }
            if start > stored.len() {
                return Err(Failure::invalid(format!(
                    "The chunk starts at {start}, behind the {} bytes stored.",
                    stored.len()
                )));
            }
            let last = total == Some(end);
            if !last && !call.body.len().is_multiple_of(UNIT) {
                return Err(Failure::invalid("Every chunk but the last must be a multiple of 256 KiB."));
            }
            if total.is_some_and(|total| end > total) {
                return Err(Failure::invalid("Content-Range goes past its own total."));
            }
            // What is stored already is not stored again.
            (&call.body[(stored.len() - start).min(call.body.len())..], total)
        }
    };
    if let Some(FaultAction::PersistAtMost { bytes } | FaultAction::BreakAfter { bytes }) = fault {
        stored.extend_from_slice(&body[..body.len().min(*bytes)]);
        return Ok(incomplete(stored.len()));
    }
    stored.extend_from_slice(body);
    if total != Some(stored.len()) {
        return Ok(incomplete(stored.len()));
    }
    let mut draft = (**draft).clone();
    let conditions = conditions.clone();
    draft.data = Bytes::from(std::mem::take(stored));
    add_hashes(&mut draft.fields, call);
    // A session whose object could not be made takes nothing more.
    storage.sessions.remove(id);
    let id = id.to_owned();
    let object = storage.put(draft, &conditions)?.json(url);
    let reply = Reply::json(&object);
    storage.sessions.insert(id, Session::Done(object));
    Ok(reply)
}

/// Cancels a session; the status is 499.
///
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload>
pub(super) fn cancel(storage: &mut Storage, call: &Call) -> Result<Reply, Failure> {
    let id = call.query("upload_id").unwrap_or("");
    let session = storage.sessions.get_mut(id);
    *session.ok_or_else(|| Failure::not_found("No such upload session."))? = Session::Cancelled;
    let status = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
    Ok(Reply::empty(status))
}

/// 308 with the range that is stored; no range when nothing is.
///
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check>
fn incomplete(stored: usize) -> Reply {
    let reply = Reply::empty(StatusCode::PERMANENT_REDIRECT);
    if stored == 0 {
        return reply;
    }
    reply.with("range", &format!("bytes=0-{}", stored - 1))
}

fn place_of(header: Option<&str>) -> Result<Place, Failure> {
    let Some(text) = header else {
        return Ok(Place::Rest);
    };
    let parsed = || {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let total = match total {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        if range == "*" {
            return Some(Place::Question(total));
        }
        let (first, last) = range.split_once('-')?;
        let (start, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (start <= last).then_some(Place::Chunk { start, end: last + 1, total })
    };
    parsed().ok_or_else(|| Failure::invalid("Content-Range is not well formed."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_questions_chunks_or_absent() {
        assert_eq!(place_of(None).expect("place"), Place::Rest);
        assert_eq!(place_of(Some("bytes */*")).expect("place"), Place::Question(None));
        assert_eq!(place_of(Some("bytes */7")).expect("place"), Place::Question(Some(7)));
        assert_eq!(place_of(Some("bytes 0-4/*")).expect("place"), Place::Chunk { start: 0, end: 5, total: None });
        assert!(place_of(Some("bytes 4-0/9")).is_err());
        assert!(place_of(Some("0-4/9")).is_err());
    }

    #[test]
    fn nothing_stored_has_no_range() {
        assert!(incomplete(0).headers.get("range").is_none());
        assert_eq!(incomplete(5).headers["range"], "bytes=0-4");
    }
}
