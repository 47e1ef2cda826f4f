//! Keeps a secret in versions and reads one of its fields: `CLOUD_PROVIDER=local cargo run --example secrets`.
#![allow(clippy::print_stdout, reason = "it is a program")]

use anycloud::secret_store::DeleteSecret;
use anycloud::{Cloud, Result, SecretName, SecretStoreExt as _, VersionSelector};

#[tokio::main]
async fn main() -> Result<()> {
    let cloud = Cloud::from_env()?;
    let secrets = cloud.secrets();
    let name = SecretName::new("example-database")?;

    secrets.put_value(&name, r#"{"user": "mmm", "password": "first"}"#).await?;
    secrets.put_value(&name, r#"{"user": "mmm", "password": "second"}"#).await?;
    let password = secrets.get_field(&name, "password").await?;
    assert_eq!(password.expose(), b"second");

    let previous = secrets.get(&name, &VersionSelector::Previous).await?;
    println!("before version {} came {previous:?}", secrets.get_latest(&name).await?.version);

    secrets.delete(&name, DeleteSecret::Immediate).await
}
