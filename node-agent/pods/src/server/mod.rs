//! The node's HTTPS server, as the API server calls it: logs, exec, attach, port-forward, pods, figures.

pub mod access;
pub mod figures;
mod files;
pub mod logs;
pub mod metrics;
mod query;
pub mod stream;
pub mod translate;

use crate::core::observed::{Container, State};
use crate::core::sandbox::id;
use crate::manager::Pods;
use crate::worker::Shown;
use access::{Access, Refusal};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use query::Query;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answer bodies.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why the server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file of certificates or keys.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Reads certificate, key and client authority into a TLS configuration that asks clients for certificates; who has none may
/// show a token.
pub fn tls(cert: &Path, key: &Path, ca: &Path) -> Result<TlsAcceptor, ServerError> {
    let file = |p: &Path, why: String| ServerError::File { file: p.display().to_string(), why };
    let certs = |p: &Path| -> Result<Vec<CertificateDer<'static>>, ServerError> {
        CertificateDer::pem_file_iter(p)
            .map_err(|e| file(p, e.to_string()))?
            .collect::<Result<_, _>>()
            .map_err(|e| file(p, e.to_string()))
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for c in certs(ca)? {
        roots.add(c).map_err(|e| file(ca, e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let bad = |e: &dyn std::fmt::Display| ServerError::Tls(e.to_string());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| bad(&e))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs(cert)?, private)
        .map_err(|e| bad(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What the server shows beside the pods themselves.
pub trait Extra: Send + Sync + 'static {
    /// Lines in the text format of Prometheus. It may block for some milliseconds.
    fn metrics(&self) -> String;

    /// What the node says of its dataplane, under `/skep/status`. It may block for some milliseconds.
    fn status(&self) -> serde_json::Value;
}

/// The server.
#[derive(Clone)]
pub struct Server {
    pods: Pods,
    extra: Arc<dyn Extra>,
    access: Arc<Access>,
}

impl Server {
    /// A server for these pods.
    pub fn new(pods: Pods, extra: Arc<dyn Extra>) -> Self {
        let access = Arc::new(Access::new(Arc::new(pods.context().api.clone())));
        Self { pods, extra, access }
    }

    /// Answers until dropped.
    pub async fn run(self, listener: TcpListener, tls: TlsAcceptor) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (this, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let hello =
                    tokio::time::timeout(std::time::Duration::from_secs(10), tls.accept(stream)).await;
                let Ok(Ok(stream)) = hello else { return };
                let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
                let certificate: Option<Arc<[u8]>> = shown.map(|c| c.as_ref().into());
                let service = hyper::service::service_fn(move |r| {
                    let (this, certificate) = (this.clone(), certificate.clone());
                    async move { Ok::<_, Infallible>(this.admit(r, certificate.as_deref()).await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    }

    /// Answers whoever may ask.
    async fn admit(&self, r: Request<Incoming>, certificate: Option<&[u8]>) -> Response<Body> {
        let header = r.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token.map(|(_, token)| token.trim()).filter(|token| !token.is_empty());
        match self.access.check(certificate, token, r.method().as_str(), r.uri().path()).await {
            Ok(()) => self.answer(r).await,
            Err(Refusal::Unauthorized) => text(StatusCode::UNAUTHORIZED, "Unauthorized\n"),
            Err(Refusal::Forbidden(why)) => text(StatusCode::FORBIDDEN, &format!("{why}\n")),
            Err(Refusal::Unknown(why)) => {
                tracing::warn!(%why, "it cannot be found out who asks and what they may");
                text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Error\n")
            }
        }
    }

    async fn answer(&self, r: Request<Incoming>) -> Response<Body> {
        let path = r.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let q = Query::parse(r.uri().query().unwrap_or_default());
        if !matches!(*r.method(), Method::GET | Method::POST) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        match parts.as_slice() {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => text(StatusCode::OK, "ok"),
            ["pods"] => self.list(false),
            ["runningpods"] => self.list(true),
            ["metrics"] => {
                let mut out = metrics::agent(&figures::gather(&self.pods).await, metrics::Own::now());
                let extra = self.extra.clone();
                out.push_str(&tokio::task::spawn_blocking(move || extra.metrics()).await.unwrap_or_default());
                prometheus(&out)
            }
            ["metrics", "cadvisor"] => prometheus(&metrics::cadvisor(&figures::gather(&self.pods).await)),
            ["metrics", "resource"] => prometheus(&metrics::resource(&figures::gather(&self.pods).await)),
            ["metrics", "probes"] => prometheus(&metrics::probes(&self.pods.context().probes)),
            ["stats", "summary"] => self.summary().await,
            ["skep", "status"] => {
                let extra = self.extra.clone();
                json(&tokio::task::spawn_blocking(move || extra.status()).await.unwrap_or_default())
            }
            ["configz"] => json(&self.config()),
            ["logs", ..] => {
                let below = path.trim_start_matches('/').strip_prefix("logs").unwrap_or_default();
                files::answer(Path::new(files::LOGS), &query::decode(below)).await
            }
            ["containerLogs", ns, pod, c] => self.logs(ns, pod, c, &q).await,
            ["exec", ns, pod, rest @ ..] => {
                let c = rest.last().copied().unwrap_or_default().to_owned();
                self.exec(r, ns, pod, &c, &q).await
            }
            ["attach", ns, pod, rest @ ..] => {
                let c = rest.last().copied().unwrap_or_default().to_owned();
                self.attach(r, ns, pod, &c, &q).await
            }
            ["portForward", ns, pod, ..] => self.forward(r, ns, pod, &q).await,
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn list(&self, running: bool) -> Response<Body> {
        let items: Vec<_> = self
            .pods
            .list()
            .into_iter()
            .filter(|s| !running || s.seen.any_running())
            .map(|s| (*s.pod).clone())
            .collect();
        json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    async fn summary(&self) -> Response<Body> {
        let figures = figures::gather(&self.pods).await;
        if figures.incomplete {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the runtime does not tell what containers use\n",
            );
        }
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        json(&figures::summary(&figures, &now.to_string()))
    }

    /// What the node is set to, in the words of a kubelet's configuration; only what is so.
    fn config(&self) -> serde_json::Value {
        let node = &self.pods.context().node;
        serde_json::json!({"kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "clusterDNS": node.cluster_dns,
            "clusterDomain": node.cluster_domain,
            "maxPods": crate::node::MAX_PODS,
            "podLogsDir": node.log_dir,
            "cgroupRoot": node.cgroup,
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
            "authorization": {"mode": "Webhook"},
            "enableServer": true,
            "enableDebuggingHandlers": true,
            "enableSystemLogHandler": true,
        }})
    }

    fn pod(&self, ns: &str, name: &str, q: &Query) -> Result<Shown, Box<Response<Body>>> {
        let found = match q.get("uid") {
            Some(uid) => self.pods.by_uid(uid),
            None => self.pods.find(ns, name),
        };
        found
            .ok_or_else(|| Box::new(text(StatusCode::NOT_FOUND, &format!("pod \"{name}_{ns}\" not found\n"))))
    }

    /// The running container that was asked for.
    fn running(&self, s: &Shown, name: &str) -> Result<Container, Box<Response<Body>>> {
        let first = s.pod.spec.as_ref().and_then(|p| p.containers.first()).map(|c| c.name.clone());
        let name = if name.is_empty() { first.unwrap_or_default() } else { name.to_owned() };
        s.seen.container(&name).filter(|c| c.state == State::Running).cloned().ok_or_else(|| {
            Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, &format!("container not found ({name:?})\n")))
        })
    }

    async fn logs(&self, ns: &str, name: &str, container: &str, q: &Query) -> Response<Body> {
        let s = match self.pod(ns, name, q) {
            Ok(s) => s,
            Err(r) => return *r,
        };
        let known = s.pod.spec.as_ref().is_some_and(|p| crate::core::spec::find(p, container).is_some());
        if !known {
            let m = format!("container {container:?} not found in pod {name:?}\n");
            return text(StatusCode::NOT_FOUND, &m);
        }
        let previous = q.flag("previous");
        let mut of = s.seen.containers.iter().filter(|c| c.name == container && c.started_at > 0);
        let chosen = if previous {
            match s.seen.container(container) {
                Some(c) if c.state == State::Exited && of.clone().count() == 1 => None,
                _ => of.nth(1),
            }
        } else {
            of.next()
        };
        let Some(c) = chosen else {
            if previous {
                let m = format!("previous terminated container {container:?} in pod {name:?} not found\n");
                return text(StatusCode::BAD_REQUEST, &m);
            }
            let why = s
                .pod
                .status
                .iter()
                .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten())
                .find(|c| c.name == container)
                .and_then(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone())
                .unwrap_or_else(|| "ContainerCreating".into());
            let m = format!("container {container:?} in pod {name:?} is waiting to start: {why}\n");
            return text(StatusCode::BAD_REQUEST, &m);
        };
        let (_, _, uid) = id(&s.pod);
        let log = self
            .pods
            .context()
            .node
            .pod_logs(ns, name, uid)
            .join(container)
            .join(format!("{}.log", c.attempt));
        let since = q.get("sinceTime").and_then(|t| t.parse().ok()).or_else(|| {
            let secs = q.get("sinceSeconds")?.parse::<i64>().ok()?;
            jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(secs)).ok()
        });
        let options = logs::Options {
            follow: q.flag("follow"),
            tail: q.get("tailLines").and_then(|t| t.parse().ok()),
            since,
            timestamps: q.flag("timestamps"),
            limit: q.get("limitBytes").and_then(|t| t.parse().ok()),
            stream: q.get("stream").filter(|s| *s != "All").map(str::to_owned),
        };
        let (tx, rx) = tokio::sync::mpsc::channel(8);
        let (pods, uid, cid) = (self.pods.clone(), uid.to_owned(), c.id.clone());
        let alive = move || {
            pods.by_uid(&uid).is_some_and(|s| {
                s.seen
                    .containers
                    .iter()
                    .any(|c| c.id == cid && matches!(c.state, State::Running | State::Created))
            })
        };
        tokio::spawn(async move {
            if let Err(error) = logs::send(log, options, tx, alive).await {
                tracing::debug!(%error, "log not sent");
            }
        });
        let stream = futures::stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|b| (b, rx)) });
        let body = StreamBody::new(stream.map(|b| Ok::<_, Infallible>(Frame::data(b)))).boxed_unsync();
        let mut r = Response::new(body);
        r.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
        r
    }

    async fn exec(
        &self,
        r: Request<Incoming>,
        ns: &str,
        pod: &str,
        container: &str,
        q: &Query,
    ) -> Response<Body> {
        let c = match self.pod(ns, pod, q).and_then(|s| self.running(&s, container)) {
            Ok(c) => c,
            Err(r) => return *r,
        };
        let w = match wanted(q) {
            Ok(w) => w,
            Err(r) => return *r,
        };
        let request = cri::ExecRequest {
            container_id: c.id,
            cmd: q.all("command"),
            tty: w.tty,
            stdin: w.stdin,
            stdout: w.stdout,
            stderr: w.stderr && !w.tty,
        };
        match self.pods.context().rt.exec_url(request).await {
            Ok(url) => stream::serve(r, &url, stream::Kind::Command(w)).await,
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &e.message),
        }
    }

    async fn attach(
        &self,
        r: Request<Incoming>,
        ns: &str,
        pod: &str,
        container: &str,
        q: &Query,
    ) -> Response<Body> {
        let found = self.pod(ns, pod, q).and_then(|s| self.running(&s, container).map(|c| (s, c)));
        let (s, c) = match found {
            Ok(x) => x,
            Err(r) => return *r,
        };
        let mut w = match wanted(q) {
            Ok(w) => w,
            Err(r) => return *r,
        };
        w.tty = s
            .pod
            .spec
            .as_ref()
            .and_then(|p| crate::core::spec::find(p, &c.name))
            .is_some_and(|c| c.tty == Some(true));
        let request = cri::AttachRequest {
            container_id: c.id,
            stdin: w.stdin,
            tty: w.tty,
            stdout: w.stdout,
            stderr: w.stderr && !w.tty,
        };
        match self.pods.context().rt.attach_url(request).await {
            Ok(url) => stream::serve(r, &url, stream::Kind::Command(w)).await,
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &e.message),
        }
    }

    async fn forward(&self, r: Request<Incoming>, ns: &str, pod: &str, q: &Query) -> Response<Body> {
        let s = match self.pod(ns, pod, q) {
            Ok(s) => s,
            Err(r) => return *r,
        };
        // WebSocket clients name their ports here; those of SPDY with each connection.
        let named = [q.all("port"), q.all("ports")].concat();
        let ports: Result<Vec<u16>, _> = named.iter().flat_map(|p| p.split(',')).map(str::parse).collect();
        let Ok(ports) = ports else {
            return text(StatusCode::BAD_REQUEST, "query parameter \"port\" is not a port number\n");
        };
        let Some(sandbox) = s.seen.sandboxes.first().filter(|x| x.ready) else {
            return text(StatusCode::NOT_FOUND, "the pod is not running\n");
        };
        let ports = ports.into_iter().map(i32::from).collect();
        match self.pods.context().rt.port_forward_url(&sandbox.id, ports).await {
            Ok(url) => stream::serve(r, &url, stream::Kind::Ports).await,
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &e.message),
        }
    }
}

