use super::super::{Case, cases};
use super::Fixture;
use crate::object_store::DeleteOptions;
use crate::{ObjectKey, ObjectStoreExt as _};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![keys_are_exact, a_key_and_a_longer_one_below_it_coexist, the_longest_key_works,]
}

/// Names that file systems, URL parsers and clouds are known to bend.
const NAUGHTY: &[&str] = &[
    "a//b",
    "//",
    "/lead",
    "trail/",
    "a/./b",
    "a/../b",
    "./a",
    "../a",
    ".",
    "..",
    "%2F",
    "%2f",
    "%",
    "%%",
    "a+b",
    "a b",
    " lead",
    "trail ",
    "a&b=c?d#e",
    "ä",
    "a\u{308}",
    "☃",
    "\u{1f600}",
    "'\"<>`$;|*!()[]{}^~\\",
    "CON",
    "nul.txt",
    ".hidden",
    "a\tb",
    "a:b",
    "a@b",
    "a,b",
    "-",
    "~",
    "UPPER",
    "upper",
    "\u{fffd}",
    "\u{7f}",
];

async fn keys_are_exact(fixture: Fixture) {
    let mut keys: Vec<ObjectKey> = NAUGHTY.iter().map(|name| fixture.key(name)).collect();
    for key in &keys {
        fixture.store.put_text(key, key.as_str()).await.unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }
    for key in &keys {
        let text = fixture.store.get_text(key).await.unwrap_or_else(|error| panic!("{key:?}: {error}"));
        assert_eq!(text, key.as_str());
        assert!(fixture.store.exists(key).await.unwrap(), "{key:?}");
    }
    keys.sort();
    let listed = fixture.store.list_all(&fixture.prefix).await.unwrap();
    assert_eq!(listed.into_iter().map(|object| object.key).collect::<Vec<_>>(), keys);
    for key in &keys {
        fixture.store.delete(key, DeleteOptions::default()).await.unwrap();
        assert!(!fixture.store.exists(key).await.unwrap(), "{key:?}");
    }
    assert!(fixture.store.list_all(&fixture.prefix).await.unwrap().is_empty());
}

async fn a_key_and_a_longer_one_below_it_coexist(fixture: Fixture) {
    for name in ["a", "a/b", "a/b/c", "a/"] {
        fixture.store.put_text(&fixture.key(name), name).await.unwrap();
    }
    for name in ["a", "a/b", "a/b/c", "a/"] {
        assert_eq!(fixture.store.get_text(&fixture.key(name)).await.unwrap(), name);
    }
    fixture.store.delete(&fixture.key("a/b"), DeleteOptions::default()).await.unwrap();
    assert_eq!(fixture.store.get_text(&fixture.key("a/b/c")).await.unwrap(), "a/b/c");
    assert_eq!(fixture.store.list_all(&fixture.prefix).await.unwrap().len(), 3);
}

async fn the_longest_key_works(fixture: Fixture) {
    let room = crate::MAX_KEY_BYTES - fixture.prefix.len();
    let long = fixture.key(&"k".repeat(room));
    let deep = fixture.key(&"d/".repeat(room / 2));
    for key in [&long, &deep] {
        fixture.store.put_text(key, "x").await.unwrap();
        assert_eq!(fixture.store.get_text(key).await.unwrap(), "x");
    }
    let listed = fixture.store.list_all(&fixture.prefix).await.unwrap();
    assert_eq!(listed.into_iter().map(|object| object.key).collect::<Vec<_>>(), [deep, long]);
}
