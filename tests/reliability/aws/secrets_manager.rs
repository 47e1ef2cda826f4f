//! As much of Secrets Manager as the operations need: versions, staging labels and request tokens, in memory.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::wire::{Request, answer};

#[derive(Default)]
struct Version {
    value: Value,
    binary: Value,
    stages: Vec<String>,
    created: f64,
}

#[derive(Default)]
struct Secret {
    created: f64,
    /// When it is to be deleted, if it is.
    deleted: Option<f64>,
    versions: BTreeMap<String, Version>,
}

#[derive(Default)]
pub(super) struct SecretsManager {
    secrets: BTreeMap<String, Secret>,
    clock: u32,
}

type Answer = Result<Value, (&'static str, &'static str)>;

fn text<'a>(asked: &'a Value, name: &str) -> Option<&'a str> {
    asked.get(name).and_then(Value::as_str)
}

const MISSING: (&str, &str) = ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
const DELETED: (&str, &str) = ("InvalidRequestException", "the secret was marked for deletion");
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

impl SecretsManager {
    pub(super) fn serve(&mut self, target: &str, request: &Request) -> Vec<u8> {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let action = target.rsplit('.').next().unwrap_or_default();
        let (status, told) = match self.act(action, &asked) {
            Ok(told) => (200, told),
            Err((code, message)) => (400, json!({"__type": code, "message": message, "Message": message})),
        };
        answer(status, "content-type: application/x-amz-json-1.1\r\n", told.to_string().as_bytes())
    }

    fn act(&mut self, action: &str, asked: &Value) -> Answer {
        let name = text(asked, "SecretId").or_else(|| text(asked, "Name")).unwrap_or_default().to_owned();
        match action {
            "CreateSecret" => self.create(&name, asked),
            "PutSecretValue" => self.put(&name, asked),
            "GetSecretValue" => self.get(&name, asked),
            "DescribeSecret" => self.describe(&name),
            "ListSecretVersionIds" => self.list_versions(&name),
            "ListSecrets" => Ok(self.list(asked)),
            "UpdateSecretVersionStage" => self.move_stage(&name, asked),
            "DeleteSecret" => self.delete(&name, asked),
            "RestoreSecret" => {
                self.secrets.get_mut(&name).ok_or(MISSING)?.deleted = None;
                Ok(json!({"Name": name}))
            }
            _ => Err(("InvalidRequestException", "there is no such action here")),
        }
    }

    /// One second later than before, so that what came later is seen to.
    fn now(&mut self) -> f64 {
        self.clock += 1;
        1_600_000_000.0 + f64::from(self.clock)
    }

    /// Adds a version; the same token with the same value is the same version.
    fn add(&mut self, name: &str, asked: &Value, stages: Vec<String>) -> Answer {
        let now = self.now();
        let secret = self.secrets.get_mut(name).ok_or(MISSING)?;
        if secret.deleted.is_some() {
            return Err(DELETED);
        }
        let id = text(asked, "ClientRequestToken").unwrap_or_default().to_owned();
        let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
        let (value, binary) = (field("SecretString"), field("SecretBinary"));
        match secret.versions.get(&id) {
            Some(there) if there.value == value && there.binary == binary => {}
            Some(_) => return Err(("ResourceExistsException", "this token has another value")),
            None => {
                secret.versions.insert(id.clone(), Version { value, binary, stages: Vec::new(), created: now });
                stages.iter().for_each(|stage| secret.point(stage, Some(&id)));
            }
        }
        Ok(json!({"Name": name, "VersionId": id, "ARN": format!("arn:aws:x:{name}")}))
    }

    fn create(&mut self, name: &str, asked: &Value) -> Answer {
        let token = text(asked, "ClientRequestToken").unwrap_or_default();
        if self.secrets.get(name).is_some_and(|secret| !secret.versions.contains_key(token)) {
            return Err(("ResourceExistsException", "A resource with the ID you requested already exists."));
        }
        let created = self.now();
        self.secrets.entry(name.to_owned()).or_insert(Secret { created, deleted: None, versions: BTreeMap::new() });
        self.add(name, asked, vec![CURRENT.to_owned()])
    }

