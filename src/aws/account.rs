//! Whose account the credentials belong to.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::connection::Connection;
use super::error::classify;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

const OPERATION: &str = "aws.account_id";

/// The account of a connection, asked for once.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    connection: Connection,
    id: Arc<OnceCell<String>>,
}

impl Account {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, id: Arc::default() }
    }

    /// The twelve digits of the account. Asks STS the first time only; failures are not remembered.
    ///
    /// # Errors
    /// `Unauthenticated` without usable credentials; `InvalidConfig` without a region; those that pass by themselves.
    pub(crate) async fn id(&self) -> Result<&str> {
        self.id.get_or_try_init(|| self.ask()).await.map(String::as_str)
    }

    async fn ask(&self) -> Result<String> {
        let mut config = aws_sdk_sts::config::Builder::from(self.connection.sdk_config().await?);
        if let Some(endpoint) = &self.connection.endpoints().sts {
            config = config.endpoint_url(endpoint);
        }
        let client = aws_sdk_sts::Client::from_conf(config.build());
        let call = Call::reading(OPERATION, "sts", "sts:GetCallerIdentity");
        let answer = self
            .connection
            .retrier()
            .run(OPERATION, "sts", Safety::Read, |_| async {
                client.get_caller_identity().send().silently().await.map_err(|error| classify(error, call))
            })
            .await?;
        answer
            .account()
            .map(str::to_owned)
            .ok_or_else(|| Error::new(ErrorKind::Internal, OPERATION, "sts", "the answer names no account"))
    }
}
