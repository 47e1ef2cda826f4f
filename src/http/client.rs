use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;

use super::address::is_this_machine;
use super::proxy::Connector;
use super::{Answer, AnswerBody, Failure, RequestBody, Transport};

/// How long to wait for a TCP connection: who is there answers within a round trip or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept: well under the four minutes after which Google and AWS close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much a connection receives at a time, and so holds, of a body. By default it is 408 KiB, which 48 connections
/// of one read make 20 MB, and as much again that comes after the budget is used up.
const BUFFER_BYTES: usize = 128 << 10;

/// Pooled connections to any host. Clones share them.
#[derive(Clone)]
pub(crate) struct HttpClient {
    allow_http: bool,
    plain: Client<HttpConnector, RequestBody>,
    /// Made with the first HTTPS address, because reading the system's certificates costs more than a request.
    secure: Arc<OnceCell<Client<HttpsConnector<Connector>, RequestBody>>>,
}

impl HttpClient {
    /// A client without connections. `allow_http` allows plain HTTP to other machines.
    pub(crate) fn new(allow_http: bool) -> Self {
        let mut connector = connector();
        connector.enforce_http(true);
        Self { allow_http, plain: client_builder().build(connector), secure: Arc::default() }
    }

    async fn secure(&self) -> Result<&Client<HttpsConnector<Connector>, RequestBody>, Failure> {
        let roots = |error: std::io::Error| {
            Failure::forbidden(format!("the system's root certificates cannot be read: {error}"))
        };
        self.secure
            .get_or_try_init(|| async {
                let built = tokio::task::spawn_blocking(|| {
                    let provider = rustls::crypto::aws_lc_rs::default_provider();
                    HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)
                });
                let builder = built.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(roots)?;
                let mut connector = connector();
                connector.enforce_http(false);
                Ok(client_builder()
                    .build(builder.https_only().enable_http1().wrap_connector(Connector::new(connector))))
            })
            .await
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector
}

fn client_builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new()).http1_max_buf_size(BUFFER_BYTES);
    builder
}

impl Transport for HttpClient {
    fn send(&self, request: ::http::Request<RequestBody>) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(async move {
            let uri = request.uri();
            let sent = match uri.scheme_str() {
                Some("https") => self.secure().await?.request(request).await,
                Some("http") if self.allow_http || uri.host().is_some_and(is_this_machine) => {
                    self.plain.request(request).await
                }
                _ => {
                    let host = uri.host().unwrap_or_default();
                    return Err(Failure::forbidden(format!("plain HTTP to `{host}` is not allowed")));
                }
            };
            match sent {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: AnswerBody::new(body) })
                }
                Err(error) if error.is_connect() => Err(Failure::never_sent("no connection could be made", error)),
                Err(error) => Err(Failure::lost("the connection broke before the answer", error)),
            }
        })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("allow_http", &self.allow_http).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Reply, Server};
    use super::*;
    use crate::ErrorKind;

    async fn get(client: &HttpClient, url: &str) -> Result<Answer, crate::Error> {
        let request = ::http::Request::get(url).body(RequestBody::empty()).unwrap();
        client.send(request).await.map_err(|failure| failure.into_error("t", "x"))
    }

    #[tokio::test]
    async fn a_refused_connection_was_never_sent() {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let error = get(&HttpClient::new(false), &format!("http://127.0.0.1:{port}/")).await.unwrap_err();
        assert!(error.is_retryable() && !error.may_have_applied(), "{error:?}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_was_never_sent() {
        let error = get(&HttpClient::new(true), "http://nowhere.invalid/").await.unwrap_err();
        assert!(error.is_retryable() && !error.may_have_applied(), "{error:?}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_before_the_answer_may_have_carried_the_request() {
        let server = Server::start(vec![Reply::Reset]).await;
        let error = get(&HttpClient::new(false), server.url()).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_applied()), (ErrorKind::Unavailable, true), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_shorter_than_announced_is_an_error() {
        let server = Server::start(vec![Reply::ok("hello").cut_after(3)]).await;
        let answer = get(&HttpClient::new(false), server.url()).await.unwrap();
        let error = answer.bytes(100).await.unwrap_err().into_error("t", "x");
        assert_eq!((error.kind(), error.may_have_applied()), (ErrorKind::Unavailable, true), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_an_error() {
        let server = Server::start(vec![Reply::ok("hello")]).await;
        let answer = get(&HttpClient::new(false), server.url()).await.unwrap();
        assert!(answer.bytes(4).await.is_err());
    }

    #[tokio::test]
    async fn plain_http_to_another_machine_is_refused_before_anything_is_sent() {
        let error = get(&HttpClient::new(false), "http://192.0.2.1/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let server = Server::start(vec![Reply::status(307).header("location", "http://192.0.2.1/")]).await;
        assert_eq!(get(&HttpClient::new(false), server.url()).await.unwrap().status, 307);
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn connections_are_kept_and_certificates_not_read_for_plain_http() {
        let server = Server::start(vec![Reply::ok("1"), Reply::ok("2")]).await;
        let client = HttpClient::new(false);
        for _ in 0..2 {
            get(&client, server.url()).await.unwrap().bytes(9).await.unwrap();
        }
        assert_eq!(server.connections(), 1);
        assert!(client.secure.get().is_none());
    }
}
