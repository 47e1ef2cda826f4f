//! One secret with all its versions, as it is kept in a file, and what each operation makes of it. Pure.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::Refusal;
use crate::object_store::Crc32c;
use crate::secret_store::{SecretMeta, SecretState, SecretVersion, SecretVersionState};
use crate::{ErrorKind, SecretAlias, SecretName, SecretValue, SecretVersionId, VersionSelector, WriteId};

/// What can be known of a secret without its values.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    pub(super) name: SecretName,
    created_ms: u64,
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delete_at_ms: Option<u64>,
}

/// A secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) about: About,
    current: Option<u64>,
    previous: Option<u64>,
    aliases: BTreeMap<SecretAlias, u64>,
    /// By rising id.
    versions: Vec<Version>,
}

/// The part of a [`Record`] that listings read.
#[derive(Deserialize)]
pub(super) struct Heading {
    pub(super) about: About,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    id: u64,
    state: State,
    /// Was never current.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    staged: bool,
    created_ms: u64,
    write_id: WriteId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Enabled,
    Disabled,
    Destroyed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    crc32c: u32,
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    value: SecretValue,
}

fn to_base64<S: Serializer>(value: &SecretValue, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Zeroizing::new(BASE64.encode(value.expose())))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretValue, D::Error> {
    let text = Zeroizing::<String>::deserialize(deserializer)?;
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| serde::de::Error::custom("not base64"))?;
    Ok(SecretValue::new(bytes))
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn version_id(id: u64) -> Result<SecretVersionId, Refusal> {
    SecretVersionId::new(id.to_string()).map_err(|error| Refusal(error.kind(), error.message().to_owned()))
}

fn refused<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(kind, message.into()))
}

impl About {
    pub(super) fn is_gone(&self, now: SystemTime) -> bool {
        self.delete_at_ms.is_some_and(|at| at <= milliseconds(now))
    }

    pub(super) fn meta(self) -> SecretMeta {
        let state = match self.delete_at_ms {
            None => SecretState::Active,
            Some(at) => SecretState::PendingDeletion { until: Some(time(at)) },
        };
        SecretMeta { name: self.name, state, labels: self.labels, created: Some(time(self.created_ms)) }
    }

    /// Refuses a secret that is to be deleted.
    pub(super) fn check_active(&self) -> Result<(), Refusal> {
        let Some(at) = self.delete_at_ms else { return Ok(()) };
        let until = jiff::Timestamp::try_from(time(at)).map(|at| at.to_string()).unwrap_or_default();
        refused(ErrorKind::NotFound, format!("the secret is to be deleted, and can be restored until {until}"))
    }
}

impl Record {
    /// A secret without any version: to be given one before it is kept.
    pub(super) fn new(name: SecretName, labels: BTreeMap<String, String>, now: SystemTime) -> Self {
        Self {
            about: About { name, created_ms: milliseconds(now), labels, delete_at_ms: None },
            current: None,
            previous: None,
            aliases: BTreeMap::new(),
            versions: Vec::new(),
        }
    }

