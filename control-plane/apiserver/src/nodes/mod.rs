//! The way to the node agents: container logs, exec, attach, port-forward, and an agent's own paths (`nodes/proxy`).
//!
//! Streams are upgraded connections: the client's upgrade request goes on to the agent as it is, and after the agent's 101 the
//! bytes are copied both ways, so that the agent alone speaks the protocols within. Only WebSocket is upgraded; kubectl from 1.31
//! on asks for it first.

mod agent;
mod choose;
#[cfg(test)]
mod tests;

use crate::authz::{Rbac, forbidden};
use crate::cache::Caches;
use crate::hooks::{Body, Exchange, Handler, Handlers};
use crate::request::{RequestInfo, param, params};
use agent::{Agent, Upgrade};
use async_trait::async_trait;
use http::{HeaderMap, Response};
use serde_json::Value;
use skep_api::Status;
use std::sync::Arc;

/// Registers what reaches into nodes.
pub fn register(
    handlers: &mut Handlers,
    rbac: Arc<Rbac>,
    caches: Arc<Caches>,
    tls: Arc<rustls::ClientConfig>,
) {
    let nodes = Arc::new(Nodes { rbac, caches, agent: Agent::new(tls) });
    for kind in [Kind::Log, Kind::Exec, Kind::Attach, Kind::PortForward] {
        handlers.connect("", "pods", kind.subresource(), Arc::new(OfPod { kind, nodes: nodes.clone() }));
    }
    handlers.connect("", "nodes", "proxy", Arc::new(OfNode { nodes }));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Exec,
    Attach,
    PortForward,
}

impl Kind {
    fn subresource(self) -> &'static str {
        match self {
            Kind::Log => "log",
            Kind::Exec => "exec",
            Kind::Attach => "attach",
            Kind::PortForward => "portforward",
        }
    }

    /// The agent's name for it: that of the kubelet.
    fn path(self) -> &'static str {
        match self {
            Kind::Log => "containerLogs",
            Kind::Exec => "exec",
            Kind::Attach => "attach",
            Kind::PortForward => "portForward",
        }
    }
}

struct Nodes {
    rbac: Arc<Rbac>,
    caches: Arc<Caches>,
    agent: Agent,
}

impl Nodes {
    fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let row = self.caches.row("", "v1", resource).ok_or_else(Status::unknown_path)?;
        let found = self.caches.latest(&row, namespace, name)?;
        found.map(|o| o.value()).ok_or_else(|| Status::not_found(&row.group_resource(), name))
    }
}

struct OfPod {
    kind: Kind,
    nodes: Arc<Nodes>,
}

#[async_trait]
impl Handler for OfPod {
    async fn handle(&self, mut exchange: Exchange) -> Result<Response<Body>, Status> {
        let info = &exchange.info;
        let query = exchange.request.uri().query().unwrap_or_default().to_owned();
        let pod = self.nodes.find("pods", &info.namespace, &info.name)?;
        let mut path = format!("/{}/{}/{}", self.kind.path(), info.namespace, info.name);
        if self.kind != Kind::PortForward {
            let container =
                choose::container(&pod, param(&query, "container").as_deref().unwrap_or_default())?;
            path.push('/');
            path.push_str(&container);
        }
        if self.kind == Kind::Log {
            let query = choose::log_query(&query)?;
            let Some(node) = choose::node_of(&pod) else {
                // Upstream's answer for a pod that runs nowhere yet: nothing has been logged.
                return agent::plain(String::new());
            };
            let place = choose::place(&self.nodes.find("nodes", "", node)?)?;
            return self.nodes.agent.get(&place, &join(&path, &query)).await;
        }
        if self.kind == Kind::Exec && params(&query, "command").is_empty() {
            return Err(Status::bad_request("you must specify at least 1 command for the container"));
        }
        let node = choose::runs_on(&pod, &info.name, self.kind != Kind::PortForward)?;
        let place = choose::place(&self.nodes.find("nodes", "", node)?)?;
        let upgrade = Upgrade::wanted(exchange.request.headers())?;
        self.may_create(&exchange)?;
        self.nodes.agent.upgrade(&place, &join(&path, &query), upgrade, &mut exchange.request).await
    }
}

impl OfPod {
    /// Whoever opens a stream by GET, as WebSocket clients must, needs the right to create it all the same.
    fn may_create(&self, exchange: &Exchange) -> Result<(), Status> {
        let info = RequestInfo { verb: "create".into(), ..exchange.info.clone() };
        match self.nodes.rbac.decide(&exchange.user, &(&info).into()) {
            Ok(_) => Ok(()),
            Err(why) => Err(forbidden(&exchange.user, &info, &why)),
        }
    }
}

fn join(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

struct OfNode {
    nodes: Arc<Nodes>,
}

#[async_trait]
impl Handler for OfNode {
    async fn handle(&self, mut exchange: Exchange) -> Result<Response<Body>, Status> {
        let node = self.nodes.find("nodes", "", &exchange.info.name)?;
        let place = choose::place(&node)?;
        // What follows `…/proxy`, as the client wrote it.
        let uri = exchange.request.uri();
        let rest = uri.path().split('/').skip(6).collect::<Vec<_>>().join("/");
        let path = join(&format!("/{rest}"), uri.query().unwrap_or_default());
        if is_upgrade(exchange.request.headers()) {
            let upgrade = Upgrade::wanted(exchange.request.headers())?;
            return self.nodes.agent.upgrade(&place, &path, upgrade, &mut exchange.request).await;
        }
        self.nodes.agent.forward(&place, &path, exchange.request).await
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::UPGRADE)
}
