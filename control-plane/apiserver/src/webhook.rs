//! Calling webhooks: a question is posted as JSON over HTTPS, the answer is JSON.

use crate::dial::Services;
use crate::hooks::{Body, full};
use crate::tls;
use base64::Engine;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a webhook may take that does not say.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const LONGEST: usize = 16 << 20;
/// So many authorities are kept ready.
const KEPT: usize = 256;

/// Why a webhook gave no answer; in the words of upstream's clients where they have some.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The configuration says nowhere to call.
    #[error("{0}")]
    Config(String),
    /// The Service has no endpoint to call.
    #[error("{0}")]
    Service(String),
    /// No connection, or it broke off.
    #[error("Post {url:?}: {why}")]
    Connect {
        /// Where to.
        url: String,
        /// Why not.
        why: String,
    },
    /// No answer in time.
    #[error("Post {0:?}: context deadline exceeded")]
    Late(String),
    /// An answer other than 200.
    #[error("{0}")]
    Refused(String),
    /// An answer that is no JSON.
    #[error("the answer is not JSON: {0}")]
    Malformed(#[source] serde_json::Error),
}

/// Where a webhook is (`clientConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// PEM of the authorities that may have signed its certificate; empty for those of the machine.
    authorities: Vec<u8>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Url(Uri),
    Service { namespace: String, name: String, port: u16, path: String },
}

impl Target {
    /// Reads a `clientConfig`.
    pub fn read(config: &Value) -> Result<Self, CallError> {
        let text =
            |tree: &Value, key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let malformed =
            |why: &dyn std::fmt::Display| CallError::Config(format!("unusable clientConfig: {why}"));
        let bundle = base64::engine::general_purpose::STANDARD.decode(text(config, "caBundle"));
        let authorities = bundle.map_err(|e| malformed(&e))?.trim_ascii().to_vec();
        if let Some(service) = config.get("service").filter(|s| !s.is_null()) {
            let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
            let path = text(service, "path");
            let place = Place::Service {
                namespace: text(service, "namespace"),
                name: text(service, "name"),
                port: u16::try_from(port).map_err(|e| malformed(&e))?,
                path: if path.starts_with('/') { path } else { format!("/{path}") },
            };
            return Ok(Target { authorities, place });
        }
        let url = text(config, "url");
        let url: Uri = url.parse().map_err(|e: http::uri::InvalidUri| malformed(&e))?;
        if url.scheme_str() != Some("https") || url.host().is_none() {
            return Err(malformed(&"the URL must begin with https:// and name a host"));
        }
        Ok(Target { authorities, place: Place::Url(url) })
    }

    /// Host that the certificate must name, port and path.
    fn parts(&self) -> (String, u16, String) {
        match &self.place {
            Place::Url(url) => {
                let path = url.path_and_query().map_or("/", |p| p.as_str());
                let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
                (host.to_owned(), url.port_u16().unwrap_or(443), path.to_owned())
            }
            Place::Service { namespace, name, port, path } => {
                (format!("{name}.{namespace}.svc"), *port, path.clone())
            }
        }
    }
}

/// Calls webhooks.
pub struct Webhooks {
    services: Services,
    /// TLS by authorities, made once.
    connectors: Mutex<HashMap<Vec<u8>, TlsConnector>>,
}

impl Webhooks {
    /// Finds Services by `services`.
    pub fn new(services: Services) -> Self {
        Webhooks { services, connectors: Mutex::default() }
    }

    /// Posts a question and answers what came back.
    pub async fn call(
        &self,
        target: &Target,
        question: &Value,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let (host, port, path) = target.parts();
        let url = format!("https://{host}:{port}{path}");
        match tokio::time::timeout(timeout, self.exchange(target, question, &url)).await {
            Ok(done) => done,
            Err(_) => Err(CallError::Late(url)),
        }
    }

    async fn exchange(&self, target: &Target, question: &Value, url: &str) -> Result<Value, CallError> {
        let (host, port, path) = target.parts();
        let broken =
            |why: &dyn std::fmt::Display| CallError::Connect { url: url.into(), why: why.to_string() };
        let stream = match &target.place {
            Place::Url(_) => TcpStream::connect((host.as_str(), port)).await,
            Place::Service { namespace, name, port, .. } => {
                let address = self.services.address(namespace, name, *port);
                TcpStream::connect(address.map_err(|e| CallError::Service(e.message))?).await
            }
        };
        let stream = stream.map_err(|e| broken(&e))?;
        stream.set_nodelay(true).map_err(|e| broken(&e))?;
        let tls = self.connector(&target.authorities).map_err(|e| broken(&e))?;
        let name = ServerName::try_from(host.clone()).map_err(|e| broken(&e))?;
        let stream = tls.connect(name, stream).await.map_err(|e| broken(&e))?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        let connection = tokio::spawn(connection);
        let request: Request<Body> = Request::post(path.as_str())
            .header(HOST, format!("{host}:{port}"))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(full(question.to_string()))
            .map_err(|e| broken(&e))?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let code = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            Ok((code, body.map_err(|e| broken(&e))?.to_bytes()))
        }
        .await;
        connection.abort();
        let (code, body) = answered?;
        if !code.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(CallError::Refused(match text.trim() {
                "" => format!("the server answered {code}"),
                text => text.to_owned(),
            }));
        }
        serde_json::from_slice(&body).map_err(CallError::Malformed)
    }

    fn connector(&self, authorities: &[u8]) -> Result<TlsConnector, tls::TlsError> {
        let mut connectors = self.connectors.lock();
        if let Some(known) = connectors.get(authorities) {
            return Ok(known.clone());
        }
        let made = TlsConnector::from(tls::verifying_client(authorities)?);
        if connectors.len() >= KEPT {
            connectors.clear();
        }
        connectors.insert(authorities.to_vec(), made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_a_webhook_is() {
        let parts = |config: Value| Target::read(&config).map(|t| t.parts());
        assert_eq!(
            parts(json!({"service": {"namespace": "d", "name": "s", "path": "/crdconvert", "port": 9443}}))
                .unwrap(),
            ("s.d.svc".into(), 9443, "/crdconvert".into())
        );
        assert_eq!(
            parts(json!({"service": {"namespace": "d", "name": "s"}})).unwrap(),
            ("s.d.svc".into(), 443, "/".into())
        );
        assert_eq!(
            parts(json!({"url": "https://127.0.0.1:8443/a/b?c=d"})).unwrap(),
            ("127.0.0.1".into(), 8443, "/a/b?c=d".into())
        );
        assert!(parts(json!({"url": "http://127.0.0.1/"})).is_err());
        assert!(parts(json!({})).is_err());
        assert!(parts(json!({"caBundle": "%", "url": "https://h/"})).is_err());
    }
}
