//! Checks requests and answers against Google's discovery documents.
//!
//! The format: <https://developers.google.com/discovery/v1/reference/apis>.

mod schema;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use axum::http::Method;
use serde_json::{Map, Value};

use super::routes::variables;
use super::wire::{Call, Reply};
use schema::{Direction, Schemas};

const DOCUMENTS: [&str; 4] = ["secretmanager.v1", "run.v2", "logging.v2", "storage.v1"];

/// Parameters that every method takes although not every document lists them.
///
/// <https://cloud.google.com/apis/docs/system-parameters>
const SYSTEM_PARAMETERS: [&str; 8] =
    ["$alt", "$fields", "$prettyPrint", "$key", "$userProject", "$callback", "upload_id", "name"];

/// The documents of the four services.
#[derive(Debug)]
pub(super) struct Discovery {
    methods: HashMap<String, Operation>,
    documents: Vec<Document>,
}

#[derive(Debug)]
struct Document {
    parameters: Map<String, Value>,
    schemas: Schemas,
}

#[derive(Debug)]
struct Operation {
    document: usize,
    http: String,
    /// The path and those of the upload protocols.
    templates: Vec<String>,
    parameters: Map<String, Value>,
    request: Option<String>,
    response: Option<String>,
}

impl Discovery {
    /// Reads the documents of a directory.
    pub(super) fn load(directory: &Path) -> io::Result<Self> {
        let mut discovery = Self { methods: HashMap::new(), documents: Vec::new() };
        for name in DOCUMENTS {
            let path = directory.join(format!("{name}.json"));
            let told = |problem: String| io::Error::other(format!("{}: {problem}", path.display()));
            let text = std::fs::read(&path).map_err(|problem| told(problem.to_string()))?;
            let value: Value = serde_json::from_slice(&text).map_err(|problem| told(problem.to_string()))?;
            discovery.add(&value);
        }
        Ok(discovery)
    }

    fn add(&mut self, value: &Value) {
        let document = self.documents.len();
        let base = value["servicePath"].as_str().unwrap_or("").to_owned();
        self.add_methods(value, document, &base);
        self.documents
            .push(Document { parameters: map(&value["parameters"]), schemas: Schemas(map(&value["schemas"])) });
    }

    fn add_methods(&mut self, resource: &Value, document: usize, base: &str) {
        for method in resource["methods"].as_object().into_iter().flat_map(Map::values) {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            let path = method["flatPath"].as_str().or(method["path"].as_str()).unwrap_or("");
            let mut templates = vec![format!("{base}{path}")];
            for protocol in ["simple", "resumable"] {
                if let Some(path) = method["mediaUpload"]["protocols"][protocol]["path"].as_str() {
                    templates.push(path.trim_start_matches('/').to_owned());
                }
            }
            if method["supportsMediaDownload"] == Value::Bool(true) {
                templates.push(format!("download/{base}{path}"));
            }
            let id = text(&method["id"]);
            self.methods.insert(
                id,
                Operation {
                    document,
                    http: text(&method["httpMethod"]),
                    templates,
                    parameters: map(&method["parameters"]),
                    request: method["request"]["$ref"].as_str().map(str::to_owned),
                    response: method["response"]["$ref"].as_str().map(str::to_owned),
                },
            );
        }
        for inner in resource["resources"].as_object().into_iter().flat_map(Map::values) {
            self.add_methods(inner, document, base);
        }
    }

