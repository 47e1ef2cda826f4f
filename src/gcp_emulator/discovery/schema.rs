//! Values against the schemas of a discovery document.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::wire::duration;

/// Which side wrote the value. Requests may use every form that proto3 JSON accepts
/// (<https://protobuf.dev/programming-guides/json/>); answers use the one that it writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Answer,
}

/// The schemas of one document by name.
#[derive(Debug)]
pub(super) struct Schemas(pub(super) Map<String, Value>);

impl Schemas {
    pub(super) fn check_text(&self, schema: &str, text: &[u8], direction: Direction, found: &mut Vec<String>) {
        match serde_json::from_slice::<Value>(text) {
            Err(_) => found.push("the body is not JSON".into()),
            Ok(value) => match self.0.get(schema) {
                None => found.push(format!("no schema {schema}")),
                Some(known) => self.check(known, &value, schema, direction, found),
            },
        }
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, direction: Direction, found: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            match self.0.get(name) {
                Some(inner) => self.check(inner, value, at, direction, found),
                None => found.push(format!("{at}: no schema {name}")),
            }
            return;
        }
        if value.is_null() && direction == Direction::Request {
            return;
        }
        match schema["type"].as_str().unwrap_or("any") {
            "any" => {}
            "object" => match value.as_object() {
                Some(fields) => self.check_object(schema, fields, at, direction, found),
                None => found.push(format!("{at}: not an object")),
            },
            "array" => match value.as_array() {
                Some(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let at = format!("{at}[{index}]");
                        self.check(&schema["items"], item, &at, direction, found);
                    }
                }
                None => found.push(format!("{at}: not a list")),
            },
            "boolean" if value.is_boolean() => {}
            "boolean" => found.push(format!("{at}: not a boolean")),
            "string" => {
                if let Err(problem) = check_string(schema, value, direction) {
                    found.push(format!("{at}: {problem}"));
                }
            }
            kind => {
                if let Err(problem) = check_number(schema, value, direction) {
                    found.push(format!("{at}: {problem} ({kind})"));
                }
            }
        }
    }

    fn check_object(
        &self,
        schema: &Value,
        fields: &Map<String, Value>,
        at: &str,
        direction: Direction,
        found: &mut Vec<String>,
    ) {
        // A packed message names its own type: its fields are those of that type.
        if let Some(name) = fields.get("@type").and_then(Value::as_str) {
            if let Some(packed) = self.packed(name) {
                let mut rest = fields.clone();
                rest.remove("@type");
                self.check(packed, &Value::Object(rest), &format!("{at}({name})"), direction, found);
            } else if !name.ends_with("google.protobuf.Empty") {
                found.push(format!("{at}: no schema for {name}"));
            }
            return;
        }
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            if let Some(inner) = schema["properties"].get(name) {
                self.check(inner, value, &at, direction, found);
            } else if let Some(inner) = schema.get("additionalProperties") {
                self.check(inner, value, &at, direction, found);
            } else {
                found.push(format!("{at}: no such field"));
            }
        }
    }

    /// `GoogleCloudRunV2Execution` for `type.googleapis.com/google.cloud.run.v2.Execution`.
    fn packed(&self, name: &str) -> Option<&Value> {
        let name = name.rsplit('/').next()?;
        let title: String = name
            .split('.')
            .map(|part| {
                let mut letters = part.chars();
                letters
                    .next()
                    .map_or(String::new(), |first| first.to_uppercase().collect::<String>() + letters.as_str())
            })
            .collect();
        self.0.get(&title)
    }
}

