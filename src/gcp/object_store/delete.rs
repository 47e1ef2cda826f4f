use futures_util::StreamExt as _;
use http::Method;

use super::bucket::{Bucket, Request};
use super::version::generation;
use crate::call::Call;
use crate::object_store::DeleteOptions;
use crate::retry::{Retrying as _, Safety};
use crate::{ErrorKind, ObjectKey, Result};

const OPERATION: &str = "object_store.delete";
/// How many deletions travel at the same time.
const PARALLEL: usize = 32;

impl Bucket {
    pub(super) async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        let subject = self.uri(key).to_string();
        let mut url = self.object_url(key);
        if let Some(version) = &options.if_match {
            url.push_str(&format!("?ifGenerationMatch={}", generation(version, OPERATION, &subject)?));
        }
        let call = Call::changing(OPERATION, &subject, "storage.objects.delete");
        let request = Request::new(Method::DELETE, url);
        let deleted = self
            .connection
            .retrier()
            .run(OPERATION, &subject, Safety::Repeatable, |_| {
                let request = request.clone();
                async move { self.ask(call, request).await.map(drop) }
            })
            .await;
        let conditional = options.if_match.is_some();
        match deleted {
            Err(error) if error.kind() == ErrorKind::NotFound && !conditional => Ok(()),
            Err(error)
                if conditional && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PreconditionFailed) =>
            {
                // That version is gone, be it by the attempt whose answer was lost or by somebody else.
                if error.may_have_applied() {
                    return Err(error.into_indeterminate());
                }
                let message = "the object is missing or another version is current";
                Err(error.with_kind(ErrorKind::PreconditionFailed).with_message(message))
            }
            other => other,
        }
    }

    pub(super) async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        futures_util::stream::iter(keys)
            .map(|key| async move {
                let deleted = self.retrier().one_call(self.delete(&key, DeleteOptions::default())).await;
                (key, deleted)
            })
            .buffered(PARALLEL)
            .collect()
            .await
    }
}
