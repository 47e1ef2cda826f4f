//! Cloud Storage.

use std::collections::BTreeSet;
use std::time::Duration;

use anycloud::gcp_emulator::{Fault, FaultAction};
use serde_json::{Value, json};

use crate::Server;
use crate::http::Answer;

const OBJECTS: &str = "/storage/v1/b/data/o";
const UPLOAD: &str = "/upload/storage/v1/b/data/o";
const UNIT: usize = 256 * 1024;

fn put(server: &Server, name: &str, query: &str, data: &[u8]) -> Answer {
    let path = format!("{UPLOAD}?uploadType=media&name={name}{query}");
    server.http.send("POST", &path, &[("content-type", "text/plain")], data).expect("an answer")
}

fn multipart(server: &Server, query: &str, metadata: &Value, data: &[u8]) -> Answer {
    let mut body =
        format!("--z\r\ncontent-type: application/json\r\n\r\n{metadata}\r\n--z\r\ncontent-type: text/plain\r\n\r\n")
            .into_bytes();
    body.extend_from_slice(data);
    body.extend_from_slice(b"\r\n--z--\r\n");
    let kind = [("content-type", "multipart/related; boundary=z")];
    let path = format!("{UPLOAD}?uploadType=multipart{query}");
    server.http.send("POST", &path, &kind, &body).expect("an answer")
}

fn read(server: &Server, name: &str, headers: &[(&str, &str)]) -> Answer {
    server.http.send("GET", &format!("{OBJECTS}/{name}?alt=media"), headers, b"").expect("an answer")
}

fn generation(object: &Value) -> &str {
    object["generation"].as_str().expect("a generation")
}

#[test]
fn every_kind_of_upload_and_change_honours_its_preconditions() {
    let server = Server::start();
    let unmet = (412, "conditionNotMet".to_owned());
    assert_eq!(put(&server, "a", "&ifGenerationMatch=1", b"x").reason(), unmet);
    let first = put(&server, "a", "&ifGenerationMatch=0", b"x").ok();
    assert_eq!(put(&server, "a", "&ifGenerationMatch=0", b"y").reason(), unmet);
    assert_eq!(multipart(&server, "&name=a&ifGenerationMatch=0", &json!({}), b"y").reason(), unmet);
    let start = format!("{UPLOAD}?uploadType=resumable&name=a&ifGenerationMatch=0");
    assert_eq!(server.post(&start, &json!({})).reason(), unmet);
    let patch = json!({"metadata": {"k": "v"}});
    let path = format!("{OBJECTS}/a?ifMetagenerationMatch=9");
    assert_eq!(server.json("PATCH", &path, &patch).reason(), unmet);
    assert_eq!(server.delete(&format!("{OBJECTS}/a?ifGenerationMatch=9")).reason(), unmet);
    let rewrite = format!("{OBJECTS}/a/rewriteTo/b/data/o/b");
    assert_eq!(server.post(&format!("{rewrite}?ifGenerationMatch=9"), &json!({})).reason(), unmet);
    let path = format!("{rewrite}?ifSourceGenerationMatch=9");
    assert_eq!(server.post(&path, &json!({})).reason(), unmet);
    let known = generation(&first);
    let path = format!("{OBJECTS}/a?alt=media&ifGenerationNotMatch={known}");
    let unchanged = server.get(&path);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(server.get(&format!("{OBJECTS}/a?ifGenerationMatch=9")).reason(), unmet);
    let second = put(&server, "a", &format!("&ifGenerationMatch={known}"), b"y").ok();
    assert!(generation(&second) > known);
    assert_eq!(server.get(&format!("{OBJECTS}/a?generation={known}")).status, 404);
    let path = format!("{OBJECTS}/a?ifGenerationMatch={}", generation(&second));
    assert_eq!(server.delete(&path).status, 204);
    assert_eq!(server.delete(&path).reason(), (404, "notFound".into()));
}

