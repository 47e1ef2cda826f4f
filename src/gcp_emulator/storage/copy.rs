//! Objects made of other objects: rewrite, copy, compose.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::wire::{Call, Reply, random_suffix};
use super::object::{Draft, Object};
use super::precondition::{Conditions, Purpose};
use super::{Storage, kms, number};

/// <https://cloud.google.com/storage/docs/json_api/v1/objects/compose>
const COMPOSE_LIMIT: usize = 32;

/// A rewrite under way.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// Source and destination, so that a token is good for its own rewrite only.
    about: (Vec<String>, i64),
    written: u64,
}

/// What a copy makes, of the request's own metadata or the source's.
fn draft(call: &Call, source: &Object) -> Result<Draft, Failure> {
    let given: Map<String, Value> = call.json()?;
    let fields = if given.is_empty() { source.fields.clone() } else { given };
    let part = |index: usize| call.path.get(index).cloned().unwrap_or_default();
    Ok(Draft { bucket: part(2), name: part(3), fields, data: source.data.clone(), components: source.components })
}

impl Storage {
    fn source(&self, call: &Call) -> Result<&Object, Failure> {
        let part = |index: usize| call.path.get(index).map_or("", String::as_str);
        let source = self.object(part(0), part(1), call.number("sourceGeneration")?)?;
        Conditions::of(call, "ifSource")?.check(Some(source), Purpose::Change)?;
        Ok(source)
    }

    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/copy>
    pub(super) fn copy(&mut self, url: &str, call: &Call) -> Result<Reply, Failure> {
        let draft = draft(call, self.source(call)?)?;
        let object = self.put(draft, &Conditions::of(call, "if")?)?;
        Ok(Reply::json(&object.json(url)))
    }

    /// Copies a part per call, until it is done; the token leads from one call to the next.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite>
    pub(super) fn rewrite(&mut self, url: &str, call: &Call, limit: Option<u64>) -> Result<Reply, Failure> {
        let source = self.source(call)?;
        let (size, generation) = (source.data.len() as u64, source.generation);
        let mut draft = draft(call, source)?;
        kms::note(&mut draft.fields, call.query("destinationKmsKeyName"), &self.denied_keys)?;
        let conditions = Conditions::of(call, "if")?;
        let existing = self.bucket(&draft.bucket)?.objects.get(&draft.name);
        conditions.check(existing, Purpose::Change)?;
        let about = (call.path.clone(), generation);
        let written = match call.query("rewriteToken") {
            None => 0,
            Some(token) => {
                let known = self.rewrites.remove(token).filter(|known| known.about == about);
                known.ok_or_else(|| Failure::invalid("The rewrite token is invalid."))?.written
            }
        };
        let asked = call.number("maxBytesRewrittenPerCall")?;
        let step = [limit, asked].into_iter().flatten().min().unwrap_or(u64::MAX);
        let written = written.saturating_add(step).min(size);
        let mut answer = json!({
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": written.to_string(),
            "objectSize": size.to_string(),
            "done": written == size,
        });
        if written == size {
            answer["resource"] = self.put(draft, &conditions)?.json(url);
        } else {
            let token = random_suffix(32);
            answer["rewriteToken"] = json!(token);
            self.rewrites.insert(token, Rewrite { about, written });
        }
        Ok(Reply::json(&answer))
    }

    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/compose>
    pub(super) fn compose(&mut self, url: &str, call: &Call) -> Result<Reply, Failure> {
        let request = call.json()?;
        let part = |index: usize| call.path.get(index).cloned().unwrap_or_default();
        let (bucket, name) = (part(0), part(1));
        let sources = request.get("sourceObjects").and_then(Value::as_array);
        let sources = sources.map_or(&[][..], Vec::as_slice);
        if sources.is_empty() {
            return Err(Failure::invalid("You must provide at least one source component."));
        }
        if sources.len() > COMPOSE_LIMIT {
            return Err(Failure::invalid(format!(
                "The number of source components provided ({}) exceeds the maximum (32).",
                sources.len()
            )));
        }
        let mut data = BytesMut::new();
        let mut components = 0;
        let mut names = Vec::new();
        for source in sources {
            let own = source["name"].as_str().unwrap_or("");
            let object = self.object(&bucket, own, number(&source["generation"]))?;
            let conditions = Conditions {
                generation: number(&source["objectPreconditions"]["ifGenerationMatch"]),
                ..Conditions::default()
            };
            conditions.check(Some(object), Purpose::Change)?;
            data.extend_from_slice(&object.data);
            components += object.components.unwrap_or(1);
            names.push(own.to_owned());
        }
        let fields = request.get("destination").and_then(Value::as_object).cloned();
        let draft = Draft {
            bucket: bucket.clone(),
            name: name.clone(),
            fields: fields.unwrap_or_default(),
            data: Bytes::from(data),
            components: Some(components),
        };
        let answer = self.put(draft, &Conditions::of(call, "if")?)?.json(url);
        if request.get("deleteSourceObjects") == Some(&Value::Bool(true)) {
            let objects = &mut self.bucket_mut(&bucket)?.objects;
            for own in names.iter().filter(|own| **own != name) {
                objects.remove(own);
            }
        }
        Ok(Reply::json(&answer))
    }
}
