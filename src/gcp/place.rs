//! Which project and which region: from the settings, else from the metadata server, which is never asked beside an
//! emulator. Where each came from is logged once.

use std::fmt;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::connection::Connection;
use crate::http::{HttpClient, RequestBody, Transport as _};
use crate::{Error, ErrorKind, Result};

/// <https://cloud.google.com/compute/docs/metadata/querying-metadata>
const METADATA_SERVER: &str = "http://metadata.google.internal";
/// The server is on the same machine; where there is none, the name may resolve to somebody who does not answer.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);
const METADATA_ANSWER_LIMIT: usize = 4096;

/// The project and the region, looked up on first use.
pub(super) struct Place {
    connection: Connection,
    metadata_server: String,
    project: OnceCell<String>,
    region: OnceCell<String>,
}

impl Place {
    pub(super) fn new(connection: Connection) -> Self {
        let url = match &connection.config().metadata_host {
            Some(host) => format!("http://{host}"),
            None => METADATA_SERVER.to_owned(),
        };
        Self::with_metadata_server(connection, &url)
    }

    fn with_metadata_server(connection: Connection, url: &str) -> Self {
        let metadata_server = url.to_owned();
        Self { connection, metadata_server, project: OnceCell::new(), region: OnceCell::new() }
    }

    /// The project's id.
    ///
    /// # Errors
    /// `InvalidConfig` naming the variable that would say it.
    pub(super) async fn project(&self) -> Result<&str> {
        let found = self.project.get_or_try_init(|| async {
            if let Some(project) = &self.connection.config().project {
                tracing::info!(%project, source = "settings", "the project is known");
                return Ok(project.clone());
            }
            let project = self.ask("project/project-id", "GOOGLE_CLOUD_PROJECT").await?;
            tracing::info!(%project, source = "metadata server", "the project is known");
            Ok(project)
        });
        found.await.map(String::as_str)
    }

    /// The region of Cloud Run.
    ///
    /// # Errors
    /// `InvalidConfig` naming the variable that would say it.
    pub(super) async fn region(&self) -> Result<&str> {
        let found = self.region.get_or_try_init(|| async {
            if let Some(region) = &self.connection.config().region {
                tracing::info!(%region, source = "settings", "the region is known");
                return Ok(region.clone());
            }
            // `projects/NUMBER/regions/REGION`: https://cloud.google.com/run/docs/container-contract#metadata-server
            let path = self.ask("instance/region", "CLOUD_RUN_REGION").await?;
            let region = path.rsplit('/').next().unwrap_or(&path).to_owned();
            tracing::info!(%region, source = "metadata server", "the region is known");
            Ok(region)
        });
        found.await.map(String::as_str)
    }

    async fn ask(&self, what: &str, variable: &'static str) -> Result<String> {
        let unknown = |why: &str| {
            let message = format!("{variable} is not set, and {why}");
            Error::new(ErrorKind::InvalidConfig, "gcp.place", variable, message)
        };
        if self.connection.is_emulator() {
            return Err(unknown("beside an emulator no metadata server is asked"));
        }
        let request = http::Request::get(format!("{}/computeMetadata/v1/{what}", self.metadata_server))
            .header("metadata-flavor", "Google")
            .body(RequestBody::empty())
            .map_err(|_| unknown("the metadata server's address is malformed"))?;
        // Plain HTTP by design: the server is part of the machine.
        let asked = async {
            let answer = HttpClient::new(true).send(request).await.ok()?;
            let genuine = answer.status == 200 && answer.header("metadata-flavor") == Some("Google");
            let text = answer.bytes(METADATA_ANSWER_LIMIT).await.ok()?;
            let text = std::str::from_utf8(&text).ok()?.trim().to_owned();
            (genuine && !text.is_empty()).then_some(text)
        };
        match tokio::time::timeout(METADATA_TIMEOUT, asked).await {
            Ok(Some(text)) => Ok(text),
            _ => Err(unknown("no metadata server of Google Cloud answers")),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("project", &self.project.get()).field("region", &self.region.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::http::scripted::{Reply, Server};

    fn place(url: &str, change: impl FnOnce(&mut crate::config::GcpConfig)) -> Place {
        let mut config = Config::local("/nonexistent");
        change(&mut config.gcp);
        Place::with_metadata_server(Connection::new(&config).unwrap(), url)
    }

    #[tokio::test]
    async fn settings_come_first_and_nobody_is_asked() {
        let place = place("http://127.0.0.1:1", |gcp| {
            gcp.project = Some("p".into());
            gcp.region = Some("r".into());
        });
        assert_eq!((place.project().await.unwrap(), place.region().await.unwrap()), ("p", "r"));
    }

    #[tokio::test]
    async fn the_metadata_server_is_asked_once_for_each() {
        let genuine = |text: &'static str| Reply::ok(text).header("metadata-flavor", "Google");
        let server = Server::start(vec![genuine("p-1"), genuine("projects/123/regions/europe-west1")]).await;
        let place = place(server.url(), |_| {});
        for _ in 0..2 {
            assert_eq!((place.project().await.unwrap(), place.region().await.unwrap()), ("p-1", "europe-west1"));
        }
        assert_eq!(server.requests().len(), 2);
    }

    #[tokio::test]
    async fn an_answer_of_somebody_else_is_not_believed() {
        let server = Server::start(vec![Reply::ok("<html>")]).await;
        let error = place(server.url(), |_| {}).project().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("GOOGLE_CLOUD_PROJECT"), "{error}");
    }

    #[tokio::test]
    async fn beside_an_emulator_the_metadata_server_is_not_asked() {
        let server = Server::start(vec![Reply::ok("p").header("metadata-flavor", "Google")]).await;
        let error = place(server.url(), |gcp| gcp.emulator = true).region().await.unwrap_err();
        assert!(error.message().contains("CLOUD_RUN_REGION"), "{error}");
        assert_eq!(server.requests().len(), 0);
    }
}
