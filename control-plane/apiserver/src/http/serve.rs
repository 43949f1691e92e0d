//! Accepting connections.

use super::chain::Peer;
use super::gather::gather;
use crate::hooks::BodyError;
use crate::server::ApiServer;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a client may take to say hello.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests in flight may go on when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// Streams a client may have open on one HTTP/2 connection.
const STREAMS: u32 = 1000;
/// How often an idle HTTP/2 connection is tried.
const PING: Duration = Duration::from_secs(30);

impl ApiServer {
    /// Serves HTTPS on `listener` until `stop` completes; then watches end, and requests in flight have a few seconds.
    /// `tls` decides about client certificates and should offer `h2` and `http/1.1`.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: impl Future<Output = ()> + Send,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        let mut connections = JoinSet::new();
        let mut chores = JoinSet::new();
        chores.spawn(crate::expiry::run(self.registry.caches().clone()));
        chores.spawn(crate::compaction::run(self.registry.caches().store().clone()));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(self.clone().connection(acceptor.clone(), stream));
                    }
                    Err(why) => {
                        // Out of descriptors, most likely: waiting lets others finish.
                        tracing::warn!(%why, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(listener);
        self.stopping.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }

    async fn connection(self: Arc<Self>, acceptor: TlsAcceptor, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let address = stream.peer_addr().ok().map(|address| address.ip());
        let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return tracing::debug!(%why, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let shown = self.authenticator.shown(certificates);
        let peer = Arc::new(Peer { address, shown, watches: AtomicUsize::new(0) });
        let watching = peer.clone();
        let mut stopping = self.stopping.subscribe();
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, peer) = (self.clone(), peer.clone());
            let mut request = request.map(|body| body.map_err(BodyError::from).boxed_unsync());
            request.extensions_mut().insert(peer.clone());
            let answer: BoxFuture<'static, _> = Box::pin(server.answer(request, peer));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(300));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let (stream, mut outlet) = gather(stream);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut asked = false;
        loop {
            tokio::select! {
                done = poll_fn(|cx| {
                    let several = watching.watches.load(Ordering::Relaxed) > 1;
                    outlet.poll(cx, several, connection.as_mut())
                }) => {
                    if let Err(why) = done {
                        tracing::debug!(%why, "connection ended");
                    }
                    return;
                }
                _ = stopping.wait_for(|stop| *stop), if !asked => {
                    asked = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
