//! Requests to an agent, over TLS both ends of which the cluster CA vouches for.

use super::choose::Place;
use crate::hooks::{Body, BodyError, full};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use skep_api::{Reason, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an agent may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest error text that is read of an agent.
const ERROR_TEXT: usize = 64 << 10;

fn incoming(response: Response<Incoming>) -> Response<Body> {
    response.map(|body| body.map_err(BodyError::from).boxed_unsync())
}

pub(super) struct Agent {
    tls: TlsConnector,
}

/// A WebSocket upgrade that a client asks for.
pub(super) struct Upgrade {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Upgrade {
    /// Reads the headers of an upgrade; 400 where none is asked for, or one that is not served.
    pub(super) fn wanted(headers: &HeaderMap) -> Result<Upgrade, Status> {
        let says = |name: HeaderName| {
            headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase()
        };
        let protocol = says(UPGRADE);
        if protocol.is_empty() || !says(CONNECTION).split(',').any(|t| t.trim() == "upgrade") {
            return Err(Status::bad_request("Upgrade request required"));
        }
        if protocol != "websocket" {
            return Err(Status::bad_request(format!(
                "streams of {protocol:?} are not served; use WebSocket, as kubectl from version 1.31 on does"
            )));
        }
        let names = [
            "sec-websocket-key",
            "sec-websocket-version",
            "sec-websocket-protocol",
            "sec-websocket-extensions",
        ];
        let mut out = Vec::new();
        for name in names.map(HeaderName::from_static) {
            out.extend(headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
        }
        Ok(Upgrade { headers: out })
    }
}

impl Agent {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Agent { tls: TlsConnector::from(tls) }
    }

    async fn connect(&self, place: &Place) -> Result<SendRequest<Body>, Status> {
        let authority = authority(place);
        let fail = |what: &str, why: &dyn std::fmt::Display| {
            Status::internal(format!("{what} agent at {authority}: {why}"))
        };
        let name = ServerName::try_from(place.host.clone()).map_err(|e| fail("cannot name the", &e))?;
        let connecting = async {
            let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| fail("cannot reach the", &"timed out"))?
            .map_err(|e| fail("cannot reach the", &e))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| fail("cannot talk to the", &e))?;
        tokio::spawn(async move {
            if let Err(why) = connection.with_upgrades().await {
                tracing::debug!(%why, "a connection to an agent ended");
            }
        });
        Ok(sender)
    }

    /// What the agent answers to a GET, streamed; its errors as a [`Status`].
    pub(super) async fn get(&self, place: &Place, path: &str) -> Result<Response<Body>, Status> {
        let request = request(place, path).body(full(Bytes::new())).map_err(Status::internal)?;
        let response = self.send(place, request).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        Ok(response)
    }

    /// Passes a request on as it is, and the answer back.
    pub(super) async fn forward(
        &self,
        place: &Place,
        path: &str,
        from: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (parts, body) = from.into_parts();
        let mut request = request(place, path).method(parts.method).body(body).map_err(Status::internal)?;
        // Not the client's credentials, nor what belongs to its own connection.
        const KEPT_BACK: [&str; 5] = ["authorization", "host", "connection", "transfer-encoding", "te"];
        for (name, value) in &parts.headers {
            if !KEPT_BACK.contains(&name.as_str()) && !name.as_str().starts_with("impersonate-") {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        self.send(place, request).await
    }

    async fn send(&self, place: &Place, request: Request<Body>) -> Result<Response<Body>, Status> {
        let mut sender = self.connect(place).await?;
        let response = sender.send_request(request).await;
        let mut response = response
            .map_err(|e| Status::internal(format!("the agent at {} broke off: {e}", authority(place))))?;
        response.headers_mut().remove(CONNECTION);
        response.headers_mut().remove(http::header::TRANSFER_ENCODING);
        Ok(incoming(response))
    }

    /// Upgrades the client's connection to whatever the agent agrees to.
    pub(super) async fn upgrade(
        &self,
        place: &Place,
        path: &str,
        upgrade: Upgrade,
        client: &mut Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let mut request = request(place, path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .body(full(Bytes::new()))
            .map_err(Status::internal)?;
        request.headers_mut().extend(upgrade.headers);
        let mut sender = self.connect(place).await?;
        let mut response = sender
            .send_request(request)
            .await
            .map_err(|e| Status::internal(format!("the agent at {} broke off: {e}", authority(place))))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(incoming(response)).await);
        }
        tokio::spawn(splice(hyper::upgrade::on(client), hyper::upgrade::on(&mut response)));
        let mut answer = Response::new(full(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in response.headers() {
            if name == UPGRADE || name == CONNECTION || name.as_str().starts_with("sec-websocket-") {
                answer.headers_mut().append(name.clone(), value.clone());
            }
        }
        Ok(answer)
    }
}

async fn splice(client: OnUpgrade, agent: OnUpgrade) {
    let (client, agent) = match futures::future::try_join(client, agent).await {
        Ok(both) => both,
        Err(why) => return tracing::debug!(%why, "an upgrade failed"),
    };
    let done = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(agent)).await;
    if let Err(why) = done {
        tracing::debug!(%why, "a stream to a pod ended");
    }
}

fn authority(place: &Place) -> String {
    if place.host.contains(':') {
        format!("[{}]:{}", place.host, place.port)
    } else {
        format!("{}:{}", place.host, place.port)
    }
}

fn request(place: &Place, path: &str) -> http::request::Builder {
    Request::builder().method("GET").uri(path).header(HOST, authority(place))
}

/// What an agent's refusal means to the client.
async fn refused(response: Response<Body>) -> Status {
    let code = response.status();
    let text = match Limited::new(response.into_body(), ERROR_TEXT).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(why) => why.to_string(),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::new(Reason::NotFound, text),
        StatusCode::TOO_MANY_REQUESTS => Status::too_many_requests(text, 1),
        _ => Status::internal(format!("the agent answered {code}: {text}")),
    }
}

/// A text that is at hand.
pub(super) fn plain(text: String) -> Result<Response<Body>, Status> {
    Response::builder().header(CONTENT_TYPE, "text/plain").body(full(text)).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_upgrades_are_passed_on() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
                .collect::<HeaderMap>()
        };
        let good = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ("authorization", "Bearer x"),
        ]);
        let passed = Upgrade::wanted(&good).unwrap().headers;
        assert_eq!(
            passed.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
            ["sec-websocket-key", "sec-websocket-protocol"]
        );
        assert_eq!(Upgrade::wanted(&headers(&[])).err().unwrap().message, "Upgrade request required");
        let spdy =
            Upgrade::wanted(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])).err().unwrap();
        assert_eq!(spdy.code, 400);
        assert!(spdy.message.contains("spdy/3.1"), "{spdy}");
    }
}
