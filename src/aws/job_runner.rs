//! Jobs as ECS tasks on Fargate.

mod default_vpc;
mod definition;
mod end;
mod failure;
mod handle;
mod list;
mod logs;
mod look;
mod network;
mod observe;
mod overrides;
mod poller;
mod record;
mod start_failure;
mod submit;
#[cfg(test)]
mod wire_tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::handle::short;
use super::account::Account;
use super::connection::Connection;
use crate::job_runner::{JobCapabilities, ListExecutions, LogLine, LogOptions};
use crate::retry::{Calls, Retrier, Retrying, later, until};
use crate::{Config, ExecutionId, IdempotencyKey, JobExecution, JobName, JobRequest, JobRunner, ObjectStore, Result};

/// The most tasks of one execution. Each is asked for by itself, so that each has a token of its own.
const MAX_TASKS: u32 = 10;

/// The name of the cluster that every account has:
/// [RunTask](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html).
const DEFAULT_CLUSTER: &str = "default";

/// Runs task definitions on Amazon ECS. A job's name is the family of a task definition, of which the latest active
/// revision runs; the first essential container of it is the one that gets the arguments and is judged.
///
/// Each submission has a record in the exchange store, `anycloud/jobs/<submission>/execution.json`: it makes the same
/// key run once for longer than the 24 hours of ECS's own tokens, and keeps the end for longer than
/// [the hour](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html) that ECS does. Such an
/// object is as small as its execution's description, and may be expired by a lifecycle rule.
///
/// ECS has no time limit of its own. A [`JobRequest::timeout`] is kept by the process that started the job, by every
/// process that looks at it, and by the job itself through
/// [`JobContext::cancelled`](crate::JobContext::cancelled).
///
/// # Permissions
/// On the cluster, its tasks and the family: `ecs:RunTask`, `ecs:TagResource` (for labels), `ecs:DescribeTasks`,
/// `ecs:ListTasks`, `ecs:StopTask`, `ecs:DescribeTaskDefinition`; `ecs:DescribeServices` where the network is taken
/// over from a service; `iam:PassRole` on the definition's task and execution roles; `logs:GetLogEvents` on its log
/// group; and those of the exchange store for `anycloud/jobs/`.
#[derive(Clone)]
pub struct EcsRunner {
    inner: Calls<Inner>,
    account: Account,
}

/// A client that is made on first use, and what goes with every call.
#[derive(Clone)]
struct Ecs {
    connection: Connection,
    cluster: String,
    client: Arc<OnceCell<aws_sdk_ecs::Client>>,
}

impl Ecs {
    fn new(connection: Connection, cluster: String) -> Self {
        Self { connection, cluster, client: Arc::default() }
    }

    async fn client(&self) -> Result<&aws_sdk_ecs::Client> {
        let make = || async {
            let mut config = aws_sdk_ecs::config::Builder::from(self.connection.sdk_config().await?);
            if let Some(endpoint) = &self.connection.endpoints().ecs {
                config = config.endpoint_url(endpoint);
            }
            Ok(aws_sdk_ecs::Client::from_conf(config.build()))
        };
        self.client.get_or_try_init(make).await
    }

    fn retrier(&self) -> &Retrier {
        self.connection.retrier()
    }
}

impl fmt::Debug for Ecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ecs").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

struct Inner {
    ecs: Ecs,
    definitions: definition::Definitions,
    network: network::Network,
    poller: poller::Poller,
    records: record::Records,
    logs: logs::Reader,
    exchange: Arc<dyn ObjectStore>,
    /// Ended executions that were seen, and have their end in the record.
    ended: Mutex<HashMap<ExecutionId, JobExecution>>,
    /// When this process started a task, or first saw it: for as long as ECS may not know it yet.
    tasks: Mutex<HashMap<String, look::Known>>,
    capabilities: JobCapabilities,
}

impl Inner {
    /// The cluster as ids name it.
    fn cluster(&self) -> &str {
        short(&self.ecs.cluster)
    }
}

impl Retrying for Inner {
    fn retrier(&self) -> &Retrier {
        self.ecs.retrier()
    }
}

