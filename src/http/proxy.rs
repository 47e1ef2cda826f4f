use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::Uri;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to a host, or to the proxy that `HTTPS_PROXY` and its like name for it, through which TLS goes end to end.
#[derive(Clone)]
pub(super) struct Connector {
    direct: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Connector {
    pub(super) fn new(direct: HttpConnector) -> Self {
        Self { direct, proxies: Arc::new(Matcher::from_env()) }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let mut direct = self.direct.clone();
        let Some(proxy) = self.proxies.intercept(&target) else {
            return Box::pin(async move { Ok(direct.call(target).await?) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), direct);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move { Ok(tunnel.call(target).await?) })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Connects by way of a proxy that answers with this, and tells what the proxy was asked.
    async fn by_proxy(target: &'static str, answer: &'static str) -> (String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<String>> = Arc::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            *kept.lock().unwrap() = String::from_utf8_lossy(&bytes[..count]).into_owned();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let proxy = format!("http://user:word@{address}");
        let proxies = Arc::new(Matcher::builder().https(proxy).no("direct.invalid").build());
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        let connected = Connector { direct, proxies }.call(Uri::from_static(target)).await.is_ok();
        let asked = asked.lock().unwrap().clone();
        (asked, connected)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_tunnel_and_one_that_refuses_is_no_connection() {
        let target = "https://b.s3.example/k";
        let (asked, connected) = by_proxy(target, "HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(connected && asked.starts_with("CONNECT b.s3.example:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjp3b3jk"), "{asked}");
        assert!(!by_proxy(target, "HTTP/1.1 403 Forbidden\r\n\r\n").await.1);
    }

    #[tokio::test]
    async fn a_host_that_is_left_out_is_connected_to_directly() {
        assert_eq!(by_proxy("https://direct.invalid/", "").await, (String::new(), false));
    }
}
