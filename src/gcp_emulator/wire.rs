//! One request and one answer, as the rooms see them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// A request that matched a route.
pub(super) struct Call {
    /// The discovery id of the method.
    pub(super) id: &'static str,
    /// The decoded path without the version and without `:verb`, such as `projects/p/secrets/s`.
    pub(super) name: String,
    /// The decoded values of the template's variables, in order.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// A query parameter; an empty one counts as absent, because generated clients send unset
    /// fields as empty strings.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A query parameter that is a whole number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.query(name)
            .map(|text| text.parse().map_err(|_| Failure::invalid(format!("Invalid value for parameter {name}."))))
            .transpose()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as a JSON object; no body is an empty object.
    pub(super) fn json(&self) -> Result<Map<String, Value>, Failure> {
        object(&self.body)
    }

    /// The name of the collection's parent: `projects/p` of `projects/p/secrets`.
    pub(super) fn parent(&self) -> &str {
        self.name.rsplit_once('/').map_or("", |(parent, _)| parent)
    }
}

/// Reads a JSON object; nothing at all is an empty one.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Failure::invalid("Invalid JSON payload received.")),
    }
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    pub(super) fn json_with(status: StatusCode, value: &Value) -> Self {
        let mut reply = Self::empty(status);
        reply.body = Bytes::from(value.to_string());
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        reply
    }

    /// Adds a header; a value that cannot stand in a header is left out.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            self.headers.append(name, value);
        }
        self
    }
}

/// The decoded form of a path segment.
pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The decoded pairs of a query string.
pub(super) fn query_pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decoded(&text.replace('+', " "));
            (plain(key), plain(value))
        })
        .collect()
}

/// Drops what the JSON form of proto3 leaves out: zero, false, the empty string, the empty list.
/// Empty messages stay, because they carry presence.
///
/// <https://protobuf.dev/programming-guides/json/>
pub(super) fn without_defaults(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| match value {
                    Value::Null | Value::Bool(false) => false,
                    Value::String(text) => !text.is_empty(),
                    Value::Array(items) => !items.is_empty(),
                    Value::Number(number) => number.as_f64() != Some(0.0),
                    _ => true,
                })
                .collect(),
        ),
        other => other,
    }
}

/// A page of `items` and the token of the next one.
///
/// Tokens are opaque to callers (<https://google.aip.dev/158>): one that this server did not give
/// is an error.
pub(super) fn page<T>(
    items: Vec<T>,
    size: Option<usize>,
    limit: usize,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), Failure> {
    let start = match token {
        None => 0,
        Some(token) => token
            .strip_prefix("at-")
            .and_then(|text| text.parse().ok())
            .filter(|start| *start <= items.len())
            .ok_or_else(|| Failure::invalid("The page token is invalid."))?,
    };
    let size = match size {
        None | Some(0) => limit,
        Some(size) => size.min(limit),
    };
    let end = items.len().min(start + size);
    let next = (end < items.len()).then(|| format!("at-{end}"));
    let page = items.into_iter().skip(start).take(end - start).collect();
    Ok((page, next))
}

/// The moment as RFC 3339.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The JSON form of a protobuf duration, `3.5s`.
pub(super) fn duration(text: &str) -> Option<std::time::Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    std::time::Duration::try_from_secs_f64(seconds).ok()
}

/// Random lower-case letters and digits.
pub(super) fn random_suffix(length: usize) -> String {
    (0..length).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect()
}

/// A random identifier in the form of a UUID of version 4.
pub(super) fn uuid() -> String {
    let bits = fastrand::u128(..);
    let bits = (bits & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A list answer: `{key: items, nextPageToken}`.
pub(super) fn listing(key: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut answer = json!({ key: items });
    if let Some(next) = next {
        answer["nextPageToken"] = Value::String(next);
    }
    without_defaults(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_everything_exactly_once() {
        let items: Vec<u32> = (0..7).collect();
        let (first, token) = page(items.clone(), Some(3), 100, None).expect("first");
        let (second, token) = page(items.clone(), Some(3), 100, token.as_deref()).expect("second");
        let (third, end) = page(items, Some(3), 100, token.as_deref()).expect("third");
        assert_eq!([first, second, third].concat(), (0..7).collect::<Vec<_>>());
        assert_eq!(end, None);
    }

    #[test]
    fn a_token_of_somebody_else_is_refused() {
        assert!(page(vec![1], None, 10, Some("made-up")).is_err());
    }

    #[test]
    fn durations_have_a_unit_and_may_have_a_fraction() {
        assert_eq!(duration("1.5s"), Some(std::time::Duration::from_millis(1500)));
        assert_eq!(duration("15"), None);
    }

    #[test]
    fn proto_defaults_are_left_out_and_empty_messages_stay() {
        let value = without_defaults(json!({"a": 0, "b": "", "c": {}, "d": [], "e": 1}));
        assert_eq!(value, json!({"c": {}, "e": 1}));
    }

    #[test]
    fn an_identifier_has_the_version_and_variant_of_a_random_uuid() {
        let id = uuid();
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
    }
}