/// The streams a client asks for; 400 for none at all.
fn wanted(q: &Query) -> Result<translate::Wanted, Box<Response<Body>>> {
    let flag = |a: &str, b: &str| q.flag(a) || q.flag(b);
    let wanted = translate::Wanted {
        stdin: flag("stdin", "input"),
        stdout: flag("stdout", "output"),
        stderr: flag("stderr", "error"),
        tty: q.flag("tty"),
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        let why = "you must specify at least 1 of stdin, stdout, stderr\n";
        return Err(Box::new(text(StatusCode::BAD_REQUEST, why)));
    }
    Ok(wanted)
}

/// A plain text answer.
pub fn text(status: StatusCode, body: &str) -> Response<Body> {
    let mut r = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed_unsync());
    *r.status_mut() = status;
    r.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    r
}

fn json(v: &serde_json::Value) -> Response<Body> {
    let mut r = text(StatusCode::OK, &v.to_string());
    r.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    r
}

fn prometheus(lines: &str) -> Response<Body> {
    let mut r = text(StatusCode::OK, lines);
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    r.headers_mut().insert(header::CONTENT_TYPE, kind);
    r
}

/// The health endpoint on the loopback address, plain HTTP.
pub async fn health(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|r: Request<Incoming>| async move {
                Ok::<_, Infallible>(match r.uri().path() {
                    "/healthz" | "/livez" | "/readyz" => text(StatusCode::OK, "ok"),
                    _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                })
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
