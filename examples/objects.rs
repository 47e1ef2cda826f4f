//! Writes, reads, lists and copies objects, and swaps one safely: `CLOUD_PROVIDER=local cargo run --example objects`.
#![allow(clippy::print_stdout, reason = "it is a program")]

use anycloud::object_store::CopyOptions;
use anycloud::{Cloud, ErrorKind, ObjectKey, ObjectStoreExt as _, PutMode, PutOptions, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let cloud = Cloud::from_env()?;
    let objects = cloud.objects();

    let key = ObjectKey::new("example/weeks.json")?;
    let put = objects.put_json(&key, &[1, 2, 3]).await?;
    println!("{} holds {:?}", objects.uri(&key), objects.get_json::<Vec<u8>>(&key).await?);

    // Replaces exactly the version that was read; a second writer would be told.
    let swap = PutOptions { mode: PutMode::Replace(put.version), ..PutOptions::default() };
    objects.put(&key, "[4]".into(), swap.clone()).await?;
    let late = objects.put(&key, "[5]".into(), swap).await.map_err(|error| error.kind());
    assert_eq!(late, Err(ErrorKind::PreconditionFailed));

    objects.copy(&key, &ObjectKey::new("example/copy.json")?, CopyOptions::default()).await?;
    for object in objects.list_all("example/").await? {
        println!("{} has {} bytes", object.key, object.size);
    }
    println!("{} objects deleted", objects.delete_prefix("example/").await?);
    Ok(())
}