impl EcsRunner {
    /// A runner on the cluster that the configuration names, or else the default one. Asks nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub fn new(config: &Config, exchange: Arc<dyn ObjectStore>) -> Result<Self> {
        Ok(Self::with_connection(config, Connection::new(config)?, exchange))
    }

    pub(crate) fn with_connection(config: &Config, connection: Connection, exchange: Arc<dyn ObjectStore>) -> Self {
        let cluster = config.aws.ecs_cluster.clone().unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
        let ecs = Ecs::new(connection.clone(), cluster);
        let inner = Inner {
            definitions: definition::Definitions::default(),
            network: network::Network::new(&config.aws),
            poller: poller::Poller::new(ecs.clone()),
            records: record::Records::new(exchange.clone()),
            logs: logs::Reader::new(connection.clone()),
            exchange,
            ended: Mutex::default(),
            tasks: Mutex::default(),
            capabilities: JobCapabilities {
                provider: "aws",
                max_tasks: MAX_TASKS,
                resources: true,
                spot: true,
                clear_args: false,
                labels: true,
                platform_retries: false,
                log_streams: false,
                grace: Duration::from_secs(30),
                remembered: None,
            },
            ecs,
        };
        Self { inner: Calls::new(inner), account: Account::new(connection) }
    }

    /// The twelve digits of the account that the credentials belong to. Asked for once; failures are not remembered.
    ///
    /// Calls `sts:GetCallerIdentity`, which needs no permission.
    ///
    /// # Errors
    /// `Unauthenticated`, `InvalidConfig` without a region, `Throttled`, `Unavailable` and `Timeout`.
    pub async fn account_id(&self) -> Result<&str> {
        self.account.id().await
    }
}

impl fmt::Debug for EcsRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcsRunner").field("cluster", &self.inner.each().ecs.cluster).finish_non_exhaustive()
    }
}

#[async_trait]
impl JobRunner for EcsRunner {
    fn capabilities(&self) -> &JobCapabilities {
        &self.inner.each().capabilities
    }

    fn exchange(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.each().exchange
    }

    /// Calls `DescribeTaskDefinition`, `RunTask` once a task, and `DescribeServices` the first time; writes the record
    /// twice. Needs `ecs:DescribeTaskDefinition`, `ecs:RunTask`, `iam:PassRole`, `ecs:TagResource` for labels.
    async fn run(&self, job: &JobName, request: JobRequest) -> Result<JobExecution> {
        self.inner.one(|inner| submit::run(inner, job, &request)).await
    }

    /// Reads the record; without one, calls `ListTasks` twice by the submission's id in `startedBy`, and
    /// `DescribeTasks`. Needs `ecs:ListTasks` and `ecs:DescribeTasks`.
    async fn find(&self, job: &JobName, key: &IdempotencyKey, attempt: u32) -> Result<Option<JobExecution>> {
        self.inner.one(|inner| list::find(inner, job, key, attempt)).await
    }

    /// Shares a `DescribeTasks` with whoever asks at the same time. Needs `ecs:DescribeTasks`; and `ecs:StopTask` for
    /// an execution that has run for longer than it may.
    async fn get(&self, id: &ExecutionId) -> Result<JobExecution> {
        self.inner.one(|inner| inner.get(id)).await
    }

    /// Shares a `DescribeTasks` with whoever looks within the time: a thousand waits cost ten calls an interval.
    /// Permissions as for [`get`](Self::get).
    async fn get_within(&self, id: &ExecutionId, pause: Duration) -> Result<JobExecution> {
        let inner = self.inner.each();
        // The call's time begins when the pause is over.
        let end = later(later(Instant::now(), pause), inner.retrier().policy().call_timeout);
        until(end, inner.look(id, pause)).await
    }

    /// One `DescribeTasks` for each hundred tasks. Permissions as for [`get`](Self::get).
    async fn get_many(&self, ids: &[ExecutionId]) -> Vec<Result<JobExecution>> {
        self.inner.one(|inner| inner.get_many(ids)).await
    }

    /// Tasks that run and tasks that have stopped within
    /// [the last hour](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html), read to the end
    /// and sorted. Tasks whose family is no portable job name are left out. Needs `ecs:ListTasks` and
    /// `ecs:DescribeTasks`.
    fn list(&self, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
        list::list(self.inner.each().clone(), options)
    }

    /// Calls `StopTask` for each task that has not stopped. Needs `ecs:StopTask` and `ecs:DescribeTasks`.
    async fn cancel(&self, id: &ExecutionId) -> Result<()> {
        self.inner.one(|inner| inner.cancel(id)).await
    }

    /// Reads the CloudWatch streams that the definition's `awslogs` options name; they need a
    /// `awslogs-stream-prefix`. Needs `logs:GetLogEvents`, `ecs:DescribeTasks` and `ecs:DescribeTaskDefinition`.
    fn logs(&self, id: &ExecutionId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        logs::logs(self.inner.each().clone(), id.clone(), options.mode)
    }
}