    /// The record as text, in a buffer of exactly the right size, so that no copy of a value stays behind.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        let mut size = Counter(0);
        serde_json::to_writer(&mut size, self)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
        serde_json::to_writer(&mut *bytes, self)?;
        Ok(bytes)
    }

    /// The version that a write of this id made, if it was of this value.
    pub(super) fn written(&self, write_id: &WriteId, value: &SecretValue) -> Result<Option<SecretVersionId>, Refusal> {
        let Some(version) = self.versions.iter().find(|version| version.write_id == *write_id) else { return Ok(None) };
        if version.content.as_ref().is_some_and(|content| !content.value.same_as(value)) {
            return refused(
                ErrorKind::InvalidInput,
                format!("the write id {write_id} has made version {} of another value; ids are not reused", version.id),
            );
        }
        version_id(version.id).map(Some)
    }

    /// The current version if it can be read and has this value.
    pub(super) fn unchanged(&self, value: &SecretValue) -> Result<Option<SecretVersionId>, Refusal> {
        let current = self.versions.iter().find(|version| Some(version.id) == self.current);
        let same = current
            .filter(|version| version.state == State::Enabled)
            .filter(|version| version.content.as_ref().is_some_and(|content| content.value.same_as(value)));
        same.map(|version| version_id(version.id)).transpose()
    }

    /// Refuses unless this version is the current one.
    pub(super) fn check_current(&self, expected: &SecretVersionId) -> Result<(), Refusal> {
        match self.current {
            Some(current) if current.to_string() == expected.as_str() => Ok(()),
            Some(current) => {
                refused(ErrorKind::PreconditionFailed, format!("version {current} is current, not {expected}"))
            }
            None => refused(ErrorKind::PreconditionFailed, format!("no version is current, not even {expected}")),
        }
    }

    /// Adds a version.
    pub(super) fn add(
        &mut self,
        value: SecretValue,
        write_id: WriteId,
        staged: bool,
        now: SystemTime,
    ) -> Result<SecretVersionId, Refusal> {
        let id = self.versions.last().map_or(1, |version| version.id + 1);
        let content = Some(Content { crc32c: Crc32c::of(value.expose()).0, value });
        let created_ms = milliseconds(now);
        self.versions.push(Version { id, state: State::Enabled, staged, created_ms, write_id, content });
        if !staged {
            self.make_current(id);
        }
        version_id(id)
    }

    /// The value that a selector means.
    pub(super) fn select(
        &self,
        selector: &VersionSelector,
    ) -> Result<(SecretVersionId, SecretValue, SystemTime), Refusal> {
        let missing = |what: String| Refusal(ErrorKind::NotFound, what);
        let by_number = |id: Option<u64>| self.versions.iter().find(|version| Some(version.id) == id);
        let version = match selector {
            VersionSelector::Latest => {
                by_number(self.current).ok_or_else(|| missing("no version of the secret is current".into()))?
            }
            VersionSelector::LatestEnabled => by_number(self.current)
                .into_iter()
                .chain(self.versions.iter().rev().filter(|version| !version.staged))
                .find(|version| version.state == State::Enabled)
                .ok_or_else(|| Refusal(ErrorKind::VersionDisabled, "no version of the secret is enabled".into()))?,
            VersionSelector::Previous => {
                by_number(self.previous).ok_or_else(|| missing("no other version was current before".into()))?
            }
            VersionSelector::Id(id) => &self.versions[self.index(id)?],
            VersionSelector::Alias(alias) => by_number(self.aliases.get(alias).copied())
                .ok_or_else(|| missing(format!("the secret has no alias `{alias}`")))?,
        };
        let state = match (version.state, &version.content) {
            (State::Enabled, Some(content)) => {
                if Crc32c::of(content.value.expose()).0 != content.crc32c {
                    let message = format!("the value of version {} does not match its checksum", version.id);
                    return refused(ErrorKind::Corrupt, message);
                }
                return Ok((version_id(version.id)?, content.value.clone(), time(version.created_ms)));
            }
            (State::Enabled, None) => {
                return refused(ErrorKind::Corrupt, format!("version {} has lost its value", version.id));
            }
            (State::Disabled, _) => "disabled",
            (State::Destroyed, _) => "destroyed",
        };
        refused(ErrorKind::VersionDisabled, format!("version {} is {state}", version.id))
    }

    /// The versions, newest first.
    pub(super) fn versions(&self) -> Result<Vec<SecretVersion>, Refusal> {
        let listed = self.versions.iter().rev().map(|version| {
            let aliases = self.aliases.iter().filter(|(_, id)| **id == version.id);
            Ok(SecretVersion {
                id: version_id(version.id)?,
                state: match version.state {
                    State::Enabled => SecretVersionState::Enabled,
                    State::Disabled => SecretVersionState::Disabled,
                    State::Destroyed => SecretVersionState::Destroyed,
                },
                current: Some(version.id) == self.current,
                aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
                created: Some(time(version.created_ms)),
            })
        });
        listed.collect()
    }

    /// Enables or disables a version.
    pub(super) fn set_enabled(&mut self, id: &SecretVersionId, enabled: bool) -> Result<(), Refusal> {
        let index = self.index(id)?;
        let version = &mut self.versions[index];
        if version.state == State::Destroyed {
            return refused(ErrorKind::VersionDisabled, format!("version {id} is destroyed"));
        }
        version.state = if enabled { State::Enabled } else { State::Disabled };
        Ok(())
    }

    /// Forgets the value of a version.
    pub(super) fn destroy(&mut self, id: &SecretVersionId) -> Result<(), Refusal> {
        let index = self.index(id)?;
        self.versions[index].state = State::Destroyed;
        self.versions[index].content = None;
        Ok(())
    }

    /// Makes a version current.
    pub(super) fn promote(&mut self, id: &SecretVersionId) -> Result<SecretVersionId, Refusal> {
        let version = &self.versions[self.index(id)?];
        if version.state != State::Enabled {
            return refused(ErrorKind::VersionDisabled, format!("version {id} is not enabled"));
        }
        self.make_current(version.id);
        Ok(id.clone())
    }

    /// Points an alias to a version, or removes it.
    pub(super) fn set_alias(&mut self, alias: &SecretAlias, id: Option<&SecretVersionId>) -> Result<(), Refusal> {
        match id {
            Some(id) => {
                let number = self.versions[self.index(id)?].id;
                self.aliases.insert(alias.clone(), number);
            }
            None => {
                self.aliases.remove(alias);
            }
        }
        Ok(())
    }

    /// Sets when the secret goes.
    pub(super) fn delete_at(&mut self, at: SystemTime) {
        self.about.delete_at_ms = Some(milliseconds(at));
    }

    /// Takes a deletion back, and says whether there was one.
    pub(super) fn restore(&mut self) -> bool {
        self.about.delete_at_ms.take().is_some()
    }

    fn make_current(&mut self, id: u64) {
        if self.current == Some(id) {
            return;
        }
        self.previous = self.current.replace(id);
        for version in self.versions.iter_mut().filter(|version| version.id == id) {
            version.staged = false;
        }
    }

    fn index(&self, id: &SecretVersionId) -> Result<usize, Refusal> {
        self.versions
            .iter()
            .position(|version| version.id.to_string() == id.as_str())
            .ok_or_else(|| Refusal(ErrorKind::NotFound, format!("the secret has no version {id}")))
    }
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
