//! Keys of Cloud KMS: named on the wire as documented, and a clear error where one is denied.

use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
use anycloud::object_store::{CopyOptions, Crc32c};
use anycloud::secret_store::CreateSecretOptions;
use anycloud::{Cloud, Config, Error, ErrorKind, ObjectKey, PutOptions, SecretName, SecretValue};

use super::http::Http;
use super::rules::gcp;

const KEY: &str = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k";
const DEFAULT: &str = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/default";
const DENIED: &str = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/denied";

fn emulator() -> Emulator {
    Emulator::start(EmulatorConfig {
        discovery: std::env::var_os("ANYCLOUD_TEST_DISCOVERY").map(Into::into),
        buckets: vec!["b".into()],
        denied_kms_keys: vec![DENIED.into()],
        ..EmulatorConfig::default()
    })
    .expect("the emulator starts")
}

fn cloud(emulator: &Emulator, key: Option<&str>) -> Cloud {
    let mut settings = gcp(emulator.url());
    settings.extend(key.map(|key| ("GOOGLE_CLOUD_KMS_KEY", key.to_owned())));
    let lookup = |name: &str| settings.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
    Cloud::connect(Config::from_lookup(lookup).expect("the settings are complete")).expect("no network is needed")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a key")
}

fn with(key: &str) -> PutOptions {
    PutOptions { encryption_key: Some(key.into()), ..PutOptions::default() }
}

async fn upload(cloud: &Cloud, name: &str, options: PutOptions) -> Result<(), Error> {
    let mut upload = cloud.objects().start_upload(&key(name), options).await?;
    upload.put_part("hello".into()).await?;
    upload.finish(Crc32c::of(b"hello")).await.map(drop)
}

/// The key that the service says an object is encrypted with.
fn stored(emulator: &Emulator, name: &str) -> String {
    let answer = Http::new(emulator.url()).send("GET", &format!("/storage/v1/b/b/o/{name}"), &[], b"");
    answer.expect("an answer").ok()["kmsKeyName"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_key_of_the_call_and_else_of_the_settings_is_named_by_every_write() {
    let emulator = emulator();
    let version = |key: &str| format!("{key}/cryptoKeyVersions/1");
    for (setting, option, expected) in [
        (None, None, String::new()),
        (None, Some(KEY), version(KEY)),
        (Some(DEFAULT), None, version(DEFAULT)),
        (Some(DEFAULT), Some(KEY), version(KEY)),
    ] {
        let cloud = cloud(&emulator, setting);
        let options = || option.map_or_else(PutOptions::default, with);
        cloud.objects().put(&key("put"), "hello".into(), options()).await.expect("stored");
        assert_eq!(stored(&emulator, "put"), expected);
        upload(&cloud, "upload", options()).await.expect("stored");
        assert_eq!(stored(&emulator, "upload"), expected);
        cloud.objects().copy(&key("put"), &key("copy"), CopyOptions::default()).await.expect("copied");
        assert_eq!(stored(&emulator, "copy"), setting.map_or_else(String::new, version));
    }
    assert_eq!(emulator.violations(), Vec::<String>::new());
}

fn is_denied(error: &Error) {
    assert_eq!((error.kind(), error.status()), (ErrorKind::PermissionDenied, Some(403)), "{error}");
    assert!(error.message().contains("roles/cloudkms.cryptoKeyEncrypterDecrypter"), "{error}");
    assert!(!error.message().contains("storage.objects") && !error.message().contains("secretmanager."), "{error}");
}

#[tokio::test]
async fn a_denied_key_is_a_denial_that_names_the_role_and_a_malformed_one_an_invalid_input() {
    let emulator = emulator();
    let plain = cloud(&emulator, None);
    plain.objects().put(&key("source"), "hello".into(), PutOptions::default()).await.expect("stored");
    for (name, check) in
        [(DENIED, is_denied as fn(&Error)), ("k", |error| assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}"))]
    {
        check(&plain.objects().put(&key("a"), "x".into(), with(name)).await.expect_err("refused"));
        check(&upload(&plain, "a", with(name)).await.expect_err("refused"));
        let other = cloud(&emulator, Some(name));
        check(&other.objects().copy(&key("source"), &key("a"), CopyOptions::default()).await.expect_err("refused"));
        for locations in [Vec::new(), vec!["europe-west1".to_owned()]] {
            let options = CreateSecretOptions { encryption_key: Some(name.into()), locations, ..Default::default() };
            let secret = SecretName::new("s").expect("a name");
            check(&plain.secrets().create(&secret, SecretValue::from("v"), options).await.expect_err("refused"));
        }
    }
}

#[tokio::test]
async fn a_secrets_key_is_in_its_replication() {
    let emulator = emulator();
    let cloud = cloud(&emulator, None);
    for (name, locations, place) in [
        ("everywhere", Vec::new(), "/replication/automatic"),
        ("here", vec!["europe-west1".to_owned()], "/replication/userManaged/replicas/0"),
    ] {
        let options = CreateSecretOptions { encryption_key: Some(KEY.into()), locations, ..Default::default() };
        let secret = SecretName::new(name).expect("a name");
        cloud.secrets().create(&secret, SecretValue::from("v"), options).await.expect("created");
        let answer = Http::new(emulator.url()).send("GET", &format!("/v1/projects/p/secrets/{name}"), &[], b"");
        let told = answer.expect("an answer").ok();
        let found = told.pointer(&format!("{place}/customerManagedEncryption/kmsKeyName")).cloned();
        assert_eq!(found, Some(KEY.into()), "{told}");
    }
}
