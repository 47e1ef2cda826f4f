use futures_util::TryStreamExt as _;
use futures_util::future::join_all;

use super::super::{Case, cases, kind};
use super::Fixture;
use crate::ErrorKind;
use crate::object_store::{ListEntry, ListOptions};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        a_listing_is_in_byte_order_and_tells_of_each_object,
        a_delimiter_rolls_up_common_prefixes_in_order,
        start_after_is_exclusive_and_need_not_exist,
        every_key_comes_once_across_pages,
        a_prefix_is_text_and_not_a_directory,
        a_listing_of_nothing_is_empty,
        a_malformed_listing_is_refused,
    ]
}

impl Fixture {
    /// Names of a listing with the fixture's prefix taken off; prefixes end in `*`.
    async fn names(&self, mut options: ListOptions) -> Vec<String> {
        options.prefix.insert_str(0, &self.prefix);
        options.start_after = options.start_after.map(|name| format!("{}{name}", self.prefix));
        let entries: Vec<ListEntry> = self.store.list(options).try_collect().await.unwrap();
        let name = |entry: &ListEntry| match entry {
            ListEntry::Object(object) => object.key.as_str()[self.prefix.len()..].to_owned(),
            ListEntry::Prefix(prefix) => format!("{}*", &prefix[self.prefix.len()..]),
        };
        entries.iter().map(name).collect()
    }

    async fn fill(&self, names: &[&str]) {
        join_all(names.iter().map(|name| self.put(name, "12345"))).await;
    }
}

fn by_delimiter(prefix: &str) -> ListOptions {
    ListOptions { delimiter: Some("/".to_owned()), ..ListOptions::prefix(prefix) }
}

async fn a_listing_is_in_byte_order_and_tells_of_each_object(fixture: Fixture) {
    let names = ["a", "a-b", "a.b", "a/b", "a0", "aa", "b", "B", "ä", "\u{ffff}", "\u{10000}", "~"];
    fixture.fill(&names).await;
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(fixture.names(ListOptions::default()).await, sorted);
    let put = fixture.put("a", "123").await;
    let entries: Vec<ListEntry> =
        fixture.store.list(ListOptions::prefix(fixture.key("a").as_str())).try_collect().await.unwrap();
    let ListEntry::Object(first) = &entries[0] else { panic!("{entries:?}") };
    assert_eq!((first.size, &first.version), (3, &put.version));
}

async fn a_delimiter_rolls_up_common_prefixes_in_order(fixture: Fixture) {
    fixture.fill(&["a", "a/1", "a/2/x", "a-", "a0", "b//x", "c/", "d"]).await;
    assert_eq!(fixture.names(by_delimiter("")).await, ["a", "a-", "a/*", "a0", "b/*", "c/*", "d"]);
    assert_eq!(fixture.names(by_delimiter("a/")).await, ["a/1", "a/2/*"]);
    assert_eq!(fixture.names(by_delimiter("b/")).await, ["b//*"]);
    assert_eq!(fixture.names(by_delimiter("c/")).await, ["c/"]);
    let dashes = ListOptions { delimiter: Some("-".to_owned()), ..ListOptions::default() };
    assert_eq!(fixture.names(dashes).await, ["a", "a-*", "a/1", "a/2/x", "a0", "b//x", "c/", "d"]);
}

async fn start_after_is_exclusive_and_need_not_exist(fixture: Fixture) {
    fixture.fill(&["a", "b", "b/1", "b/2", "c"]).await;
    let after = |name: &str| ListOptions { start_after: Some(name.to_owned()), ..ListOptions::default() };
    assert_eq!(fixture.names(after("a")).await, ["b", "b/1", "b/2", "c"]);
    assert_eq!(fixture.names(after("aa")).await, ["b", "b/1", "b/2", "c"]);
    assert_eq!(fixture.names(after("c")).await, [""; 0]);
    let within = ListOptions { start_after: Some("b/1".to_owned()), ..ListOptions::prefix("b") };
    assert_eq!(fixture.names(within).await, ["b/2"]);
}

async fn every_key_comes_once_across_pages(fixture: Fixture) {
    let names: Vec<String> = (0..25).map(|number| format!("{}/{number:02}", number % 5)).collect();
    join_all(names.iter().map(|name| async {
        fixture.store.put(&fixture.key(name), bytes::Bytes::from_static(b"x"), Default::default()).await.unwrap();
    }))
    .await;
    let mut sorted = names.clone();
    sorted.sort();
    for page_size in [1, 3, 7] {
        let paged = ListOptions { page_size: Some(page_size), ..ListOptions::default() };
        assert_eq!(fixture.names(paged).await, sorted, "{page_size}");
        let paged = ListOptions { page_size: Some(page_size), ..by_delimiter("") };
        assert_eq!(fixture.names(paged).await, ["0/*", "1/*", "2/*", "3/*", "4/*"], "{page_size}");
    }
}

async fn a_prefix_is_text_and_not_a_directory(fixture: Fixture) {
    fixture.fill(&["week", "week/1", "weekly", "wee"]).await;
    assert_eq!(fixture.names(ListOptions::prefix("week")).await, ["week", "week/1", "weekly"]);
    assert_eq!(fixture.names(by_delimiter("week")).await, ["week", "week/*", "weekly"]);
}

async fn a_listing_of_nothing_is_empty(fixture: Fixture) {
    assert_eq!(fixture.names(ListOptions::default()).await, [""; 0]);
    assert_eq!(fixture.names(by_delimiter("")).await, [""; 0]);
}

async fn a_malformed_listing_is_refused(fixture: Fixture) {
    let empty = ListOptions { delimiter: Some(String::new()), ..ListOptions::default() };
    let listed: Result<Vec<_>, _> = fixture.store.list(empty).try_collect().await;
    assert_eq!(kind(listed), ErrorKind::InvalidInput);
}
