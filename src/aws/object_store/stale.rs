use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::bucket::Bucket;
use super::meta::time;
use super::multipart::abort;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::StaleUploads;
use crate::retry::Safety;
use crate::{Error, ErrorKind, ObjectKey, Result};

const OPERATION: &str = "object_store.abort_stale_uploads";
const CALLS_AT_ONCE: usize = 8;

impl Bucket {
    pub(super) async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        let subject = format!("s3://{}", self.name);
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        let client = self.client().await?;
        let mut done = StaleUploads::default();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = client
                .list_multipart_uploads()
                .bucket(&self.name)
                .encoding_type(aws_sdk_s3::types::EncodingType::Url)
                .set_key_marker(key_marker.clone())
                .set_upload_id_marker(id_marker.clone());
            let page = self
                .connection
                .retrier()
                .run(OPERATION, &subject, Safety::Read, |_| {
                    let request = request.clone();
                    let call = Call::reading(OPERATION, &subject, "s3:ListBucketMultipartUploads");
                    async move { request.send().silently().await.map_err(|error| self.error(error, call)) }
                })
                .await?;
            let encoded = page.encoding_type().is_some();
            let decode = |text: &str| super::list::decode(text.to_owned(), encoded, &subject);
            let mut stale = Vec::new();
            for upload in page.uploads() {
                let old = upload.initiated().is_some_and(|at| time(at) <= before);
                if let (true, Some(key), Some(id)) = (old, upload.key(), upload.upload_id()) {
                    stale.push((ObjectKey::new(decode(key)?)?, id.to_owned()));
                }
            }
            done.aborted += stale.len() as u64;
            stream::iter(stale)
                .map(|(key, id)| async move { abort(self, OPERATION, &key, &id).await })
                .buffer_unordered(CALLS_AT_ONCE)
                .try_for_each(|()| std::future::ready(Ok(())))
                .await?;
            if !page.is_truncated().unwrap_or(false) {
                return Ok(done);
            }
            let next =
                (page.next_key_marker().map(decode).transpose()?, page.next_upload_id_marker().map(str::to_owned));
            if next == (key_marker, id_marker) {
                let message = "the listing goes on, and does not say where";
                return Err(Error::new(ErrorKind::Internal, OPERATION, subject, message));
            }
            (key_marker, id_marker) = next;
        }
    }
}
