//! Carrying probes and hooks out: in the container, over HTTP, TCP or gRPC.

use crate::core::observed::Outcome;
use crate::core::probe::Kind;
use crate::core::sandbox::id;
use crate::cri::Runtime;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, HTTPHeader, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;

/// What to do to a container, from a probe or a hook.
#[derive(Debug, Clone, Copy)]
pub enum Handler<'a> {
    /// Run a command in it.
    Exec(&'a [String]),
    /// Ask it over HTTP.
    Http(&'a HTTPGetAction),
    /// Connect to it.
    Tcp(&'a IntOrString, Option<&'a str>),
    /// Ask its gRPC health service.
    Grpc(i32, &'a str),
    /// Wait.
    Sleep(i64),
}

/// Answer of a handler and what to tell people about a failure.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Success or failure.
    pub outcome: Outcome,
    /// Output or error.
    pub text: String,
}

fn ok() -> Answer {
    Answer { outcome: Outcome::Success, text: String::new() }
}

fn bad(text: impl Into<String>) -> Answer {
    Answer { outcome: Outcome::Failure, text: text.into() }
}

/// A port by number, or by the name it has in the container.
pub fn port(p: &IntOrString, c: &Container) -> Option<u16> {
    match p {
        IntOrString::Int(n) => u16::try_from(*n).ok().filter(|n| *n > 0),
        IntOrString::String(s) => c
            .ports
            .iter()
            .flatten()
            .find(|x| x.name.as_deref() == Some(s))
            .and_then(|x| u16::try_from(x.container_port).ok())
            .or_else(|| s.parse().ok()),
    }
}

/// Runs a handler within `timeout`.
pub async fn run(
    rt: &Runtime,
    pod: &Pod,
    c: &Container,
    container_id: &str,
    ip: &str,
    h: Handler<'_>,
    timeout: Duration,
) -> Answer {
    let limited = async {
        match h {
            Handler::Exec(cmd) => match rt.exec_sync(container_id, cmd.to_vec(), timeout).await {
                Ok((0, _)) => ok(),
                Ok((code, out)) => {
                    let text = String::from_utf8_lossy(&out).into_owned();
                    bad(if text.is_empty() { format!("command exited with code {code}") } else { text })
                }
                Err(e) if e.message.contains("DeadlineExceeded") || e.message.contains("timeout") => bad(
                    format!("command timed out: {:?} timed out after {}s", cmd.join(" "), timeout.as_secs()),
                ),
                Err(e) => bad(e.to_string()),
            },
            Handler::Http(a) => http_get(pod, c, ip, a).await,
            Handler::Tcp(p, host) => {
                let Some(p) = port(p, c) else { return bad("port not found") };
                let host = host.filter(|h| !h.is_empty()).unwrap_or(ip);
                match TcpStream::connect((host, p)).await {
                    Ok(s) => {
                        // A reset instead of TIME_WAIT: probes must not use the port range up.
                        let _ = s.set_zero_linger();
                        ok()
                    }
                    Err(e) => bad(format!("dial tcp {host}:{p}: {e}")),
                }
            }
            Handler::Grpc(p, service) => grpc(ip, p, service).await,
            Handler::Sleep(s) => {
                tokio::time::sleep(Duration::from_secs(u64::try_from(s).unwrap_or(0))).await;
                ok()
            }
        }
    };
    match tokio::time::timeout(timeout, limited).await {
        Ok(a) => a,
        Err(_) => match h {
            Handler::Http(_) => bad(format!(
                "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                url(h, c, ip)
            )),
            Handler::Exec(cmd) => {
                bad(format!("command timed out: {:?} timed out after {}s", cmd.join(" "), timeout.as_secs()))
            }
            _ => bad(format!("timed out after {}s", timeout.as_secs())),
        },
    }
}

fn url(h: Handler<'_>, c: &Container, ip: &str) -> String {
    let Handler::Http(a) = h else { return String::new() };
    let scheme = a.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
    let host = a.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("{scheme}://{host}:{}{}", port(&a.port, c).unwrap_or(0), path(a))
}

fn path(a: &HTTPGetAction) -> String {
    let p = a.path.as_deref().unwrap_or("/");
    if p.starts_with('/') { p.to_owned() } else { format!("/{p}") }
}

async fn http_get(pod: &Pod, c: &Container, ip: &str, a: &HTTPGetAction) -> Answer {
    let Some(p) = port(&a.port, c) else { return bad("port not found") };
    let host = a.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
    let target = url(Handler::Http(a), c, ip);
    let told = |e: &dyn std::fmt::Display| bad(format!("Get {target:?}: {e}"));
    let stream = match TcpStream::connect((host, p)).await {
        Ok(s) => s,
        Err(e) => return told(&format!("dial tcp {host}:{p}: {e}")),
    };
    let _ = stream.set_zero_linger();
    let headers = a.http_headers.as_deref().unwrap_or_default();
    let _ = id(pod);
    let status = if a.scheme.as_deref() == Some("HTTPS") {
        match tls(stream, host).await {
            Ok(s) => request(s, host, p, &path(a), headers).await,
            Err(e) => return told(&e),
        }
    } else {
        request(stream, host, p, &path(a), headers).await
    };
    match status {
        Ok((code, _)) if (200..400).contains(&code) => ok(),
        Ok((code, _)) => bad(format!("HTTP probe failed with statuscode: {code}")),
        Err(e) => told(&e),
    }
}

/// Longest body that is read of an answer.
const BODY: usize = 10 << 10;

async fn request<S>(
    s: S,
    host: &str,
    port: u16,
    path: &str,
    headers: &[HTTPHeader],
) -> Result<(u16, Bytes), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(s)).await.map_err(|e| e.to_string())?;
    let task = tokio::spawn(async move {
        let _ = conn.await;
    });
    let mut r = http::Request::builder().method("GET").uri(path);
    let has = |n: &str| headers.iter().any(|h| h.name.eq_ignore_ascii_case(n));
    if !has("host") {
        r = r.header(
            "Host",
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
        );
    }
    if !has("user-agent") {
        r = r.header("User-Agent", "kube-probe/1.36");
    }
    if !has("accept") {
        r = r.header("Accept", "*/*");
    }
    for h in headers {
        r = r.header(h.name.as_str(), h.value.as_str());
    }
    let r = r.header("Connection", "close").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let answer = sender.send_request(r).await.map_err(|e| e.to_string());
    let out = match answer {
        Ok(a) => {
            let code = a.status().as_u16();
            let body =
                Limited::new(a.into_body(), BODY).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            Ok((code, body))
        }
        Err(e) => Err(e),
    };
    task.abort();
    out
}

