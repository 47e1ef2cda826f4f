use bytes::Bytes;
use futures_util::future::join_all;

use super::super::{Case, cases, kind};
use super::Fixture;
use crate::object_store::{CopyOptions, DeleteOptions, Version};
use crate::{ErrorKind, GetOptions, ObjectStoreExt as _, PutMode, PutOptions};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        create_only_put_refuses_to_overwrite,
        of_racing_creators_exactly_one_wins,
        a_put_replaces_only_the_version_that_it_names,
        a_replacing_put_of_what_is_not_there_fails,
        a_compare_and_swap_counter_loses_no_update,
        a_version_of_another_provider_is_refused,
        a_conditional_delete_deletes_only_the_version_that_it_names,
        a_copy_keeps_to_its_preconditions,
        a_conditional_read_keeps_to_its_conditions,
        a_pinned_version_never_yields_another,
    ]
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

fn replace(version: &Version) -> PutOptions {
    PutOptions { mode: PutMode::Replace(version.clone()), ..PutOptions::default() }
}

async fn create_only_put_refuses_to_overwrite(fixture: Fixture) {
    let key = fixture.key("a");
    fixture.store.put(&key, body("one"), create()).await.unwrap();
    assert_eq!(kind(fixture.store.put(&key, body("two"), create()).await), ErrorKind::AlreadyExists);
    assert_eq!(fixture.store.get_bytes(&key).await.unwrap(), "one");
    fixture.store.delete(&key, DeleteOptions::default()).await.unwrap();
    fixture.store.put(&key, body("three"), create()).await.unwrap();
}

async fn of_racing_creators_exactly_one_wins(fixture: Fixture) {
    let key = fixture.key("a");
    let bodies: Vec<_> = (0..12).map(|number| body(&format!("writer {number}"))).collect();
    let results = join_all(bodies.iter().map(|body| fixture.store.put(&key, body.clone(), create()))).await;
    let winners: Vec<_> = results.iter().zip(&bodies).filter(|(result, _)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict), "{error}");
    }
    assert_eq!(fixture.store.get_bytes(&key).await.unwrap(), winners[0].1);
}

async fn a_put_replaces_only_the_version_that_it_names(fixture: Fixture) {
    let key = fixture.key("a");
    let one = fixture.put("a", "one").await.version;
    let two = fixture.store.put(&key, body("two"), replace(&one)).await.unwrap().version;
    assert_ne!(one, two);
    let stale = fixture.store.put(&key, body("three"), replace(&one)).await;
    assert_eq!(kind(stale), ErrorKind::PreconditionFailed);
    assert_eq!(fixture.store.get_bytes(&key).await.unwrap(), "two");
}

async fn a_replacing_put_of_what_is_not_there_fails(fixture: Fixture) {
    let version = fixture.put("a", "one").await.version;
    fixture.store.delete(&fixture.key("a"), DeleteOptions::default()).await.unwrap();
    let failed = fixture.store.put(&fixture.key("a"), body("two"), replace(&version)).await;
    assert_eq!(kind(failed), ErrorKind::PreconditionFailed);
    assert!(!fixture.store.exists(&fixture.key("a")).await.unwrap());
}

async fn a_compare_and_swap_counter_loses_no_update(fixture: Fixture) {
    const WRITERS: usize = 4;
    const EACH: usize = 4;
    fixture.put("counter", "0").await;
    let key = fixture.key("counter");
    let count = async || {
        let mut done = 0;
        for _ in 0..2_000 {
            let read = fixture.store.get(&key, GetOptions::default()).await.unwrap();
            let version = read.meta.version.clone();
            let value: u32 = std::str::from_utf8(&read.bytes().await.unwrap()).unwrap().parse().unwrap();
            match fixture.store.put(&key, body(&(value + 1).to_string()), replace(&version)).await {
                Ok(_) => done += 1,
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Conflict | ErrorKind::Throttled),
                    "{error}"
                ),
            }
            if done == EACH {
                return;
            }
        }
        panic!("a writer got through only {done} times");
    };
    join_all((0..WRITERS).map(|_| count())).await;
    assert_eq!(fixture.store.get_text(&key).await.unwrap(), (WRITERS * EACH).to_string());
}

