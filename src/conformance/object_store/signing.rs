use std::time::{Duration, SystemTime};

use super::super::http::send;
use super::super::{Case, cases, kind};
use super::Fixture;
use crate::object_store::{HeadOptions, SignOptions};
use crate::{ErrorKind, ObjectStoreExt as _};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        a_signed_download_needs_no_credentials,
        a_signed_upload_needs_no_credentials,
        a_tampered_signature_is_refused,
        an_expired_signature_is_refused,
        a_signature_is_good_for_one_method_only,
        an_expiry_out_of_range_is_refused,
        a_signed_create_refuses_to_overwrite,
        what_cannot_be_a_header_is_not_signed,
        what_only_the_other_method_can_promise_is_not_signed,
    ]
}

const MINUTE: Duration = Duration::from_secs(60);

async fn a_signed_download_needs_no_credentials(fixture: Fixture) {
    fixture.put("ü & %2F.txt", "hello").await;
    let options = SignOptions {
        response_content_disposition: Some("attachment; filename=\"x.txt\"".to_owned()),
        ..SignOptions::get(MINUTE)
    };
    let signed = fixture.store.sign(&fixture.key("ü & %2F.txt"), options).await.unwrap();
    let left = signed.expires_at.duration_since(SystemTime::now()).unwrap();
    assert!(left <= MINUTE && left > MINUTE / 2, "{left:?}");
    let answer = send(&signed, "GET", signed.url.expose(), b"").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.headers.get("content-disposition").unwrap(), "attachment; filename=\"x.txt\"");
}

async fn a_signed_upload_needs_no_credentials(fixture: Fixture) {
    let key = fixture.key("up ü.csv");
    let can = fixture.store.capabilities().sign_content_length;
    let options = SignOptions {
        content_type: Some("text/csv".to_owned()),
        content_length: can.then_some(5),
        ..SignOptions::put(MINUTE)
    };
    let signed = fixture.store.sign(&key, options).await.unwrap();
    let answer = send(&signed, "PUT", signed.url.expose(), b"a,b\n1").await;
    assert!((200..300).contains(&answer.status), "{} {:?}", answer.status, answer.body);
    assert_eq!(fixture.store.get_bytes(&key).await.unwrap(), "a,b\n1");
    let meta = fixture.store.head(&key, HeadOptions::default()).await.unwrap();
    assert_eq!(meta.headers.content_type.as_deref(), Some("text/csv"));
}

async fn a_tampered_signature_is_refused(fixture: Fixture) {
    fixture.put("a", "public").await;
    fixture.put("b", "private").await;
    let signed = fixture.store.sign(&fixture.key("a"), SignOptions::get(MINUTE)).await.unwrap();
    let other = signed.url.expose().replacen("/a?", "/b?", 1);
    assert_ne!(other, signed.url.expose());
    let answer = send(&signed, "GET", &other, b"").await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert!(!answer.body.windows(7).any(|window| window == b"private"));
}

async fn an_expired_signature_is_refused(fixture: Fixture) {
    fixture.put("a", "x").await;
    let signed = fixture.store.sign(&fixture.key("a"), SignOptions::get(Duration::from_secs(1))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let answer = send(&signed, "GET", signed.url.expose(), b"").await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
}

async fn a_signature_is_good_for_one_method_only(fixture: Fixture) {
    fixture.put("a", "kept").await;
    let signed = fixture.store.sign(&fixture.key("a"), SignOptions::get(MINUTE)).await.unwrap();
    let answer = send(&signed, "PUT", signed.url.expose(), b"lost").await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert_eq!(fixture.store.get_bytes(&fixture.key("a")).await.unwrap(), "kept");
}

async fn an_expiry_out_of_range_is_refused(fixture: Fixture) {
    let longest = fixture.store.capabilities().max_sign_expiry;
    for expiry in [Duration::ZERO, longest + Duration::from_secs(1)] {
        let refused = fixture.store.sign(&fixture.key("a"), SignOptions::get(expiry)).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput);
    }
}

async fn a_signed_create_refuses_to_overwrite(fixture: Fixture) {
    let options = SignOptions { create_only: true, ..SignOptions::put(MINUTE) };
    let signed = fixture.store.sign(&fixture.key("a"), options).await;
    if !fixture.store.capabilities().sign_create_only {
        assert_eq!(kind(signed), ErrorKind::Unsupported);
        return;
    }
    let signed = signed.unwrap();
    let first = send(&signed, "PUT", signed.url.expose(), b"one").await;
    assert!((200..300).contains(&first.status), "{}", first.status);
    let second = send(&signed, "PUT", signed.url.expose(), b"two").await;
    assert_eq!(second.status, 412);
    assert_eq!(fixture.store.get_bytes(&fixture.key("a")).await.unwrap(), "one");
}

async fn what_cannot_be_a_header_is_not_signed(fixture: Fixture) {
    let key = fixture.key("a");
    for text in ["text/csv\r\nx-other: header", "ünd", ""] {
        let put = SignOptions { content_type: Some(text.to_owned()), ..SignOptions::put(MINUTE) };
        assert_eq!(kind(fixture.store.sign(&key, put).await), ErrorKind::InvalidInput, "{text:?}");
        let get = SignOptions { response_content_disposition: Some(text.to_owned()), ..SignOptions::get(MINUTE) };
        assert_eq!(kind(fixture.store.sign(&key, get).await), ErrorKind::InvalidInput, "{text:?}");
    }
}

async fn what_only_the_other_method_can_promise_is_not_signed(fixture: Fixture) {
    let get = || SignOptions::get(MINUTE);
    let disposition = Some("attachment".to_owned());
    for options in [
        SignOptions { create_only: true, ..get() },
        SignOptions { content_length: Some(3), ..get() },
        SignOptions { content_type: Some("text/csv".to_owned()), ..get() },
        SignOptions { response_content_disposition: disposition, ..SignOptions::put(MINUTE) },
    ] {
        let shown = format!("{options:?}");
        assert_eq!(kind(fixture.store.sign(&fixture.key("a"), options).await), ErrorKind::InvalidInput, "{shown}");
    }
}
