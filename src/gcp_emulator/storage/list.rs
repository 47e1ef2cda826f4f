//! Lists of objects.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/list>

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use super::super::failure::Failure;
use super::super::wire::{Call, Reply};
use super::bucket::Bucket;

/// One line of a list.
enum Line<'a> {
    Object(&'a super::object::Object),
    Prefix(&'a str),
}

/// Serves a list: names in the order of their UTF-8 bytes, 1000 objects and prefixes at most,
/// `startOffset` inclusive, `endOffset` exclusive.
pub(super) fn list(url: &str, bucket: &Bucket, call: &Call) -> Result<Reply, Failure> {
    if call.query("matchGlob").is_some() || call.query("filter").is_some() {
        return Err(Failure::unimplemented("This emulator does not know matchGlob and filter."));
    }
    let limit = match call.number::<usize>("maxResults")? {
        None | Some(0) => 1000,
        Some(limit) => limit.min(1000),
    };
    let after = call.query("pageToken").map(name_of).transpose()?;
    let mut lines = Vec::new();
    let mut more = false;
    for line in lines_of(bucket, call) {
        let name = match &line {
            Line::Object(object) => object.name.as_str(),
            Line::Prefix(prefix) => prefix,
        };
        if after.as_deref().is_some_and(|after| name <= after) {
            continue;
        }
        if lines.len() == limit {
            more = true;
            break;
        }
        lines.push(line);
    }
    let mut items = Vec::new();
    let mut prefixes = Vec::new();
    let mut last = "";
    for line in &lines {
        match line {
            Line::Object(object) => {
                last = &object.name;
                items.push(object.json(url));
            }
            Line::Prefix(prefix) => {
                last = prefix;
                prefixes.push(*prefix);
            }
        }
    }
    let mut answer = json!({"kind": "storage#objects"});
    if !items.is_empty() {
        answer["items"] = json!(items);
    }
    if !prefixes.is_empty() {
        answer["prefixes"] = json!(prefixes);
    }
    if more {
        answer["nextPageToken"] = json!(BASE64_URL_SAFE_NO_PAD.encode(last));
    }
    Ok(Reply::json(&answer))
}

fn name_of(token: &str) -> Result<String, Failure> {
    BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Failure::invalid("The page token is invalid."))
}

fn lines_of<'a>(bucket: &'a Bucket, call: &'a Call) -> Vec<Line<'a>> {
    let prefix = call.query("prefix").unwrap_or("");
    let delimiter = call.query("delimiter");
    let trailing = call.query("includeTrailingDelimiter") == Some("true");
    let mut lines: Vec<Line<'a>> = Vec::new();
    for (name, object) in &bucket.objects {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        if call.query("startOffset").is_some_and(|start| name.as_str() < start)
            || call.query("endOffset").is_some_and(|end| name.as_str() >= end)
        {
            continue;
        }
        let cut = delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
        match cut {
            Some(cut) => {
                let group = &name[..prefix.len() + cut];
                let known = lines.iter().rev().take(2).any(|line| matches!(line, Line::Prefix(own) if *own == group));
                if !known {
                    lines.push(Line::Prefix(group));
                }
                if trailing && group == name {
                    lines.push(Line::Object(object));
                }
            }
            None => lines.push(Line::Object(object)),
        }
    }
    lines
}
