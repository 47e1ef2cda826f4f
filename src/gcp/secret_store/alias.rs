use super::api::{self, Api};
use crate::{Error, ErrorKind, Result, SecretAlias, SecretName, SecretVersionId};

const OPERATION: &str = "secret_store.set_alias";
/// How often the aliases are read again because somebody else changed the secret.
const ROUNDS: u32 = 8;

pub(super) async fn set(
    api: &Api,
    name: &SecretName,
    alias: &SecretAlias,
    version: Option<&SecretVersionId>,
) -> Result<()> {
    let target = match version {
        Some(id) => {
            let number = api::parse(id).ok_or_else(|| api::no_version(OPERATION, name, id))?;
            api.version(OPERATION, name, &number.to_string()).await?;
            Some(i64::try_from(number).map_err(|_| api::no_version(OPERATION, name, id))?)
        }
        None => None,
    };
    for _ in 0..ROUNDS {
        let mut secret = api.secret(OPERATION, name).await?;
        if secret.version_aliases.get(alias.as_str()).copied() == target {
            return Ok(());
        }
        match target {
            Some(number) => secret.version_aliases.insert(alias.to_string(), number),
            None => secret.version_aliases.remove(alias.as_str()),
        };
        match api.update(OPERATION, name, secret, &["version_aliases"]).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            updated => return updated,
        }
    }
    Err(Error::new(ErrorKind::Conflict, OPERATION, name, "other writers kept changing the secret"))
}
