use std::time::Duration;

use super::super::naughty::TEXTS;
use super::super::{Case, cases};
use super::Fixture;
use crate::object_store::{ContentHeaders, HeadOptions, Metadata, SignOptions};
use crate::{ErrorKind, ObjectKey, ObjectStoreExt as _, PutOptions};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        metadata_of_any_text_comes_back_or_is_refused,
        headers_of_any_text_come_back_or_are_refused,
        whole_keys_of_any_text_are_exact_or_refused
    ]
}

/// Puts an object that must carry these options exactly, or not come into being.
async fn judge(fixture: &Fixture, name: &str, options: PutOptions, what: &str) {
    let key = fixture.key(name);
    match fixture.store.put(&key, "x".into(), options.clone()).await {
        Ok(_) => {
            let meta = fixture.store.head(&key, HeadOptions::default()).await.unwrap();
            assert_eq!((meta.headers, meta.metadata), (options.headers, options.metadata), "{what:?}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what:?}: {error}");
            assert!(!fixture.store.exists(&key).await.unwrap(), "{what:?}");
        }
    }
}

async fn metadata_of_any_text_comes_back_or_is_refused(fixture: Fixture) {
    for (number, text) in TEXTS.iter().enumerate() {
        let mut metadata = Metadata::new();
        match metadata.insert("k", *text) {
            Ok(()) => {
                let options =
                    PutOptions { metadata, headers: ContentHeaders::of_type("text/plain"), ..PutOptions::default() };
                judge(&fixture, &number.to_string(), options, text).await;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}"),
        }
    }
}

async fn headers_of_any_text_come_back_or_are_refused(fixture: Fixture) {
    for (number, text) in TEXTS.iter().enumerate() {
        let headers =
            ContentHeaders { content_disposition: Some((*text).to_owned()), ..ContentHeaders::of_type("text/plain") };
        judge(&fixture, &number.to_string(), PutOptions { headers, ..PutOptions::default() }, text).await;
    }
}

async fn whole_keys_of_any_text_are_exact_or_refused(fixture: Fixture) {
    let canary = fixture.key("canary");
    fixture.store.put_text(&canary, "untouched").await.unwrap();
    for text in TEXTS {
        // Not below a prefix, but with one that no other run uses at its end.
        let text = format!("{text}{}", fixture.prefix.trim_end_matches('/'));
        let key = match ObjectKey::new(text.as_str()) {
            Ok(key) => key,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
                continue;
            }
        };
        fixture.store.put_text(&key, text.as_str()).await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(fixture.store.get_text(&key).await.unwrap(), text);
        let listed = fixture.store.list_all(&text).await.unwrap();
        assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), [text.as_str()]);
        // Without a base or a key to sign with this is refused, but never with a panic.
        let _ = fixture.store.sign(&key, SignOptions::get(Duration::from_secs(60))).await;
        fixture.store.delete(&key, Default::default()).await.unwrap();
        assert!(!fixture.store.exists(&key).await.unwrap(), "{text:?}");
    }
    assert_eq!(fixture.store.get_text(&canary).await.unwrap(), "untouched");
}
