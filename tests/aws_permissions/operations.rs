//! Every operation of the three contracts, with the permissions that it needs.

use std::collections::BTreeMap;
use std::time::Duration;

use anycloud::job_runner::{ListExecutions, LogOptions};
use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions, SignOptions};
use anycloud::secret_store::{CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions};
use anycloud::{
    Cloud, GetOptions, IdempotencyKey, JobRequest, PutMode, PutOptions, Result, SecretAlias, SecretValue,
    SecretVersionId, VersionSelector, WriteId,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;

use super::calls::Scene;

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// It fails without any of these.
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: for<'a> fn(&'a Cloud, &'a Scene) -> BoxFuture<'a, Result<()>>,
}

/// The key of the execution that was started before.
const KEY: &str = "prepared";
const FIRST: &str = "11111111111111111111111111111111";

/// Makes what the operations find, and returns the id of an execution.
pub(crate) async fn prepare(cloud: &Cloud, scene: &Scene) -> Result<String> {
    let objects = cloud.objects();
    for key in ["read", "copied", "deleted", "one-of-many"] {
        objects.put(&scene.key(key), Bytes::from_static(b"content"), PutOptions::default()).await?;
    }
    let secrets = cloud.secrets();
    for suffix in ["read", "put", "swapped", "revived", "deleted", "deleted-later", "restored", "promoted", "aliased"] {
        let options = CreateSecretOptions { write_id: Some(WriteId::new(FIRST)?), ..Default::default() };
        secrets.create(&scene.secret(suffix), SecretValue::new("one"), options).await?;
    }
    secrets.put(&scene.secret("promoted"), SecretValue::new("two"), PutSecretOptions::default()).await?;
    for suffix in ["revived", "restored"] {
        secrets.delete(&scene.secret(suffix), DeleteSecret::Recoverable { days: 7 }).await?;
    }
    let request = JobRequest { idempotency_key: Some(IdempotencyKey::new(KEY)?), ..Default::default() };
    Ok(cloud.jobs().run(&scene.job(), request).await?.id.to_string())
}

