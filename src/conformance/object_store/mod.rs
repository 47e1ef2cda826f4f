//! Cases for [`ObjectStore`].

mod conditions;
mod keys;
mod listing;
mod naughty;
mod reading;
mod signing;
mod uploading;
mod writing;

use std::sync::Arc;

use bytes::Bytes;

use super::{Case, unique};
use crate::{ObjectKey, ObjectStore};

/// A store, and a prefix of its own for one case.
#[derive(Clone, Debug)]
pub struct Fixture {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Fixture {
    /// A fixture on a store, which may hold other objects.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, prefix: format!("{}/", unique("conformance")) }
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(format!("{}{name}", self.prefix)).expect("the case's key is valid")
    }

    async fn put(&self, name: &str, body: &'static str) -> crate::object_store::PutResult {
        let body = Bytes::from_static(body.as_bytes());
        self.store.put(&self.key(name), body, crate::PutOptions::default()).await.expect("the put succeeds")
    }
}

/// Bytes that do not repeat, so that a misplaced piece shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case<Fixture>> {
    [
        writing::cases(),
        conditions::cases(),
        reading::cases(),
        keys::cases(),
        listing::cases(),
        naughty::cases(),
        uploading::cases(),
        signing::cases(),
    ]
    .concat()
}