#[test]
fn wrong_checksums_are_refused_by_every_kind_of_upload() {
    let server = Server::start();
    let invalid = (400, "invalid".to_owned());
    let wrong = [("x-goog-hash", "crc32c=AAAAAA==")];
    let path = format!("{UPLOAD}?uploadType=media&name=a");
    assert_eq!(server.http.send("POST", &path, &wrong, b"hello").expect("an answer").reason(), invalid);
    let metadata = json!({"name": "a", "crc32c": "AAAAAA=="});
    assert_eq!(multipart(&server, "", &metadata, b"hello").reason(), invalid);
    let metadata = json!({"name": "a", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="});
    assert_eq!(multipart(&server, "", &metadata, b"hello").reason(), invalid);
    let session = Session::start(&server, "a", &json!({"crc32c": "AAAAAA=="}));
    assert_eq!(session.put(Some("bytes 0-4/5"), b"hello").reason(), invalid);
    let session = Session::start(&server, "a", &json!({}));
    let end = [("content-range", "bytes 0-4/5"), ("x-goog-hash", "crc32c=AAAAAA==")];
    assert_eq!(server.http.send("PUT", &session.path, &end, b"hello").expect("an answer").reason(), invalid);
    assert_eq!(server.get(&format!("{OBJECTS}/a")).status, 404);
    let metadata = json!({"name": "a", "crc32c": "mnG7TA==", "metadata": {"k": "v"}});
    let object = multipart(&server, "", &metadata, b"hello").ok();
    assert_eq!((&object["contentType"], &object["size"]), (&json!("text/plain"), &json!("5")));
}

struct Session<'a> {
    server: &'a Server,
    path: String,
}

impl<'a> Session<'a> {
    fn start(server: &'a Server, name: &str, metadata: &Value) -> Self {
        let path = format!("{UPLOAD}?uploadType=resumable&name={name}");
        let begun = server.post(&path, metadata);
        assert_eq!(begun.status, 200);
        let location = begun.header("location").expect("a location");
        let path = location.strip_prefix(server.emulator.url()).expect("the same server").to_owned();
        Self { server, path }
    }

    fn put(&self, range: Option<&str>, data: &[u8]) -> Answer {
        let header = range.map(|range| ("content-range", range));
        self.server.http.send("PUT", &self.path, header.as_slice(), data).expect("an answer")
    }
}

#[test]
fn a_resumable_upload_goes_on_from_what_was_stored() {
    let server = Server::start();
    let data: Vec<u8> = (0..3 * UNIT + 5).map(|at| (at % 251) as u8).collect();
    let total = data.len();
    let session = Session::start(&server, "big", &json!({"contentType": "image/png"}));
    let asked = session.put(Some("bytes */*"), b"");
    assert_eq!((asked.status, asked.header("range")), (308, None));
    let refused = session.put(Some("bytes 0-99/*"), &data[..100]);
    assert_eq!(refused.reason(), (400, "invalid".into()));
    let part = FaultAction::PersistAtMost { bytes: UNIT };
    server.emulator.add_fault(Fault { http: Some("PUT".into()), ..Fault::next("storage.objects.insert", part) });
    let range = format!("bytes 0-{}/{total}", 2 * UNIT - 1);
    let stored = session.put(Some(&range), &data[..2 * UNIT]);
    let first = format!("bytes=0-{}", UNIT - 1);
    assert_eq!((stored.status, stored.header("range")), (308, Some(first.as_str())));
    let asked = session.put(Some(&format!("bytes */{total}")), b"");
    assert_eq!((asked.status, asked.header("range")), (308, Some(first.as_str())));
    let gap = format!("bytes {}-{}/{total}", 2 * UNIT, total - 1);
    assert_eq!(session.put(Some(&gap), &data[2 * UNIT..]).status, 400);
    assert_eq!(server.get(&format!("{OBJECTS}/big")).status, 404);
    let rest = format!("bytes {UNIT}-{}/{total}", total - 1);
    let object = session.put(Some(&rest), &data[UNIT..]).ok();
    assert_eq!(object["contentType"], "image/png");
    assert_eq!(read(&server, "big", &[]).body, data);
    assert_eq!(session.put(Some("bytes */*"), b"").ok()["generation"], object["generation"]);
}

#[test]
fn a_broken_chunk_is_stored_in_part() {
    let server = Server::start();
    let data = vec![7; 2 * UNIT];
    let script = Fault::next("storage.objects.insert", FaultAction::BreakAfter { bytes: UNIT });
    server.emulator.add_fault(Fault { http: Some("PUT".into()), ..script });
    let session = Session::start(&server, "big", &json!({}));
    assert!(server.http.send("PUT", &session.path, &[], &data).is_err());
    let asked = session.put(Some("bytes */*"), b"");
    assert_eq!((asked.status, asked.header("range")), (308, Some("bytes=0-262143")));
    let rest = format!("bytes {UNIT}-{}/{}", 2 * UNIT - 1, 2 * UNIT);
    assert_eq!(session.put(Some(&rest), &data[UNIT..]).ok()["size"], "524288");
}

#[test]
fn a_cancelled_session_takes_nothing_more() {
    let server = Server::start();
    let session = Session::start(&server, "never", &json!({}));
    assert_eq!(server.delete(&session.path).status, 499);
    assert_eq!(session.put(None, b"x").status, 410);
    assert_eq!(server.get(&format!("{OBJECTS}/never")).status, 404);
}

#[test]
fn an_object_of_no_bytes_can_be_uploaded_in_a_session() {
    let server = Server::start();
    let session = Session::start(&server, "none", &json!({}));
    assert_eq!(session.put(Some("bytes */0"), b"").ok()["size"], "0");
}

#[test]
fn a_precondition_is_checked_again_when_a_session_ends() {
    let server = Server::start();
    let session = Session::start(&server, "race&ifGenerationMatch=0", &json!({}));
    put(&server, "race", "", b"winner").ok();
    assert_eq!(session.put(None, b"loser").reason(), (412, "conditionNotMet".into()));
    assert_eq!(read(&server, "race", &[]).body, b"winner");
}

#[test]
fn reads_give_ranges_and_tell_of_the_object() {
    let server = Server::start();
    let metadata = json!({"name": "a/b", "metadata": {"who": "me"}, "cacheControl": "no-store"});
    let object = multipart(&server, "", &metadata, b"0123456789").ok();
    let whole = read(&server, "a%2Fb", &[]);
    assert_eq!((whole.status, whole.body.as_slice()), (200, &b"0123456789"[..]));
    for (name, value) in [
        ("x-goog-generation", generation(&object)),
        ("x-goog-metageneration", "1"),
        ("x-goog-stored-content-length", "10"),
        ("x-goog-stored-content-encoding", "identity"),
        ("x-goog-meta-who", "me"),
        ("cache-control", "no-store"),
        ("content-type", "text/plain"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    let hash =
        format!("crc32c={},md5={}", object["crc32c"].as_str().expect("crc"), object["md5Hash"].as_str().expect("md5"));
    assert_eq!(whole.header("x-goog-hash"), Some(hash.as_str()));
    let part = read(&server, "a%2Fb", &[("range", "bytes=2-4")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(read(&server, "a%2Fb", &[("range", "bytes=-2")]).body, b"89");
    let outside = server.http.send("GET", &format!("{OBJECTS}/a%2Fb?alt=media"), &[("range", "bytes=10-")], b"");
    assert_eq!(outside.expect("an answer").reason(), (416, "requestedRangeNotSatisfiable".into()));
}

#[test]
fn gzip_is_undone_only_for_clients_that_do_not_take_it() {
    let server = Server::start();
    // `hello` through gzip.
    let packed = [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 203, 72, 205, 201, 201, 7, 0, 134, 166, 16, 54, 5, 0, 0, 0];
    let metadata = json!({"name": "z", "contentEncoding": "gzip"});
    multipart(&server, "", &metadata, &packed).ok();
    let stored = read(&server, "z", &[("accept-encoding", "gzip")]);
    assert_eq!(stored.body, packed);
    assert_eq!(stored.header("content-encoding"), Some("gzip"));
    let plain = read(&server, "z", &[("range", "bytes=0-1")]);
    assert_eq!((plain.status, plain.body.as_slice()), (200, &b"hello"[..]));
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("x-goog-stored-content-encoding"), Some("gzip"));
}

#[test]
fn a_rewrite_goes_on_with_its_token_until_it_is_done() {
    let server = Server::with(|config| config.rewrite_bytes_per_call = Some(4));
    put(&server, "a", "", b"0123456789").ok();
    let path = format!("{OBJECTS}/a/rewriteTo/b/data/o/b");
    let mut written = Vec::new();
    let mut token = String::new();
    loop {
        let answer = server.post(&format!("{path}?rewriteToken={token}"), &json!({})).ok();
        written.push(answer["totalBytesRewritten"].as_str().expect("bytes").to_owned());
        if answer["done"] == true {
            assert_eq!(answer["resource"]["size"], "10");
            break;
        }
        assert_eq!(server.get(&format!("{OBJECTS}/b")).status, 404);
        token = answer["rewriteToken"].as_str().expect("a token").to_owned();
    }
    assert_eq!(written, ["4", "8", "10"]);
    assert_eq!(server.post(&format!("{path}?rewriteToken={token}"), &json!({})).status, 400);
    assert_eq!(read(&server, "b", &[]).body, b"0123456789");
}

#[test]
fn composition_joins_at_most_32_objects_and_has_no_md5() {
    let server = Server::start();
    let one = put(&server, "one", "", b"1").ok();
    put(&server, "two", "", b"2").ok();
    let path = format!("{OBJECTS}/both/compose");
    let mut body = json!({
        "sourceObjects": [
            {"name": "one", "objectPreconditions": {"ifGenerationMatch": generation(&one)}},
            {"name": "two"},
        ],
        "destination": {"contentType": "text/plain"},
    });
    let both = server.post(&format!("{path}?ifGenerationMatch=0"), &body).ok();
    assert!(both.get("md5Hash").is_none());
    assert_eq!((&both["componentCount"], &both["contentType"]), (&json!(2), &json!("text/plain")));
    assert_eq!(read(&server, "both", &[]).body, b"12");
    body["sourceObjects"][0]["objectPreconditions"]["ifGenerationMatch"] = json!("9");
    assert_eq!(server.post(&path, &body).reason(), (412, "conditionNotMet".into()));
    body["sourceObjects"] = json!(vec![json!({"name": "one"}); 33]);
    assert_eq!(server.post(&path, &body).status, 400);
    body["sourceObjects"] = json!([{"name": "missing"}]);
    assert_eq!(server.post(&path, &body).status, 404);
}

#[test]
fn pages_of_a_list_hold_every_name_and_prefix_once() {
    let server = Server::start();
    for name in ["a", "b%2F1", "b%2F2", "b%2Fc%2F3", "c", "d%2F4", "e"] {
        put(&server, name, "", b"x").ok();
    }
    let list = |query: &str| {
        let (mut names, mut prefixes) = (Vec::new(), BTreeSet::new());
        let mut token = String::new();
        loop {
            let page = server.get(&format!("{OBJECTS}?{query}&pageToken={token}")).ok();
            let texts = |value: &Value| value.as_array().cloned().unwrap_or_default();
            names.extend(texts(&page["items"]).iter().map(|item| item["name"].as_str().unwrap_or("").to_owned()));
            for prefix in texts(&page["prefixes"]) {
                assert!(prefixes.insert(prefix.as_str().unwrap_or("").to_owned()));
            }
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => return (names, prefixes.into_iter().collect::<Vec<_>>()),
            }
        }
    };
    let (names, prefixes) = list("delimiter=%2F&maxResults=2");
    assert_eq!((names, prefixes), (vec!["a".into(), "c".into(), "e".into()], vec!["b/".into(), "d/".into()]));
    let (names, prefixes) = list("delimiter=%2F&prefix=b%2F&maxResults=1");
    assert_eq!((names, prefixes), (vec!["b/1".into(), "b/2".into()], vec!["b/c/".into()]));
    let (names, _) = list("startOffset=b%2F2&endOffset=d%2F4&maxResults=1");
    assert_eq!(names, ["b/2", "b/c/3", "c"]);
    assert_eq!(server.get("/storage/v1/b/none/o").reason(), (404, "notFound".into()));
}

#[test]
fn buckets_are_made_once_and_deleted_when_empty() {
    let server = Server::start();
    let body = json!({"name": "fresh-one", "location": "eu"});
    assert_eq!(server.post("/storage/v1/b?project=p", &body).ok()["location"], "EU");
    assert_eq!(server.post("/storage/v1/b?project=p", &body).reason(), (409, "conflict".into()));
    assert_eq!(server.get("/storage/v1/b?project=p").ok()["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.delete("/storage/v1/b/fresh-one").status, 204);
    put(&server, "a", "", b"x").ok();
    assert_eq!(server.delete("/storage/v1/b/data").reason(), (409, "conflict".into()));
}

#[test]
fn changes_of_one_object_can_be_limited() {
    let server = Server::with(|config| config.object_change_interval = Some(Duration::from_secs(60)));
    put(&server, "a", "", b"1").ok();
    let limited = (429, "rateLimitExceeded".to_owned());
    assert_eq!(put(&server, "a", "", b"2").reason(), limited);
    assert_eq!(server.delete(&format!("{OBJECTS}/a")).reason(), limited);
    put(&server, "b", "", b"1").ok();
    assert_eq!(read(&server, "a", &[]).body, b"1");
}