    /// What is wrong with a request. `json` is its JSON body or the JSON part of it.
    pub(super) fn check_request(&self, http: &Method, path: &str, call: &Call, json: Option<&[u8]>) -> Vec<String> {
        let Some(method) = self.methods.get(call.id) else {
            return vec!["the discovery documents do not have the method".into()];
        };
        let mut found = Vec::new();
        // The later requests of a resumable upload are no method of their own:
        // https://cloud.google.com/storage/docs/performing-resumable-uploads
        let session = call.query("upload_id").is_some();
        if !session && http.as_str() != method.http {
            found.push(format!("{http} instead of {}", method.http));
        }
        let path = path.trim_start_matches('/');
        if !method.templates.iter().any(|template| variables(template, path).is_some()) {
            found.push(format!("the path is none of {:?}", method.templates));
        }
        let document = &self.documents[method.document];
        for (name, value) in &call.query {
            let known = method.parameters.get(name).or_else(|| document.parameters.get(name));
            match known {
                Some(schema) if !value.is_empty() => {
                    if let Err(problem) = schema::check_parameter(schema, value) {
                        found.push(format!("query parameter {name}: {problem}"));
                    }
                }
                Some(_) => {}
                None if SYSTEM_PARAMETERS.contains(&name.as_str()) => {}
                None => found.push(format!("query parameter {name} is not known")),
            }
        }
        for (name, schema) in &method.parameters {
            let required = schema["required"] == Value::Bool(true) && schema["location"] == "query";
            if required && call.query(name).is_none() {
                found.push(format!("query parameter {name} is missing"));
            }
        }
        match (&method.request, json) {
            (Some(schema), Some(json)) => {
                document.schemas.check_text(schema, json, Direction::Request, &mut found);
            }
            (None, Some(json)) if !json.iter().all(u8::is_ascii_whitespace) && json != b"{}" => {
                found.push("a body, although the method has none".into());
            }
            _ => {}
        }
        found
    }

    /// What is wrong with an answer.
    pub(super) fn check_answer(&self, id: &str, call: &Call, reply: &Reply) -> Vec<String> {
        let Some(method) = self.methods.get(id) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let status = reply.status.as_u16();
        let json =
            reply.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if status >= 400 {
            if status != 499 {
                schema::check_error(&reply.body, status, &mut found);
            }
        } else if call.query("alt") == Some("media") && id == "storage.objects.get" {
        } else if let (Some(schema), true) = (&method.response, json) {
            let document = &self.documents[method.document];
            document.schemas.check_text(schema, &reply.body, Direction::Answer, &mut found);
        } else if method.response.is_some() && !reply.body.is_empty() {
            found.push("the answer is not JSON".into());
        }
        found
    }
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderMap;
    use bytes::Bytes;
    use serde_json::json;

    fn documents() -> Discovery {
        let mut discovery = Discovery { methods: HashMap::new(), documents: Vec::new() };
        discovery.add(&json!({
            "servicePath": "",
            "parameters": {"alt": {"type": "string", "enum": ["json", "media"]}},
            "schemas": {
                "Thing": {"type": "object", "properties": {
                    "size": {"type": "string", "format": "int64"},
                    "state": {"type": "string", "enum": ["ON", "OFF"]},
                }},
            },
            "resources": {"things": {"methods": {"create": {
                "id": "x.things.create", "httpMethod": "POST", "flatPath": "v1/things/{thingsId}",
                "parameters": {"limit": {"type": "integer", "format": "int32", "location": "query"}},
                "request": {"$ref": "Thing"}, "response": {"$ref": "Thing"},
            }}}},
        }));
        discovery
    }

    fn call(query: &[(&str, &str)]) -> Call {
        Call {
            id: "x.things.create",
            name: String::new(),
            path: Vec::new(),
            query: query.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_request_that_conforms_has_no_violation() {
        let json = br#"{"size": "12", "state": "ON"}"#;
        let query = call(&[("alt", "json"), ("limit", "3"), ("$alt", "json;enum-encoding=int")]);
        let found = documents().check_request(&Method::POST, "/v1/things/a", &query, Some(json));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn unknown_fields_parameters_paths_and_methods_are_violations() {
        let json = br#"{"colour": "red"}"#;
        let query = call(&[("limit", "many"), ("depth", "1")]);
        let found = documents().check_request(&Method::GET, "/v1/other/a", &query, Some(json));
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn answers_write_long_numbers_as_strings() {
        let reply = Reply::json(&json!({"size": 12}));
        let found = documents().check_answer("x.things.create", &call(&[]), &reply);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn errors_have_the_form_of_errors() {
        let good = Reply::json_with(
            axum::http::StatusCode::NOT_FOUND,
            &json!({"error": {"code": 404, "message": "x", "status": "NOT_FOUND"}}),
        );
        let bad = Reply::json_with(axum::http::StatusCode::NOT_FOUND, &json!({"oops": 1}));
        let documents = documents();
        assert!(documents.check_answer("x.things.create", &call(&[]), &good).is_empty());
        assert!(!documents.check_answer("x.things.create", &call(&[]), &bad).is_empty());
    }
}
