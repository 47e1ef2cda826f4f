//! Whether temporary objects can be removed again from the bucket, and cost nothing once they are.

use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bucket::{Bucket, Request, encode};
use crate::call::Call;
use crate::retry::Safety;
use crate::{PutOptions, Result};

const OPERATION: &str = "object_store.start_upload";
const STANDARD: &str = "STANDARD";
/// Making parts, composing them and removing what a failed upload leaves.
const NEEDED: [&str; 4] =
    ["storage.objects.create", "storage.objects.get", "storage.objects.delete", "storage.objects.list"];

/// What a bucket allows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Suitability {
    composing: bool,
    standard: bool,
}

/// <https://cloud.google.com/storage/docs/json_api/v1/buckets#resource>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    storage_class: Option<String>,
    retention_policy: Option<IgnoredAny>,
    #[serde(default)]
    default_event_based_hold: bool,
}

/// <https://cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions>
#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    permissions: Vec<String>,
}

impl Bucket {
    /// Whether a large object may be sent as temporary objects. The settings decide; where they say nothing, the bucket
    /// is asked once: nothing may keep its objects from being deleted, all permissions have to be there, and the
    /// storage class has to be one without a
    /// [minimum duration](https://cloud.google.com/storage/docs/storage-classes).
    pub(super) async fn takes_temporaries(&self, options: &PutOptions) -> bool {
        if let Some(always) = self.parallel_uploads {
            return always;
        }
        let asked = self.suitability.get_or_try_init(|| self.ask_suitability()).await;
        match asked {
            Ok(bucket) => bucket.composing && options.storage_class.as_deref().map_or(bucket.standard, is_standard),
            Err(error) => {
                tracing::debug!(kind = %error.kind(), "the bucket could not be asked; the upload takes one connection");
                false
            }
        }
    }

    /// A refusal is an answer, and means no; a failure that passes is asked again with the next upload.
    async fn ask_suitability(&self) -> Result<Suitability> {
        match tokio::try_join!(self.settings(), self.granted()) {
            Ok((settings, granted)) => Ok(Suitability {
                composing: settings.retention_policy.is_none()
                    && !settings.default_event_based_hold
                    && NEEDED.iter().all(|needed| granted.permissions.iter().any(|own| own == needed)),
                standard: settings.storage_class.as_deref().is_some_and(is_standard),
            }),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                tracing::info!(
                    bucket = self.name,
                    reason = error.message(),
                    "large files take one connection each: the bucket does not tell whether parts could be removed"
                );
                Ok(Suitability::default())
            }
        }
    }

    async fn settings(&self) -> Result<Settings> {
        let url = format!("{}?fields=storageClass,retentionPolicy,defaultEventBasedHold", self.bucket_url());
        self.learn(url, "storage.buckets.get").await
    }

    async fn granted(&self) -> Result<Granted> {
        let asked: Vec<String> = NEEDED.iter().map(|needed| format!("permissions={}", encode(needed))).collect();
        let url = format!("{}/iam/testPermissions?{}", self.bucket_url(), asked.join("&"));
        self.learn(url, "none").await
    }

    async fn learn<T: serde::de::DeserializeOwned>(&self, url: String, permission: &'static str) -> Result<T> {
        let subject = format!("gs://{}", self.name);
        let call = Call::reading(OPERATION, &subject, permission);
        let request = Request::new(Method::GET, url);
        self.connection
            .retrier()
            .run(OPERATION, &subject, Safety::Read, |_| {
                let request = request.clone();
                async move { self.ask_json(call, request).await }
            })
            .await
    }
}

fn is_standard(class: &str) -> bool {
    class.eq_ignore_ascii_case(STANDARD)
}
