use std::time::Duration;

use anycloud::job_runner::{ListExecutions, LogOptions};
use anycloud::{IdempotencyKey, JobRequest};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{KEY, Operation, labels};

/// More than fits into the environment of a task.
const LARGE: usize = 64 << 10;

pub(super) const ALL: &[Operation] = &[
    Operation {
        name: "job_runner.run",
        needs: &[
            "ecs:DescribeTaskDefinition",
            "ecs:DescribeServices",
            "ecs:RunTask",
            "ecs:TagResource",
            "iam:PassRole",
        ],
        run: |cloud, scene| {
            Box::pin(async {
                let request = JobRequest { labels: labels(), ..JobRequest::with_payload(&"payload")? };
                cloud.jobs().run(&scene.job(), request).await.map(drop)
            })
        },
    },
    Operation {
        name: "job_runner.run with a large payload",
        needs: &["s3:PutObject", "ecs:DescribeTaskDefinition", "ecs:DescribeServices", "ecs:RunTask", "iam:PassRole"],
        run: |cloud, scene| {
            Box::pin(async {
                let payload = Some(Bytes::from(vec![b'x'; LARGE]));
                cloud.jobs().run(&scene.job(), JobRequest { payload, ..Default::default() }).await.map(drop)
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
        name: "job_runner.get_within",
        needs: &["ecs:DescribeTasks"],
        run: |cloud, scene| {
            Box::pin(async { cloud.jobs().get_within(&scene.execution(), Duration::ZERO).await.map(drop) })
        },
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
