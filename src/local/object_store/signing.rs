//! What a signed URL grants, and the key that it is signed with.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustix::fs::OFlags;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::bucket::Bucket;
use crate::local::file_operations::{FILE_MODE, Place, open_beneath};
use crate::{ObjectKey, random};

const KEY_FILE: &str = "signing-key";
const KEY_BYTES: usize = 32;
/// What need not be escaped in a component of a URL.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// The key of a bucket. Never printed.
#[derive(Clone)]
pub(in crate::local) struct SigningKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

/// What a bearer may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::local) struct Grant {
    pub(in crate::local) method: &'static str,
    pub(in crate::local) key: ObjectKey,
    /// Seconds since 1970.
    pub(in crate::local) expires: u64,
    pub(in crate::local) content_type: Option<String>,
    pub(in crate::local) content_length: Option<u64>,
    pub(in crate::local) create_only: bool,
    pub(in crate::local) content_disposition: Option<String>,
}

impl SigningKey {
    /// The key of this bucket, made by whoever comes first.
    pub(super) fn open(bucket: &Bucket) -> io::Result<Self> {
        if let Some(key) = Self::read(bucket)? {
            return Ok(key);
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
        let temporary = format!(".{}.tmp", random::uuid());
        let temporary = Place { directory: bucket.home.as_fd(), name: &temporary };
        let operations = &*bucket.operations;
        let file = operations.create(temporary, FILE_MODE)?;
        let published = operations
            .write_at(&file, &*bytes, 0)
            .and_then(|()| operations.sync_file(&file))
            .and_then(|()| operations.link(temporary, Place { directory: bucket.home.as_fd(), name: KEY_FILE }));
        let _ = operations.remove_file(temporary);
        match published {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => operations.sync_directory(bucket.home.as_fd())?,
        }
        Self::read(bucket)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(bucket: &Bucket) -> io::Result<Option<Self>> {
        let file = match open_beneath(bucket.home.as_fd(), KEY_FILE, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => std::fs::File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        file.read_exact_at(&mut *bytes, 0)?;
        Ok(Some(Self(bytes)))
    }

    fn mac(&self, bucket: &str, grant: &Grant) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).ok()?;
        let (expires, length) = (grant.expires.to_string(), grant.content_length.map(|length| length.to_string()));
        let fields = [
            Some("anycloud-signed-url-1"),
            Some(grant.method),
            Some(bucket),
            Some(grant.key.as_str()),
            Some(&expires),
            grant.content_type.as_deref(),
            length.as_deref(),
            grant.create_only.then_some("create-only"),
            grant.content_disposition.as_deref(),
        ];
        for field in fields {
            // With its length before it, no field can pass for a part of the next.
            mac.update(&field.map_or(u64::MAX, |field| field.len() as u64).to_be_bytes());
            mac.update(field.unwrap_or_default().as_bytes());
        }
        Some(mac)
    }

    /// The path below the base and the query of the URL for a grant.
    pub(super) fn sign(&self, bucket: &str, grant: &Grant) -> Option<String> {
        let signature = random::hex(&self.mac(bucket, grant)?.finalize().into_bytes());
        let key = grant.key.as_str();
        // Clients resolve `..` and some merge `//`, unless the slashes are hidden.
        let fragile = key.split('/').any(|segment| matches!(segment, "" | "." | ".."));
        let path = utf8_percent_encode(key, if fragile { COMPONENT } else { PATH });
        let mut url = format!("/{}/{path}?expires={}", utf8_percent_encode(bucket, COMPONENT), grant.expires);
        let mut add = |name: &str, value: &str| {
            url.push_str(&format!("&{name}={}", utf8_percent_encode(value, COMPONENT)));
        };
        if let Some(content_type) = &grant.content_type {
            add("content-type", content_type);
        }
        if let Some(length) = grant.content_length {
            add("content-length", &length.to_string());
        }
        if grant.create_only {
            add("create-only", "true");
        }
        if let Some(disposition) = &grant.content_disposition {
            add("response-content-disposition", disposition);
        }
        add("signature", &signature);
        Some(url)
    }

    /// What a URL grants to a request, if it is genuine. The time is not looked at here.
    pub(in crate::local) fn verify(
        &self,
        bucket: &str,
        method: &'static str,
        path: &str,
        query: &str,
    ) -> Option<Grant> {
        let (named, key) = path.strip_prefix('/')?.split_once('/')?;
        if percent_decode_str(named).decode_utf8().ok()? != bucket {
            return None;
        }
        let key = ObjectKey::new(percent_decode_str(key).decode_utf8().ok()?.into_owned()).ok()?;
        let mut grant = Grant {
            method,
            key,
            expires: 0,
            content_type: None,
            content_length: None,
            create_only: false,
            content_disposition: None,
        };
        let mut signature = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value).decode_utf8().ok()?.into_owned();
            match name {
                "expires" => grant.expires = value.parse().ok()?,
                "content-type" => grant.content_type = Some(value),
                "content-length" => grant.content_length = Some(value.parse().ok()?),
                "create-only" => grant.create_only = true,
                "response-content-disposition" => grant.content_disposition = Some(value),
                "signature" => signature = Some(value),
                _ => return None,
            }
        }
        let signature = from_hex(&signature?)?;
        // In constant time.
        self.mac(bucket, &grant)?.verify_slice(&signature).ok()?;
        Some(grant)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::key_path::tests::naughty_keys;
    use super::*;

    fn grant(key: &str) -> Grant {
        Grant {
            method: "PUT",
            key: ObjectKey::new(key).unwrap(),
            expires: 12345,
            content_type: Some("text/plain; charset=utf-8".to_owned()),
            content_length: Some(7),
            create_only: true,
            content_disposition: None,
        }
    }

    #[test]
    fn a_url_for_any_key_verifies_and_grants_exactly_what_was_signed() {
        let key = SigningKey(Zeroizing::new([7; KEY_BYTES]));
        for name in naughty_keys() {
            let grant = grant(&name);
            let url = key.sign("main", &grant).unwrap();
            assert!(url.parse::<http::Uri>().is_ok(), "{url}");
            let (path, query) = url.split_once('?').unwrap();
            assert_eq!(key.verify("main", "PUT", path, query), Some(grant));
        }
    }

    #[test]
    fn a_url_that_differs_in_any_byte_is_refused_or_means_the_same() {
        let key = SigningKey(Zeroizing::new([7; KEY_BYTES]));
        let url = key.sign("main", &grant("a/b c")).unwrap();
        let mut random = fastrand::Rng::with_seed(11);
        for at in 0..url.len() {
            for _ in 0..8 {
                let mut changed = url.clone().into_bytes();
                changed[at] = random.u8(b' '..=b'~');
                let changed = String::from_utf8(changed).unwrap();
                let Some((path, query)) = changed.split_once('?') else { continue };
                let verified = key.verify("main", "PUT", path, query);
                assert!(verified.is_none() || verified == Some(grant("a/b c")), "{changed}");
            }
        }
        let (path, query) = url.split_once('?').unwrap();
        assert!(key.verify("other", "PUT", path, query).is_none());
        assert!(key.verify("main", "GET", path, query).is_none());
        assert!(SigningKey(Zeroizing::new([8; KEY_BYTES])).verify("main", "PUT", path, query).is_none());
        let longer = format!("{query}&response-content-disposition=x");
        assert!(key.verify("main", "PUT", path, &longer).is_none());
    }
}