fn check_string(schema: &Value, value: &Value, direction: Direction) -> Result<(), String> {
    let format = schema["format"].as_str().unwrap_or("");
    let lenient = direction == Direction::Request;
    if let Some(names) = schema["enum"].as_array() {
        let known = names.contains(value) || (lenient && value.is_i64());
        return known.then_some(()).ok_or_else(|| "not a value of the enumeration".into());
    }
    if lenient && value.is_number() && matches!(format, "int64" | "uint64") {
        return Ok(());
    }
    let text = value.as_str().ok_or("not a string")?;
    let valid = match format {
        "int64" => text.parse::<i64>().is_ok(),
        "uint64" => text.parse::<u64>().is_ok(),
        "google-datetime" | "date-time" => text.parse::<Timestamp>().is_ok(),
        "google-duration" => duration(text).is_some(),
        "byte" => BASE64_STANDARD.decode(text).is_ok(),
        _ => true,
    };
    valid.then_some(()).ok_or_else(|| format!("not {format}"))
}

fn check_number(schema: &Value, value: &Value, direction: Direction) -> Result<(), String> {
    let number = match value {
        Value::String(text) if direction == Direction::Request => text.parse::<f64>().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    let number = number.ok_or("not a number")?;
    let valid = match schema["format"].as_str() {
        Some("int32") => number.fract() == 0.0 && number.abs() <= f64::from(u32::MAX / 2 + 1),
        Some("uint32") => number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number),
        _ => true,
    };
    valid.then_some(()).ok_or_else(|| "out of range".into())
}

/// A query parameter: the text of a value.
pub(super) fn check_parameter(schema: &Value, text: &str) -> Result<(), String> {
    match schema["type"].as_str() {
        Some("boolean") if ["true", "false"].contains(&text) => Ok(()),
        Some("boolean") => Err("not a boolean".into()),
        Some("integer" | "number") => check_number(schema, &Value::String(text.into()), Direction::Request),
        _ => check_string(schema, &Value::String(text.into()), Direction::Request),
    }
}

/// `{"error": {"code", "message", …}}` with the code of the status line.
///
/// <https://cloud.google.com/apis/design/errors#http_mapping>
pub(super) fn check_error(body: &[u8], status: u16, found: &mut Vec<String>) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    if error["code"] != status || !error["message"].is_string() {
        found.push("the error does not have the form of an error".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(value: &Value, direction: Direction) -> Vec<String> {
        let schemas = Schemas(
            json!({
                "GoogleXThing": {"type": "object", "properties": {
                    "when": {"type": "string", "format": "google-datetime"},
                    "wait": {"type": "string", "format": "google-duration"},
                    "data": {"type": "string", "format": "byte"},
                    "count": {"type": "integer", "format": "int32"},
                    "kind": {"type": "string", "enum": ["A", "B"]},
                    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                    "any": {"type": "object", "additionalProperties": {"type": "any"}},
                }},
            })
            .as_object()
            .cloned()
            .unwrap_or_default(),
        );
        let mut found = Vec::new();
        schemas.check_text("GoogleXThing", value.to_string().as_bytes(), direction, &mut found);
        found
    }

    #[test]
    fn formats_are_checked() {
        let good = json!({"when": "2024-01-02T03:04:05.6Z", "wait": "3.5s", "data": "YQ==", "count": 7});
        assert_eq!(found(&good, Direction::Answer), Vec::<String>::new());
        let bad = json!({"when": "yesterday", "wait": "3", "data": "?", "count": 1e12});
        assert_eq!(found(&bad, Direction::Answer).len(), 4);
    }

    #[test]
    fn enumerations_may_be_numbers_in_requests_only() {
        assert!(found(&json!({"kind": 1}), Direction::Request).is_empty());
        assert!(!found(&json!({"kind": 1}), Direction::Answer).is_empty());
    }

    #[test]
    fn a_packed_message_is_checked_against_its_own_type() {
        let packed = json!({"any": {"@type": "type.googleapis.com/google.x.Thing", "colour": "red"}});
        assert_eq!(found(&packed, Direction::Answer).len(), 1);
    }

    #[test]
    fn no_violation_names_a_value() {
        let found = found(&json!({"data": "top secret!", "tags": {"a": 12345}}), Direction::Answer);
        assert_eq!(found.len(), 2);
        assert!(!found.concat().contains("top secret") && !found.concat().contains("12345"));
    }
}
