//! The ports on which load balancers ask whether this node has endpoints of a Service (`healthCheckNodePort`), as
//! kube-proxy answers them: 200 with some, 503 with none, and how many there are.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use skep_dataplane::ServiceView;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How many endpoints, for balancers that weigh their nodes by it.
const WEIGHT: &str = "x-load-balancing-endpoint-weight";

/// What one port answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    namespace: String,
    name: String,
    /// Ready endpoints on this node, by address.
    local_endpoints: usize,
}

impl Answer {
    fn response(&self) -> Response<Full<Bytes>> {
        let status = if self.local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // Names of Services and namespaces are DNS labels: nothing in them needs escaping.
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {},\n\t\"serviceProxyHealthy\": true\n}}",
            self.namespace, self.name, self.local_endpoints
        );
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, hyper::header::HeaderValue::from_static("nosniff"));
        headers.insert(WEIGHT, self.local_endpoints.into());
        response
    }
}

/// What each port is to answer. Where two Services claim one, the first by namespace and name has it.
pub(crate) fn answers(view: &ServiceView) -> BTreeMap<u16, Answer> {
    let mut services: Vec<_> = view.services.iter().collect();
    services.sort_by_key(|s| (&s.namespace, &s.name));
    let mut answers = BTreeMap::new();
    for service in services {
        let Some(port) = service.health_check_port else { continue };
        let endpoints = service.ports.iter().flat_map(|p| &p.endpoints);
        let local: BTreeSet<IpAddr> = endpoints.filter(|e| e.local && e.ready).map(|e| e.addr).collect();
        // An endpoint of a Service of both families has an address of each.
        let v4 = local.iter().filter(|ip| ip.is_ipv4()).count();
        answers.entry(port).or_insert_with(|| Answer {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            local_endpoints: v4.max(local.len() - v4),
        });
    }
    answers
}

/// The open ports.
#[derive(Default)]
pub(crate) struct HealthChecks {
    open: BTreeMap<u16, (Arc<Mutex<Answer>>, JoinHandle<()>)>,
}

impl HealthChecks {
    /// Opens, closes and corrects ports until they are those of the view. A port that somebody else has is tried again with
    /// the next view; what is wrong is returned.
    pub(crate) async fn sync(&mut self, view: &ServiceView) -> Vec<String> {
        let mut problems = Vec::new();
        let wanted = answers(view);
        self.open.retain(|port, (_, task)| {
            let keep = wanted.contains_key(port);
            if !keep {
                task.abort();
            }
            keep
        });
        for (port, answer) in wanted {
            if let Some((shown, _)) = self.open.get(&port) {
                *shown.lock() = answer;
                continue;
            }
            match TcpListener::bind((crate::host::any(), port)).await {
                Ok(listener) => {
                    let shown = Arc::new(Mutex::new(answer));
                    let task = tokio::spawn(serve(listener, shown.clone()));
                    self.open.insert(port, (shown, task));
                }
                Err(error) => {
                    let service = format!("{}/{}", answer.namespace, answer.name);
                    tracing::warn!(port, service, %error, "the port for health checks is not open");
                    problems.push(format!("port {port} of {service} is not open: {error}"));
                }
            }
        }
        problems
    }
}

async fn serve(listener: TcpListener, answer: Arc<Mutex<Answer>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|_: Request<Incoming>| {
                let response = answer.lock().response();
                async move { Ok::<_, Infallible>(response) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Balancers ask and go; nobody needs a connection for longer.
            let _ = tokio::time::timeout(Duration::from_secs(30), connection).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_dataplane::{Endpoint, PortSpec, Protocol, ServiceSpec};
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn view(port: u16, local: &[(u8, bool)]) -> ServiceView {
        let endpoint = |(last, ready): &(u8, bool)| Endpoint {
            ready: *ready,
            ..Endpoint::ready(IpAddr::from([10, 244, 0, *last]), 80, true)
        };
        let mut endpoints: Vec<Endpoint> = local.iter().map(endpoint).collect();
        endpoints.push(Endpoint::ready(IpAddr::from([10, 244, 1, 1]), 80, false));
        let of = |name: &str| PortSpec {
            name: name.into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints: endpoints.clone(),
        };
        let service = ServiceSpec {
            namespace: "ns".into(),
            name: "web".into(),
            ports: vec![of("a"), of("b")],
            health_check_port: Some(port),
            ..ServiceSpec::default()
        };
        ServiceView { services: vec![service], ..ServiceView::default() }
    }

    #[test]
    fn ready_endpoints_of_the_node_are_counted_once() {
        let count = |local| answers(&view(32_001, local))[&32_001].local_endpoints;
        assert_eq!(count(&[(1, true), (2, true), (3, false)]), 2);
        assert_eq!(count(&[]), 0);
        let mut both = view(32_001, &[(1, true), (2, true)]);
        let second = Endpoint::ready("fd00::1".parse().unwrap(), 80, true);
        both.services[0].ports[0].endpoints.push(second);
        assert_eq!(answers(&both)[&32_001].local_endpoints, 2);
    }

    async fn ask(port: u16) -> Option<String> {
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    #[tokio::test]
    async fn ports_open_change_their_answer_and_close() {
        let port = {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            free.local_addr().unwrap().port()
        };
        let mut checks = HealthChecks::default();
        assert_eq!(checks.sync(&view(port, &[(1, true)])).await, [""; 0]);
        let text = ask(port).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("x-load-balancing-endpoint-weight: 1\r\n"), "{text}");
        assert!(text.contains("\"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}"), "{text}");
        checks.sync(&view(port, &[])).await;
        let text = ask(port).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.contains("\"namespace\": \"ns\",\n\t\t\"name\": \"web\""), "{text}");
        checks.sync(&ServiceView::default()).await;
        // The task that holds the port ends when the runtime comes to it.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(port).await, None);
    }
}
