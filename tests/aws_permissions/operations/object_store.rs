use std::time::Duration;

use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions, SignOptions};
use anycloud::{GetOptions, PutMode, PutOptions};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::Operation;

pub(super) const ALL: &[Operation] = &[
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
                upload.put_part("content".into()).await?;
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
                upload.put_part("content".into()).await?;
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
            Box::pin(async {
                cloud.objects().sign(&scene.key("read"), SignOptions::get(Duration::from_secs(60))).await.map(drop)
            })
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
];
