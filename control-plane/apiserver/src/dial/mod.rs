//! Dialling out: to the agents of nodes, to pods, and to Services by one of their endpoints. The server does so itself; the
//! addresses of nodes and pods are routable from where it runs.
//!
//! A connection carries one request, and whatever it is upgraded to.

mod service;
mod target;
#[cfg(test)]
mod tests;

pub use service::Services;
use target::authority;
pub use target::{Named, Security, Target, agent, backend_failure, may_be_dialled, node, pod, unreachable};

use crate::hooks::{Body, BodyError};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long another end may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing came back. The words are those of the clients upstream is written with, which people know.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("dial tcp {authority}: {}", told(why))]
    Connect {
        /// Where to.
        authority: String,
        /// Why not.
        why: io::Error,
    },
    /// A connection, but no TLS on it.
    #[error("tls: {why}")]
    Tls {
        /// Why not.
        why: io::Error,
    },
    /// A connection that broke off before an answer.
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

fn told(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => why.to_string(),
    }
}

/// A byte stream, plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Dials targets.
#[derive(Clone)]
pub struct Dialer {
    agents: TlsConnector,
    unverified: TlsConnector,
}

impl Dialer {
    /// `agents`: how the server shows itself to agents, and which certificates of theirs it accepts.
    ///
    /// # Errors
    /// When TLS cannot be configured at all.
    pub fn new(agents: Arc<rustls::ClientConfig>) -> Result<Self, rustls::Error> {
        Ok(Dialer { agents: agents.into(), unverified: skep_streams::tls::unverified()?.into() })
    }

    /// Sends a request and answers its response, whose body and upgrade go on as long as they like. The request's URI is a
    /// path; its `Host` header is the caller's to set.
    pub async fn send(
        &self,
        target: &Target,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, DialError> {
        exchange(self.connect(target).await?, request).await
    }

    async fn connect(&self, target: &Target) -> Result<Box<dyn Stream>, DialError> {
        let stream = tcp(&target.host, target.port).await?;
        let tls = match target.security {
            Security::Plain => return Ok(Box::new(stream)),
            Security::Unverified => &self.unverified,
            Security::Agent => &self.agents,
        };
        let name = ServerName::try_from(target.host.clone())
            .map_err(|why| DialError::Tls { why: io::Error::other(why) })?;
        Ok(Box::new(greet(tls, name, stream).await?))
    }
}

/// Sends a request over TLS of the caller's own terms: for webhooks, which their own CA vouches for; those behind a Service
/// as `NAME.NAMESPACE.svc` at its [`Services::address`].
///
/// # Errors
/// When no connection or no answer comes.
pub async fn send_verified(
    (host, port): (&str, u16),
    name: ServerName<'static>,
    tls: Arc<rustls::ClientConfig>,
    request: Request<Body>,
) -> Result<Response<Incoming>, DialError> {
    let stream = greet(&tls.into(), name, tcp(host, port).await?).await?;
    exchange(Box::new(stream), request).await
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let refused = |why: io::Error| DialError::Connect { authority: authority(host, port), why };
    let stream = in_time(TcpStream::connect((host, port))).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    Ok(stream)
}

async fn greet(
    tls: &TlsConnector,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, DialError> {
    in_time(tls.connect(name, stream)).await.map_err(|why| DialError::Tls { why })
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(late).and_then(|done| done)
}

/// One request on a fresh connection.
async fn exchange(stream: Box<dyn Stream>, request: Request<Body>) -> Result<Response<Incoming>, DialError> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(why) = connection.with_upgrades().await {
            tracing::debug!(%why, "a connection ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

/// An answer from elsewhere as one of ours.
pub fn incoming(response: Response<Incoming>) -> Response<Body> {
    response.map(|body| body.map_err(BodyError::from).boxed_unsync())
}