async fn tls(s: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let config = skep_streams::tls::unverified().map_err(|e| e.to_string())?;
    let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    tokio_rustls::TlsConnector::from(config).connect(name, s).await.map_err(|e| e.to_string())
}

/// A probe of one container, as it is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Name of the container.
    pub container: String,
    /// The runtime's identifier of the container.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
}

/// How often probes ended how: well or badly.
#[derive(Debug, Default)]
pub struct Counts(parking_lot::Mutex<BTreeMap<Key, [u64; 2]>>);

impl Counts {
    /// Counts the end of a probe.
    pub fn count(&self, key: &Key, outcome: Outcome) {
        let at = match outcome {
            Outcome::Success => 0,
            Outcome::Failure => 1,
        };
        if let Some(count) = self.0.lock().entry(key.clone()).or_default().get_mut(at) {
            *count += 1;
        }
    }

    /// Forgets a probe whose container is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// Shows all, by namespace and pod.
    pub fn each(&self, mut show: impl FnMut(&Key, &[u64; 2])) {
        self.0.lock().iter().for_each(|(key, counts)| show(key, counts));
    }
}

/// `grpc.health.v1.Health/Check`, whose two messages are small enough to write down here.
mod health {
    /// `HealthCheckRequest`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(string, tag = "1")]
        pub(super) service: String,
    }

    /// `HealthCheckResponse`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Response {
        #[prost(int32, tag = "1")]
        pub(super) status: i32,
    }
}

async fn grpc(ip: &str, port: i32, service: &str) -> Answer {
    let at = if ip.contains(':') { format!("http://[{ip}]:{port}") } else { format!("http://{ip}:{port}") };
    let endpoint = match tonic::transport::Endpoint::from_shared(at.clone()) {
        Ok(e) => e,
        Err(e) => return bad(e.to_string()),
    };
    let channel = match endpoint.connect().await {
        Ok(c) => c,
        Err(e) => return bad(format!("timeout: failed to connect service {at:?}: {e}")),
    };
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(e) = client.ready().await {
        return bad(e.to_string());
    }
    let codec = tonic_prost::ProstCodec::<health::Request, health::Response>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(health::Request { service: service.to_owned() });
    match client.unary(request, path, codec).await {
        Ok(r) if r.get_ref().status == 1 => ok(),
        Ok(r) => {
            let word = match r.get_ref().status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            bad(format!("service unhealthy (responded with {word:?})"))
        }
        Err(e) if e.code() == tonic::Code::Unimplemented => bad(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            e.message()
        )),
        Err(e) => bad(format!("error: health rpc probe failed: {}", e.message())),
    }
}
