//! The port on which load balancers and people ask whether this node takes traffic for Services, as kube-proxy answers them:
//! `/healthz` says whether the tables follow the API and the node is not about to go, `/livez` only the former.

use crate::board::{Asked, Board, Health, Subject};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_client::Informer;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// The taint by which the cluster autoscaler says that a node is about to go.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// The zero of kube-proxy's clock.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Whether a node may be sent traffic, as its object says.
fn is_eligible(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array();
    node["metadata"]["deletionTimestamp"].is_null()
        && !taints.into_iter().flatten().any(|taint| taint["key"] == TO_BE_DELETED)
}

/// The answer: whether all is well, and its body. `eligible` is left out of what `/livez` says.
fn answer(health: &Health, now: Timestamp, eligible: Option<bool>) -> (bool, Value) {
    let well = health.healthy && eligible.unwrap_or(true);
    let last = health.last.map_or(NEVER.to_owned(), |at| at.to_string());
    // A healthy proxy was up to date just now, whenever it last had something to do.
    let updated = if well { now.to_string() } else { last.clone() };
    let mut body = json!({
        "lastUpdated": updated,
        "currentTime": now.to_string(),
        "healthy": health.healthy,
    });
    if let Some(eligible) = eligible {
        body["nodeEligible"] = eligible.into();
    }
    if health.last.is_some() {
        body["status"] = json!({"IPv4": {"lastUpdated": last, "healthy": health.healthy}});
    }
    (well, body)
}

/// Who is asked.
#[derive(Clone)]
pub(crate) struct ProxyHealth {
    /// How the tables stand.
    pub(crate) board: Board,
    /// The nodes.
    pub(crate) nodes: Informer,
    /// The name of this one.
    pub(crate) node: String,
}

impl ProxyHealth {
    fn respond(&self, path: &str) -> Response<Full<Bytes>> {
        let (asked, eligible) = match path {
            "/healthz" => {
                let own = self.nodes.get("", &self.node);
                (Asked::Healthz, Some(own.is_some_and(|own| is_eligible(&own.value()))))
            }
            "/livez" => (Asked::Livez, None),
            _ => {
                let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found\n")));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
        };
        let (well, body) = answer(&self.board.health(Instant::now()), Timestamp::now(), eligible);
        self.board.answered(asked, well);
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// Answers for as long as the agent lives. A port that somebody else has is tried again.
    pub(crate) async fn serve(self, port: u16) {
        let listener = loop {
            // Both families, where there are two.
            let bound = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Ok(listener) => Ok(listener),
                Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
            };
            match bound {
                Ok(listener) => break listener,
                Err(error) => {
                    let why =
                        format!("port {port} is not open: {error}; choose another by --proxy-healthz-port");
                    tracing::warn!(why, "nobody can ask after the proxy's health");
                    self.board.note(Subject::ProxyHealth, vec![why]);
                }
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        };
        self.board.note(Subject::ProxyHealth, vec![]);
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let this = self.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|request: Request<Incoming>| {
                    let response = this.respond(request.uri().path());
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(Duration::from_secs(30), connection).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_about_to_go_takes_no_traffic() {
        assert!(is_eligible(&json!({"metadata": {}, "spec": {"taints": [{"key": "other"}]}})));
        assert!(!is_eligible(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
        let tainted =
            json!({"metadata": {}, "spec": {"taints": [{"key": TO_BE_DELETED, "effect": "NoSchedule"}]}});
        assert!(!is_eligible(&tainted));
    }

    #[test]
    fn answers_are_kube_proxys() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let last: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let health = |healthy, last| Health { healthy, last };
        let (well, body) = answer(&health(true, Some(last)), now, Some(true));
        let status = json!({"IPv4": {"lastUpdated": "2026-01-01T00:00:00Z", "healthy": true}});
        let wanted = json!({
            "lastUpdated": "2026-01-01T00:01:00Z",
            "currentTime": "2026-01-01T00:01:00Z",
            "nodeEligible": true,
            "healthy": true,
            "status": status,
        });
        assert_eq!((well, body), (true, wanted));
        let (well, body) = answer(&health(true, Some(last)), now, Some(false));
        assert_eq!((well, &body["lastUpdated"]), (false, &json!("2026-01-01T00:00:00Z")));
        assert_eq!(body["healthy"], true, "the tables follow all the same");
        let (well, body) = answer(&health(false, Some(last)), now, None);
        assert_eq!(
            (well, &body["status"]["IPv4"]["healthy"], body.get("nodeEligible")),
            (false, &json!(false), None)
        );
        let (well, body) = answer(&health(true, None), now, None);
        assert_eq!((well, body.get("status")), (true, None));
    }
}
