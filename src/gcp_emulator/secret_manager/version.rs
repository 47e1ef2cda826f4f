//! One version of a secret.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::failure::Failure;
use super::super::wire::{now, without_defaults};
use super::{PAYLOAD_LIMIT, check_etag, new_etag};

/// <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions#State>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Enabled,
    Disabled,
    Destroyed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

/// A version. Its payload is no part of its `Debug` form.
pub(super) struct Version {
    number: u64,
    state: State,
    payload: Zeroizing<Vec<u8>>,
    checked: bool,
    created: String,
    destroyed: Option<String>,
    etag: String,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Version").field("number", &self.number).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Version {
    /// <https://cloud.google.com/secret-manager/docs/reference/rest/v1/SecretPayload>
    pub(super) fn new(number: u64, payload: Option<&Value>) -> Result<Self, Failure> {
        let payload =
            payload.and_then(Value::as_object).ok_or_else(|| Failure::invalid("The payload must be specified."))?;
        let text = payload.get("data").and_then(Value::as_str).unwrap_or("");
        let data = Zeroizing::new(
            BASE64_STANDARD
                .decode(text)
                .or_else(|_| BASE64_URL_SAFE.decode(text))
                .map_err(|_| Failure::invalid("The payload's data is not base64."))?,
        );
        if data.is_empty() {
            return Err(Failure::invalid("Secret Payload cannot be empty."));
        }
        if data.len() > PAYLOAD_LIMIT {
            return Err(Failure::invalid("The secret payload is larger than the maximum allowed size of 64KiB."));
        }
        let crc = payload.get("dataCrc32c").filter(|value| !value.is_null());
        // https://cloud.google.com/secret-manager/docs/data-integrity
        if let Some(crc) = crc {
            let given = crc.as_u64().or_else(|| crc.as_str()?.parse().ok());
            if given != Some(u64::from(crc32c::crc32c(&data))) {
                return Err(Failure::invalid("The checksum of the payload does not match the payload received."));
            }
        }
        Ok(Self {
            number,
            state: State::Enabled,
            payload: data,
            checked: crc.is_some(),
            created: now(),
            destroyed: None,
            etag: new_etag(),
        })
    }

    fn name(&self, secret: &str) -> String {
        format!("{secret}/versions/{}", self.number)
    }

    pub(super) fn check_etag(&self, given: Option<&str>) -> Result<(), Failure> {
        check_etag(&self.etag, given)
    }

    pub(super) fn json(&self, secret: &str, replication: Option<&Value>) -> Value {
        let status = replication.map(|policy| match policy["userManaged"]["replicas"].as_array() {
            Some(replicas) => {
                let places: Vec<Value> = replicas.iter().map(|one| json!({"location": one["location"]})).collect();
                json!({"userManaged": {"replicas": places}})
            }
            None => json!({"automatic": {}}),
        });
        without_defaults(json!({
            "name": self.name(secret),
            "createTime": self.created,
            "destroyTime": self.destroyed,
            "state": self.state.name(),
            "etag": self.etag,
            "replicationStatus": status,
            "clientSpecifiedPayloadChecksum": self.checked,
        }))
    }

    /// The payload of an enabled version.
    ///
    /// Any other state is FAILED_PRECONDITION:
    /// <https://cloud.google.com/secret-manager/docs/disable-secret-version>,
    /// <https://github.com/external-secrets/external-secrets/issues/4042>.
    pub(super) fn readable(&self, secret: &str) -> Result<&[u8], Failure> {
        if self.state != State::Enabled {
            return Err(Failure::precondition(format!(
                "Secret Version [{}] is in {} state.",
                self.name(secret),
                self.state.name(),
            )));
        }
        Ok(&self.payload)
    }

    pub(super) fn access(&self, secret: &str) -> Result<Value, Failure> {
        let payload = self.readable(secret)?;
        Ok(json!({
            "name": self.name(secret),
            "payload": {
                "data": BASE64_STANDARD.encode(payload),
                "dataCrc32c": crc32c::crc32c(payload).to_string(),
            },
        }))
    }

    /// Changes the state. A destroyed version stays destroyed
    /// (<https://cloud.google.com/secret-manager/docs/destroy-secret-version>); a change to the
    /// state that a version already has succeeds and changes its etag
    /// (<https://cloud.google.com/secret-manager/docs/etags>).
    pub(super) fn change(&mut self, state: State) -> Result<(), Failure> {
        if self.state == State::Destroyed && state != State::Destroyed {
            return Err(Failure::precondition("The secret version is in DESTROYED state."));
        }
        if state == State::Destroyed && self.state != State::Destroyed {
            self.payload = Zeroizing::default();
            self.destroyed = Some(now());
        }
        self.state = state;
        self.etag = new_etag();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_never_shown() {
        let version = Version::new(1, Some(&json!({"data": BASE64_STANDARD.encode("hunter2")}))).expect("a version");
        assert!(!format!("{version:?}").contains("hunter2"));
        assert!(!version.json("s", None).to_string().contains("hunter2"));
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let payload = json!({"data": BASE64_STANDARD.encode("a"), "dataCrc32c": "1"});
        assert!(Version::new(1, Some(&payload)).is_err());
    }

    #[test]
    fn sixty_four_kibibytes_fit_and_one_more_byte_does_not() {
        let payload = |length: usize| json!({"data": BASE64_STANDARD.encode(vec![7; length])});
        assert!(Version::new(1, Some(&payload(65_536))).is_ok());
        assert!(Version::new(1, Some(&payload(65_537))).is_err());
    }

    #[test]
    fn destruction_is_final() {
        let mut version = Version::new(1, Some(&json!({"data": "YQ=="}))).expect("a version");
        version.change(State::Destroyed).expect("destroyed");
        assert!(version.change(State::Enabled).is_err());
        assert!(version.readable("s").is_err());
    }
}