async fn a_version_of_another_provider_is_refused(fixture: Fixture) {
    let foreign = Version::new("elsewhere", "1");
    fixture.put("a", "x").await;
    let put = fixture.store.put(&fixture.key("a"), body("y"), replace(&foreign)).await;
    assert_eq!(kind(put), ErrorKind::InvalidInput);
    let options = GetOptions { if_match: Some(foreign), ..GetOptions::default() };
    assert_eq!(kind(fixture.store.get(&fixture.key("a"), options).await), ErrorKind::InvalidInput);
}

async fn a_conditional_delete_deletes_only_the_version_that_it_names(fixture: Fixture) {
    let key = fixture.key("a");
    let one = fixture.put("a", "one").await.version;
    let two = fixture.put("a", "two").await.version;
    if !fixture.store.capabilities().conditional_delete {
        let refused = fixture.store.delete(&key, DeleteOptions { if_match: Some(one) }).await;
        assert_eq!(kind(refused), ErrorKind::Unsupported);
        return;
    }
    let stale = fixture.store.delete(&key, DeleteOptions { if_match: Some(one) }).await;
    assert_eq!(kind(stale), ErrorKind::PreconditionFailed);
    assert_eq!(fixture.store.get_bytes(&key).await.unwrap(), "two");
    fixture.store.delete(&key, DeleteOptions { if_match: Some(two.clone()) }).await.unwrap();
    assert!(!fixture.store.exists(&key).await.unwrap());
    let gone = fixture.store.delete(&key, DeleteOptions { if_match: Some(two) }).await;
    assert_eq!(kind(gone), ErrorKind::PreconditionFailed);
}

async fn a_copy_keeps_to_its_preconditions(fixture: Fixture) {
    let (from, to) = (fixture.key("from"), fixture.key("to"));
    let old = fixture.put("from", "one").await.version;
    let current = fixture.put("from", "two").await.version;
    let stale = CopyOptions { source_version: Some(old), ..CopyOptions::default() };
    assert_eq!(kind(fixture.store.copy(&from, &to, stale).await), ErrorKind::PreconditionFailed);
    let create = CopyOptions { mode: PutMode::Create, source_version: Some(current), ..CopyOptions::default() };
    let first = fixture.store.copy(&from, &to, create.clone()).await.unwrap();
    assert_eq!(kind(fixture.store.copy(&from, &to, create).await), ErrorKind::AlreadyExists);
    let swap = CopyOptions { mode: PutMode::Replace(first.version.clone()), ..CopyOptions::default() };
    fixture.put("from", "three").await;
    fixture.store.copy(&from, &to, swap.clone()).await.unwrap();
    assert_eq!(kind(fixture.store.copy(&from, &to, swap).await), ErrorKind::PreconditionFailed);
    assert_eq!(fixture.store.get_bytes(&to).await.unwrap(), "three");
}

async fn a_conditional_read_keeps_to_its_conditions(fixture: Fixture) {
    let key = fixture.key("a");
    let old = fixture.put("a", "one").await.version;
    let current = fixture.put("a", "two").await.version;
    let unless = |version: &Version| GetOptions { if_none_match: Some(version.clone()), ..GetOptions::default() };
    let only_if = |version: &Version| GetOptions { if_match: Some(version.clone()), ..GetOptions::default() };
    assert_eq!(kind(fixture.store.get(&key, unless(&current)).await), ErrorKind::NotModified);
    assert_eq!(kind(fixture.store.get(&key, only_if(&old)).await), ErrorKind::PreconditionFailed);
    for options in [unless(&old), only_if(&current)] {
        assert_eq!(fixture.store.get(&key, options).await.unwrap().bytes().await.unwrap(), "two");
    }
}

async fn a_pinned_version_never_yields_another(fixture: Fixture) {
    let key = fixture.key("a");
    let old = fixture.put("a", "one").await.version;
    let pinned = GetOptions { version: Some(old), ..GetOptions::default() };
    assert_eq!(fixture.store.get(&key, pinned.clone()).await.unwrap().bytes().await.unwrap(), "one");
    fixture.put("a", "two").await;
    match fixture.store.get(&key, pinned).await {
        Ok(got) => {
            assert_ne!(fixture.store.capabilities().past_versions, Some(false));
            assert_eq!(got.bytes().await.unwrap(), "one");
        }
        Err(error) => {
            assert_ne!(fixture.store.capabilities().past_versions, Some(true));
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
}