    fn put(&mut self, name: &str, asked: &Value) -> Answer {
        let stages = asked.get("VersionStages").and_then(Value::as_array);
        let stages = stages.map(|stages| stages.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        self.add(name, asked, stages.unwrap_or_else(|| vec![CURRENT.to_owned()]))
    }

    /// At once where that is asked for, and else later: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html>
    fn delete(&mut self, name: &str, asked: &Value) -> Answer {
        let now = self.now();
        let secret = self.secrets.get_mut(name).ok_or(MISSING)?;
        if asked["ForceDeleteWithoutRecovery"] == true {
            self.secrets.remove(name);
        } else if secret.deleted.replace(now).is_some() {
            return Err(DELETED);
        }
        Ok(json!({"Name": name, "DeletionDate": now}))
    }

    fn get(&self, name: &str, asked: &Value) -> Answer {
        let secret = self.secrets.get(name).ok_or(MISSING)?;
        if secret.deleted.is_some() {
            return Err(DELETED);
        }
        let stage = text(asked, "VersionStage").unwrap_or(CURRENT);
        let is = |id: &str, version: &Version| match text(asked, "VersionId") {
            Some(wanted) => wanted == id,
            None => version.stages.iter().any(|held| held == stage),
        };
        let (id, version) = secret.versions.iter().find(|(id, version)| is(id, version)).ok_or(MISSING)?;
        let mut told = json!({"Name": name, "VersionId": id, "CreatedDate": version.created});
        let form = if version.value.is_null() { "SecretBinary" } else { "SecretString" };
        told[form] = if version.value.is_null() { version.binary.clone() } else { version.value.clone() };
        Ok(told)
    }

    fn describe(&self, name: &str) -> Answer {
        let secret = self.secrets.get(name).ok_or(MISSING)?;
        let stages = |version: &Version| Value::from(version.stages.clone());
        let stages: serde_json::Map<_, _> =
            secret.versions.iter().map(|(id, version)| (id.clone(), stages(version))).collect();
        let mut told = json!({"Name": name, "CreatedDate": secret.created, "VersionIdsToStages": stages});
        if let Some(deleted) = secret.deleted {
            told["DeletedDate"] = deleted.into();
        }
        Ok(told)
    }

    fn list_versions(&self, name: &str) -> Answer {
        let secret = self.secrets.get(name).ok_or(MISSING)?;
        let versions = secret.versions.iter().map(
            |(id, version)| json!({"VersionId": id, "VersionStages": version.stages, "CreatedDate": version.created}),
        );
        Ok(json!({"Name": name, "Versions": versions.collect::<Vec<_>>()}))
    }

    fn list(&self, asked: &Value) -> Value {
        let prefix = asked["Filters"][0]["Values"][0].as_str().unwrap_or_default();
        let names = self.secrets.iter().filter(|(name, _)| name.starts_with(prefix));
        let told = names.map(|(name, secret)| json!({"Name": name, "CreatedDate": secret.created}));
        json!({"SecretList": told.collect::<Vec<_>>()})
    }

    fn move_stage(&mut self, name: &str, asked: &Value) -> Answer {
        let secret = self.secrets.get_mut(name).ok_or(MISSING)?;
        let stage = text(asked, "VersionStage").unwrap_or_default();
        let holds = |version: &&Version| version.stages.iter().any(|held| held == stage);
        let holder = secret.versions.iter().find(|(_, version)| holds(version)).map(|(id, _)| id.as_str());
        let (to, from) = (text(asked, "MoveToVersionId"), text(asked, "RemoveFromVersionId"));
        if holder != from && holder != to {
            return Err(("InvalidParameterException", "the label is on another version"));
        }
        if holder != from && from.is_some() {
            return Err(("InvalidParameterException", "the label is not on that version"));
        }
        if to.is_some_and(|to| !secret.versions.contains_key(to)) {
            return Err(("ResourceNotFoundException", "there is no such version"));
        }
        secret.point(stage, to);
        Ok(json!({"Name": name}))
    }
}

impl Secret {
    fn point(&mut self, stage: &str, to: Option<&str>) {
        let holder = self.versions.iter().find(|(_, version)| version.stages.iter().any(|held| held == stage));
        let holder = holder.map(|(id, _)| id.clone());
        self.versions.values_mut().for_each(|version| version.stages.retain(|held| held != stage));
        if let Some(version) = to.and_then(|to| self.versions.get_mut(to)) {
            version.stages.push(stage.to_owned());
        }
        if stage == CURRENT && holder.as_deref() != to {
            self.point(PREVIOUS, holder.as_deref());
        }
    }
}
