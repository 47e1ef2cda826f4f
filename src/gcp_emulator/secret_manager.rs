//! Secret Manager v1.
//!
//! <https://cloud.google.com/secret-manager/docs/reference/rest>

mod filter;
mod secret;
mod version;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::storage::kms;
use super::wire::{Call, Reply, listing, page};
use filter::Filter;
use secret::Secret;

/// The largest payload. <https://cloud.google.com/secret-manager/quotas#content_limits>
const PAYLOAD_LIMIT: usize = 65_536;

/// All secrets, by full name.
#[derive(Debug, Default)]
pub(super) struct SecretManager {
    secrets: BTreeMap<String, Secret>,
    /// Counts creations, for the order of lists.
    created: u64,
    denied_keys: Vec<String>,
}

impl SecretManager {
    pub(super) fn new(denied_keys: Vec<String>) -> Self {
        Self { denied_keys, ..Self::default() }
    }

    /// Serves a call.
    pub(super) fn call(&mut self, call: &Call) -> Result<Reply, Failure> {
        let action = call.id.rsplit("secrets.").next().unwrap_or(call.id);
        let answer = match action {
            "create" => self.create(call)?,
            "list" => self.list(call)?,
            "get" => self.secret(&call.name)?.json(),
            "patch" => self.secret_mut(&call.name)?.patch(call)?,
            "delete" => self.delete(call)?,
            "addVersion" => self.secret_mut(&call.name)?.add_version(&call.json()?)?,
            "versions.list" => self.secret(call.parent())?.list_versions(call)?,
            "versions.get" => self.of_version(call)?.version(last(&call.name))?,
            "versions.access" => self.of_version(call)?.access(last(&call.name))?,
            "versions.enable" | "versions.disable" | "versions.destroy" => {
                let etag = call.json()?.get("etag").and_then(Value::as_str).map(str::to_owned);
                let name = last(&call.name).to_owned();
                let verb = action.strip_prefix("versions.").unwrap_or(action);
                self.secret_mut(grandparent(&call.name))?.change(&name, verb, etag.as_deref())?
            }
            _ => return Err(Failure::unimplemented("This emulator does not serve the method.")),
        };
        Ok(Reply::json(&answer))
    }

    /// The payload of a version, for tasks that refer to it.
    pub(super) fn payload(&self, secret: &str, version: &str) -> Result<Vec<u8>, Failure> {
        self.secret(secret)?.payload(version)
    }

    fn secret(&self, name: &str) -> Result<&Secret, Failure> {
        self.secrets.get(name).ok_or_else(|| missing(name))
    }

    fn secret_mut(&mut self, name: &str) -> Result<&mut Secret, Failure> {
        self.secrets.get_mut(name).ok_or_else(|| missing(name))
    }

    fn of_version(&self, call: &Call) -> Result<&Secret, Failure> {
        self.secret(grandparent(&call.name))
    }

    fn create(&mut self, call: &Call) -> Result<Value, Failure> {
        // https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create
        let id = call.query("secretId").unwrap_or("");
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > 255 || !id.chars().all(valid) {
            return Err(Failure::invalid("The secretId must be 1 to 255 letters, digits, hyphens and underscores."));
        }
        let name = format!("{}/{id}", call.name);
        let regional = call.id.contains(".locations.");
        let fields = call.json()?;
        for key in keys(&fields) {
            if !kms::is_name(key) {
                return Err(Failure::invalid(format!("Invalid Cloud KMS key name: {key}")));
            }
            if self.denied_keys.iter().any(|denied| denied == key) {
                let permission = "cloudkms.cryptoKeyVersions.useToEncrypt";
                let message = format!("Permission '{permission}' denied on resource '{key}' (or it may not exist).");
                return Err(Failure::denied(message));
            }
        }
        let secret = Secret::new(name.clone(), regional, fields, self.created)?;
        if self.secrets.contains_key(&name) {
            return Err(Failure::exists(format!("Secret [{name}] already exists.")));
        }
        self.created += 1;
        let answer = secret.json();
        self.secrets.insert(name, secret);
        Ok(answer)
    }

    fn list(&self, call: &Call) -> Result<Value, Failure> {
        // Newest first, 25 000 at most: ListSecretsRequest and ListSecretsResponse in
        // https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/list
        let filter = Filter::parse(call.query("filter").unwrap_or(""))?;
        let start = format!("{}/", call.name);
        let mut secrets: Vec<&Secret> = self
            .secrets
            .iter()
            .filter(|(name, _)| name.strip_prefix(&start).is_some_and(|rest| !rest.contains('/')))
            .map(|(_, secret)| secret)
            .filter(|secret| filter.takes(&secret.json()))
            .collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.order()));
        let total = if call.query("filter").is_some() { 0 } else { secrets.len() };
        let all = secrets.into_iter().map(Secret::json).collect();
        let (items, next) = page(all, call.number("pageSize")?, 25_000, call.query("pageToken"))?;
        let mut answer = listing("secrets", items, next);
        if total > 0 {
            answer["totalSize"] = json!(total);
        }
        Ok(answer)
    }

    fn delete(&mut self, call: &Call) -> Result<Value, Failure> {
        // At once and for good: https://cloud.google.com/secret-manager/docs/delete-secret
        self.secret(&call.name)?.check_etag(call.query("etag"))?;
        self.secrets.remove(&call.name);
        Ok(json!({}))
    }
}

/// <https://cloud.google.com/secret-manager/docs/etags>: a request with an etag that is not the
/// current one fails with FAILED_PRECONDITION and 400.
fn check_etag(current: &str, given: Option<&str>) -> Result<(), Failure> {
    match given {
        Some(etag) if !etag.is_empty() && etag != current => {
            Err(Failure::precondition("The etag provided in the request does not match the resource's current etag."))
        }
        _ => Ok(()),
    }
}

/// A new etag; its quotes are part of it. <https://google.aip.dev/154>
fn new_etag() -> String {
    format!("\"{:x}\"", fastrand::u64(..) >> 8)
}

fn missing(name: &str) -> Failure {
    Failure::not_found(format!("Secret [{name}] not found."))
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The keys of a secret to be made.
///
/// <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets#CustomerManagedEncryption>
fn keys(fields: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let replication = fields.get("replication").unwrap_or(&Value::Null);
    let replicas = replication["userManaged"]["replicas"].as_array().into_iter().flatten();
    let places = replicas.chain([&replication["automatic"]]);
    let regional = fields.get("customerManagedEncryption");
    places
        .map(|place| &place["customerManagedEncryption"])
        .chain(regional)
        .filter_map(|encryption| encryption["kmsKeyName"].as_str())
}

/// The secret of a version's name.
fn grandparent(name: &str) -> &str {
    name.rsplitn(3, '/').nth(2).unwrap_or("")
}
