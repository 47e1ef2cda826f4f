//! One secret and its versions.

use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::wire::{Call, listing, now, page, without_defaults};
use super::filter::Filter;
use super::version::{State, Version};
use super::{check_etag, new_etag};

/// Fields that a caller sets at creation.
const SETTABLE: [&str; 8] =
    ["replication", "labels", "annotations", "topics", "expireTime", "rotation", "versionAliases", "versionDestroyTtl"];

/// Fields that a caller changes later; the replication is immutable.
///
/// <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets#Secret>
const CHANGEABLE: [&str; 7] =
    ["labels", "annotations", "topics", "expireTime", "rotation", "versionAliases", "versionDestroyTtl"];

/// A secret.
#[derive(Debug)]
pub(super) struct Secret {
    name: String,
    regional: bool,
    fields: Map<String, Value>,
    created: String,
    order: u64,
    etag: String,
    versions: Vec<Version>,
}

impl Secret {
    pub(super) fn new(
        name: String,
        regional: bool,
        mut given: Map<String, Value>,
        order: u64,
    ) -> Result<Self, Failure> {
        given.retain(|field, value| SETTABLE.contains(&field.as_str()) && !value.is_null());
        // Global secrets need a policy, regional ones have none: the field in
        // https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets#Secret
        let policy = given.get("replication").and_then(Value::as_object);
        let valid = policy.is_some_and(|policy| {
            policy.contains_key("automatic")
                || policy
                    .get("userManaged")
                    .and_then(|managed| managed["replicas"].as_array())
                    .is_some_and(|replicas| !replicas.is_empty())
        });
        if !regional && !valid {
            return Err(Failure::invalid("Secret.replication must be specified."));
        }
        if regional && policy.is_some_and(|policy| !policy.is_empty()) {
            return Err(Failure::invalid("Secret.replication must not be set for a regional secret."));
        }
        let secret =
            Self { name, regional, fields: given, created: now(), order, etag: new_etag(), versions: Vec::new() };
        secret.check_aliases()?;
        Ok(secret)
    }

    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn json(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("name".into(), json!(self.name));
        fields.insert("createTime".into(), json!(self.created));
        fields.insert("etag".into(), json!(self.etag));
        without_defaults(Value::Object(fields))
    }

    pub(super) fn check_etag(&self, given: Option<&str>) -> Result<(), Failure> {
        check_etag(&self.etag, given)
    }

    pub(super) fn patch(&mut self, call: &Call) -> Result<Value, Failure> {
        let given = call.json()?;
        self.check_etag(given.get("etag").and_then(Value::as_str))?;
        let mask = call.query("updateMask").unwrap_or("");
        if mask.is_empty() {
            return Err(Failure::invalid("The updateMask must be specified."));
        }
        let before = self.fields.clone();
        for path in mask.split(',') {
            let (field, key) = path.split_once('.').map_or((path, None), |(f, k)| (f, Some(k)));
            let field = camel(field);
            if !CHANGEABLE.contains(&field.as_str()) && field != "ttl" {
                self.fields = before;
                return Err(Failure::invalid(format!("The updateMask has the immutable or unknown field {path}.")));
            }
            let value = given.get(&field).cloned().unwrap_or(Value::Null);
            match key {
                None if value.is_null() => {
                    self.fields.remove(&field);
                }
                None => {
                    self.fields.insert(field, value);
                }
                Some(key) => {
                    let entry = self.fields.entry(field).or_insert_with(|| json!({}));
                    if let Some(map) = entry.as_object_mut() {
                        match value.get(key) {
                            Some(value) => map.insert(key.into(), value.clone()),
                            None => map.remove(key),
                        };
                    }
                }
            }
        }
        if let Err(failure) = self.check_aliases() {
            self.fields = before;
            return Err(failure);
        }
        self.etag = new_etag();
        Ok(self.json())
    }

