use anycloud::secret_store::{CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions};
use anycloud::{SecretAlias, SecretValue, SecretVersionId, VersionSelector};
use futures_util::TryStreamExt as _;

use super::{FIRST, Operation, labels};

pub(super) const ALL: &[Operation] = &[
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
];