/// In an order in which none takes away what a later one needs.
pub(crate) const ALL: &[Operation] = &[
    Operation {
        name: "object_store.put",
        needs: &["s3:PutObject"],
        run: |cloud, scene| {
            Box::pin(async {
                let body = Bytes::from_static(b"content");
                cloud.objects().put(&scene.key("put"), body, PutOptions::default()).await.map(drop)
            })
        },
    },
    Operation {
        name: "object_store.put create-only",
        needs: &["s3:PutObject"],
        run: |cloud, scene| {
            Box::pin(async {
                let options = PutOptions { mode: PutMode::Create, ..Default::default() };
                cloud.objects().put(&scene.key("created"), Bytes::new(), options).await.map(drop)
            })
        },
    },
    Operation {
        name: "object_store.start_upload, finished",
        needs: &["s3:PutObject"],
        run: |cloud, scene| {
            Box::pin(async {
                let mut upload = cloud.objects().start_upload(&scene.key("upload"), PutOptions::default()).await?;
                upload.put_part(Bytes::from_static(b"content")).await?;
                upload.finish(Crc32c::of(b"content")).await.map(drop)
            })
        },
    },
    Operation {
        name: "object_store.start_upload, aborted",
        needs: &["s3:PutObject", "s3:AbortMultipartUpload"],
        run: |cloud, scene| {
            Box::pin(async {
                let mut upload = cloud.objects().start_upload(&scene.key("aborted"), PutOptions::default()).await?;
                upload.put_part(Bytes::from_static(b"content")).await?;
                upload.abort().await
            })
        },
    },
    Operation {
        name: "object_store.get",
        needs: &["s3:GetObject"],
        run: |cloud, scene| {
            Box::pin(async {
                let found = cloud.objects().get(&scene.key("read"), GetOptions::default()).await?;
                found.body.try_collect::<Vec<_>>().await.map(drop)
            })
        },
    },
    Operation {
        name: "object_store.head",
        needs: &["s3:GetObject"],
        run: |cloud, scene| {
            Box::pin(async { cloud.objects().head(&scene.key("read"), HeadOptions::default()).await.map(drop) })
        },
    },
    Operation {
        name: "object_store.list",
        needs: &["s3:ListBucket"],
        run: |cloud, _| {
            Box::pin(async { cloud.objects().list(ListOptions::default()).try_collect::<Vec<_>>().await.map(drop) })
        },
    },
    Operation {
        name: "object_store.copy",
        needs: &["s3:GetObject", "s3:PutObject"],
        run: |cloud, scene| {
            Box::pin(async {
                let (from, to) = (scene.key("copied"), scene.key("copy"));
                cloud.objects().copy(&from, &to, CopyOptions::default()).await.map(drop)
            })
        },
    },
    Operation {
        name: "object_store.sign",
        needs: &[],
        run: |cloud, scene| {
            Box::pin(async { cloud.objects().sign(&scene.key("read"), SignOptions::get(Duration::from_secs(60))).await.map(drop) })
        },
    },
    Operation {
        name: "object_store.delete",
        needs: &["s3:DeleteObject"],
        run: |cloud, scene| {
            Box::pin(async { cloud.objects().delete(&scene.key("deleted"), DeleteOptions::default()).await })
        },
    },
    Operation {
        name: "object_store.delete_many",
        needs: &["s3:DeleteObject"],
        run: |cloud, scene| {
            Box::pin(async {
                let results = cloud.objects().delete_many(vec![scene.key("one-of-many")]).await;
                results.into_iter().try_for_each(|(_, result)| result)
            })
        },
    },
    Operation {
        name: "object_store.abort_stale_uploads",
        needs: &["s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload"],
        run: |cloud, _| {
            Box::pin(async {
                let found = cloud.objects().abort_stale_uploads(Duration::ZERO).await?;
                assert!(found.aborted > 0, "there is an upload to abort");
                Ok(())
            })
        },
    },
    Operation {
        name: "secret_store.get",
        needs: &["secretsmanager:GetSecretValue"],
        run: |cloud, scene| {
            Box::pin(async { cloud.secrets().get(&scene.secret("read"), &VersionSelector::Latest).await.map(drop) })
        },
    },
    Operation {
        name: "secret_store.create",
        needs: &["secretsmanager:CreateSecret", "secretsmanager:TagResource"],
        run: |cloud, scene| {
            Box::pin(async {
                let options = CreateSecretOptions { labels: labels(), ..Default::default() };
                cloud.secrets().create(&scene.secret("created"), SecretValue::new("one"), options).await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.put of a new secret",
        needs: &["secretsmanager:GetSecretValue", "secretsmanager:CreateSecret"],
        run: |cloud, scene| {
            Box::pin(async {
                let value = SecretValue::new("one");
                cloud.secrets().put(&scene.secret("new"), value, PutSecretOptions::default()).await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.put of a new version",
        needs: &["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"],
        run: |cloud, scene| {
            Box::pin(async {
                let value = SecretValue::new("two");
                cloud.secrets().put(&scene.secret("put"), value, PutSecretOptions::default()).await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.put in place of a version",
        needs: &[
            "secretsmanager:GetSecretValue",
            "secretsmanager:PutSecretValue",
            "secretsmanager:UpdateSecretVersionStage",
        ],
        run: |cloud, scene| {
            Box::pin(async {
                let options = PutSecretOptions { if_current: Some(SecretVersionId::new(FIRST)?), ..Default::default() };
                cloud.secrets().put(&scene.secret("swapped"), SecretValue::new("two"), options).await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.put of a deleted secret",
        needs: &[
            "secretsmanager:GetSecretValue",
            "secretsmanager:DescribeSecret",
            "secretsmanager:RestoreSecret",
            "secretsmanager:PutSecretValue",
        ],
        run: |cloud, scene| {
            Box::pin(async {
                let value = SecretValue::new("two");
                cloud.secrets().put(&scene.secret("revived"), value, PutSecretOptions::default()).await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.delete",
        needs: &["secretsmanager:DescribeSecret", "secretsmanager:DeleteSecret"],
        run: |cloud, scene| {
            Box::pin(async {
                cloud.secrets().delete(&scene.secret("deleted"), DeleteSecret::Immediate).await?;
                cloud.secrets().delete(&scene.secret("deleted-later"), DeleteSecret::Recoverable { days: 7 }).await
            })
        },
    },
    Operation {
        name: "secret_store.restore",
        needs: &["secretsmanager:RestoreSecret"],
        run: |cloud, scene| Box::pin(async { cloud.secrets().restore(&scene.secret("restored")).await }),
    },
    Operation {
        name: "secret_store.describe",
        needs: &["secretsmanager:DescribeSecret"],
        run: |cloud, scene| Box::pin(async { cloud.secrets().describe(&scene.secret("read")).await.map(drop) }),
    },
    Operation {
        name: "secret_store.list",
        needs: &["secretsmanager:ListSecrets"],
        run: |cloud, _| {
            Box::pin(async {
                let options = ListSecrets { prefix: "mmm-".to_owned(), ..Default::default() };
                cloud.secrets().list(options).try_collect::<Vec<_>>().await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.list_versions",
        needs: &["secretsmanager:ListSecretVersionIds"],
        run: |cloud, scene| {
            Box::pin(async {
                let versions = cloud.secrets().list_versions(&scene.secret("read"));
                versions.try_collect::<Vec<_>>().await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.promote",
        needs: &["secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"],
        run: |cloud, scene| {
            Box::pin(async {
                let version = SecretVersionId::new(FIRST)?;
                cloud.secrets().promote(&scene.secret("promoted"), &version).await.map(drop)
            })
        },
    },
    Operation {
        name: "secret_store.set_alias",
        needs: &["secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"],
        run: |cloud, scene| {
            Box::pin(async {
                let (alias, version) = (SecretAlias::new("stable")?, SecretVersionId::new(FIRST)?);
                cloud.secrets().set_alias(&scene.secret("aliased"), &alias, Some(&version)).await
            })
        },
    },
    Operation {
        name: "job_runner.run",
        needs: &[
            "ecs:DescribeTaskDefinition",
            "ecs:DescribeServices",
            "ecs:RunTask",
            "ecs:TagResource",
            "iam:PassRole",
            "s3:PutObject",
        ],
        run: |cloud, scene| {
            Box::pin(async {
                let request = JobRequest { labels: labels(), ..JobRequest::with_payload(&"payload")? };
                cloud.jobs().run(&scene.job(), request).await.map(drop)
            })
        },
    },
    Operation {
        // Without the record it is found by ECS, unless ECS has forgotten it.
        name: "job_runner.find what was started",
        needs: &["ecs:DescribeTasks"],
        run: |cloud, scene| {
            Box::pin(async {
                let found = cloud.jobs().find(&scene.job(), &IdempotencyKey::new(KEY)?, 1).await?;
                assert!(found.is_some(), "the execution is found");
                Ok(())
            })
        },
    },
    Operation {
        name: "job_runner.find what was not",
        needs: &["s3:GetObject", "ecs:ListTasks"],
        run: |cloud, scene| {
            Box::pin(async { cloud.jobs().find(&scene.job(), &IdempotencyKey::new("other")?, 1).await.map(drop) })
        },
    },
    Operation {
        name: "job_runner.get",
        needs: &["ecs:DescribeTasks"],
        run: |cloud, scene| Box::pin(async { cloud.jobs().get(&scene.execution()).await.map(drop) }),
    },
    Operation {
        name: "job_runner.get_many",
        needs: &["ecs:DescribeTasks"],
        run: |cloud, scene| {
            Box::pin(async {
                let results = cloud.jobs().get_many(&[scene.execution()]).await;
                results.into_iter().try_for_each(|result| result.map(drop))
            })
        },
    },
    Operation {
        name: "job_runner.list",
        needs: &["ecs:ListTasks", "ecs:DescribeTasks"],
        run: |cloud, scene| {
            Box::pin(async {
                let options = ListExecutions { job: Some(scene.job()), ..Default::default() };
                cloud.jobs().list(options).try_collect::<Vec<_>>().await.map(drop)
            })
        },
    },
    Operation {
        name: "job_runner.logs",
        needs: &["ecs:DescribeTasks", "ecs:DescribeTaskDefinition", "logs:GetLogEvents"],
        run: |cloud, scene| {
            Box::pin(async {
                let lines = cloud.jobs().logs(&scene.execution(), LogOptions::default());
                lines.try_collect::<Vec<_>>().await.map(drop)
            })
        },
    },
    Operation {
        name: "job_runner.cancel",
        needs: &["ecs:DescribeTasks", "ecs:StopTask"],
        run: |cloud, scene| Box::pin(async { cloud.jobs().cancel(&scene.execution()).await }),
    },
];

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_owned(), "mmm".to_owned())])
}