    /// Aliases are names of versions that exist, 50 at most.
    ///
    /// <https://cloud.google.com/secret-manager/docs/assign-alias-to-secret-version>
    fn check_aliases(&self) -> Result<(), Failure> {
        let Some(aliases) = self.fields.get("versionAliases").and_then(Value::as_object) else {
            return Ok(());
        };
        if aliases.len() > 50 {
            return Err(Failure::invalid("A secret has at most 50 version aliases."));
        }
        for (alias, number) in aliases {
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let first = alias.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
            if !first || alias.len() > 63 || alias == "latest" || !alias.chars().all(letters) {
                return Err(Failure::invalid(format!("The version alias [{alias}] is not valid.")));
            }
            if number_of(number).is_none_or(|number| self.numbered(number).is_none()) {
                return Err(Failure::precondition(format!("The version of the alias [{alias}] does not exist.")));
            }
        }
        Ok(())
    }

    pub(super) fn add_version(&mut self, request: &Map<String, Value>) -> Result<Value, Failure> {
        let number = self.versions.len() as u64 + 1;
        let version = Version::new(number, request.get("payload"))?;
        let answer = self.render(&version);
        self.versions.push(version);
        Ok(answer)
    }

    fn numbered(&self, number: u64) -> Option<&Version> {
        self.versions.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// The position of a version by number, alias or `latest`, which is the newest whatever its
    /// state: <https://cloud.google.com/secret-manager/docs/access-secret-version>.
    fn position(&self, name: &str) -> Result<usize, Failure> {
        let number = match name {
            "latest" => Some(self.versions.len() as u64),
            _ => name
                .parse()
                .ok()
                .or_else(|| self.fields.get("versionAliases").and_then(|all| number_of(all.get(name)?))),
        };
        number
            .filter(|number| self.numbered(*number).is_some())
            .and_then(|number| usize::try_from(number - 1).ok())
            .ok_or_else(|| Failure::not_found(format!("Secret Version [{}/versions/{name}] not found.", self.name)))
    }

    fn render(&self, version: &Version) -> Value {
        version.json(&self.name, (!self.regional).then(|| &self.fields["replication"]))
    }

    pub(super) fn version(&self, name: &str) -> Result<Value, Failure> {
        Ok(self.render(&self.versions[self.position(name)?]))
    }

    pub(super) fn access(&self, name: &str) -> Result<Value, Failure> {
        self.versions[self.position(name)?].access(&self.name)
    }

    pub(super) fn payload(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let version = &self.versions[self.position(name)?];
        version.readable(&self.name).map(|bytes| bytes.to_vec())
    }

    pub(super) fn change(&mut self, name: &str, verb: &str, etag: Option<&str>) -> Result<Value, Failure> {
        let position = self.position(name)?;
        let version = &mut self.versions[position];
        version.check_etag(etag)?;
        version.change(match verb {
            "enable" => State::Enabled,
            "disable" => State::Disabled,
            _ => State::Destroyed,
        })?;
        Ok(self.render(&self.versions[position]))
    }

    pub(super) fn list_versions(&self, call: &Call) -> Result<Value, Failure> {
        // Newest first:
        // https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/list
        let filter = Filter::parse(call.query("filter").unwrap_or(""))?;
        let all: Vec<Value> = self
            .versions
            .iter()
            .rev()
            .map(|version| self.render(version))
            .filter(|version| filter.takes(version))
            .collect();
        let total = if call.query("filter").is_some() { 0 } else { all.len() };
        let (items, next) = page(all, call.number("pageSize")?, 25_000, call.query("pageToken"))?;
        let mut answer = listing("versions", items, next);
        if total > 0 {
            answer["totalSize"] = json!(total);
        }
        Ok(answer)
    }
}

fn number_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// `version_aliases` and `versionAliases` are the same path in a field mask.
fn camel(name: &str) -> String {
    let mut upper = false;
    let mut out = String::new();
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            out.push(letter.to_ascii_uppercase());
        } else {
            out.push(letter);
        }
    }
    out
}
