//! What reaches into the containers of a pod by the agent of its node: logs, exec, attach and port-forward.
//!
//! Streams are upgraded connections: the client's upgrade goes on to the agent as it is, and after the agent's 101 the bytes
//! are copied both ways, so that the agent alone speaks the protocols within. Logs alone are turned into WebSocket here, for
//! clients that ask for it.

mod choose;
mod logs;
#[cfg(test)]
mod tests;

use crate::authz::forbidden;
use crate::cache::Caches;
use crate::dial::{Dialer, Services, Target, agent, backend_failure, incoming};
use crate::hooks::{Authorizer, Body, Decision, Exchange, Handler, Handlers, full};
use crate::request::{RequestInfo, UserInfo, param, params};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use skep_api::{Reason, Status};
use std::sync::Arc;

/// Largest error text that is read of an agent.
const ERROR_TEXT: usize = 64 << 10;

/// Registers what reaches into nodes, pods and Services.
pub fn register(
    handlers: &mut Handlers,
    authorizer: Arc<dyn Authorizer>,
    caches: Arc<Caches>,
    dialer: Dialer,
) {
    let services = Arc::new(Services::new(caches.clone()));
    crate::proxy::register(handlers, &caches, &services, &dialer);
    let nodes = Arc::new(Nodes { authorizer, caches, dialer });
    for kind in [Kind::Log, Kind::Exec, Kind::Attach, Kind::PortForward] {
        handlers.connect("", "pods", kind.subresource(), Arc::new(OfPod { kind, nodes: nodes.clone() }));
    }
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
    authorizer: Arc<dyn Authorizer>,
    caches: Arc<Caches>,
    dialer: Dialer,
}

impl Nodes {
    fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let row = self.caches.row("", "v1", resource).ok_or_else(Status::unknown_path)?;
        let found = self.caches.latest(&row, namespace, name)?;
        found.map(|o| o.value()).ok_or_else(|| Status::not_found(&row.group_resource(), name))
    }

    fn agent_of(&self, node: &str) -> Result<Target, Status> {
        agent(&self.find("nodes", "", node)?)
    }
}

struct OfPod {
    kind: Kind,
    nodes: Arc<Nodes>,
}

#[async_trait]
impl Handler for OfPod {
    async fn handle(&self, exchange: Exchange) -> Result<Response<Body>, Status> {
        let info = &exchange.info;
        let query = exchange.request.uri().query().unwrap_or_default().to_owned();
        if self.kind != Kind::Log {
            crate::proxy::refuse_dry_run(&exchange.request)?;
            self.may_create(&exchange.user, info).await?;
        }
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
            let answer = match choose::node_of(&pod) {
                // Upstream's answer for a pod that runs nowhere yet: nothing has been logged.
                None => plain(String::new())?,
                Some(node) => {
                    let target = self.nodes.agent_of(node)?;
                    read(&self.nodes.dialer, &target, &join(&path, &query)).await?
                }
            };
            return logs::answer(exchange.request, answer);
        }
        if self.kind == Kind::Exec && params(&query, "command").is_empty() {
            return Err(Status::bad_request("you must specify at least 1 command for the container"));
        }
        let node = choose::runs_on(&pod, &info.name)?;
        let target = self.nodes.agent_of(node)?;
        if !skep_streams::upgrade::is_upgrade(exchange.request.headers()) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let line = join(&path, &choose::stream_query(&query));
        crate::proxy::upgrade(&self.nodes.dialer, &target, &line, exchange.request).await
    }
}

impl OfPod {
    /// Whoever opens a stream by GET, as WebSocket clients must, needs the right to create it all the same.
    async fn may_create(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        let info = RequestInfo { verb: "create".into(), ..info.clone() };
        match self.nodes.authorizer.authorize(user, &info).await {
            Decision::Allow => Ok(()),
            Decision::Deny(why) => Err(forbidden(user, &info, &why)),
        }
    }
}

fn join(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A text that is at hand.
fn plain(text: String) -> Result<Response<Body>, Status> {
    Response::builder().header(CONTENT_TYPE, "text/plain").body(full(text)).map_err(Status::internal)
}

/// What an agent answers to a GET, streamed; its errors as a [`Status`].
async fn read(dialer: &Dialer, target: &Target, path: &str) -> Result<Response<Body>, Status> {
    let request = Request::builder()
        .uri(path)
        .header(HOST, target.authority())
        .body(full(Bytes::new()))
        .map_err(Status::internal)?;
    let answer = dialer.send(target, request).await.map_err(backend_failure)?;
    if !answer.status().is_success() {
        return Err(refused(incoming(answer)).await);
    }
    let mut answer = incoming(answer);
    answer.headers_mut().remove(http::header::CONNECTION);
    answer.headers_mut().remove(http::header::TRANSFER_ENCODING);
    Ok(answer)
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
