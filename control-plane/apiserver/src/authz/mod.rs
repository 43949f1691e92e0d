//! Who may do what: RBAC over the roles and bindings that the API holds, and the node authorizer, by which an agent
//! (`system:node:NAME` in group `system:nodes`) reads what the pods on its node refer to and writes what is its own.

pub mod aggregate;
pub mod defaults;
pub mod escalate;
mod follow;
mod graph;
pub mod node;
pub mod rbac;
mod read;
#[cfg(test)]
mod tests;

use crate::cache::Caches;
use crate::hooks::{Authorizer, Decision};
use crate::request::{RequestInfo, UserInfo};
use async_trait::async_trait;
use follow::Followed;
use graph::Graph;
use rbac::{Policy, Rule, Wish};
use serde_json::json;
use skep_api::{Reason, Status};
use skep_client::informer::{Change, Informer};
use skep_client::{Client, Collection, Patch, WriteOptions};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Decides by the roles and bindings in the watch cache, and for node agents by what belongs to their node; both are
/// brought up to date before each decision.
pub struct Rbac {
    policy: Followed<Policy>,
    graph: Followed<Graph>,
    node_rules: Vec<Rule>,
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        match self.decide(user, &Wish::from(info)) {
            Ok(_) => Decision::Allow,
            Err(why) => Decision::Deny(why),
        }
    }
}

impl Rbac {
    /// An authorizer over the caches.
    pub fn new(caches: Arc<Caches>) -> Self {
        Rbac {
            policy: Followed::new(caches.clone()),
            graph: Followed::new(caches),
            node_rules: defaults::rules_of(NODE_ROLE),
        }
    }

    /// Decides: the reason it is allowed, or why it may be missing (often empty).
    pub fn decide(&self, user: &UserInfo, wish: &Wish<'_>) -> Result<String, String> {
        if user.in_group(rbac::MASTERS) {
            return Ok(String::new());
        }
        let node = node::name_of(user);
        let refused =
            match node.map(|node| node::decide(node, wish, &self.node_rules, || self.graph.current())) {
                Some(Ok(())) => return Ok(String::new()),
                Some(Err(why)) => why,
                None => String::new(),
            };
        self.policy.current().decide(user, wish).map_err(|why| match (refused.as_str(), why.as_str()) {
            (_, "") => refused,
            ("", _) => why,
            (first, second) => format!("{first}\n{second}"),
        })
    }

    /// All rules by which roles are bound to a user in a namespace, and what could not be resolved. What node agents may do
    /// beside is not among them.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.policy.current().rules_for(user, namespace)
    }

    /// The rules of a role (of a ClusterRole: without a namespace); none where it is not there.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.policy.current().role(namespace, name).cloned()
    }
}

/// The default ClusterRole that says what all nodes may do alike.
const NODE_ROLE: &str = "system:node";

/// Keeps the rules of aggregated ClusterRoles what their selectors say, until it is dropped.
pub async fn keep_aggregated(client: Arc<dyn Client>) {
    let roles = Informer::all(client.clone(), Collection::of(defaults::GROUP, "v1", "clusterroles"));
    roles.synced().await;
    let mut changes: mpsc::UnboundedReceiver<Change> = roles.subscribe();
    while changes.recv().await.is_some() {
        // One look at all roles serves every change that is there by now.
        while changes.try_recv().is_ok() {}
        for (name, rules) in aggregate::due(&roles.list()) {
            let target = Collection::of(defaults::GROUP, "v1", "clusterroles").object(name.clone());
            let patch = Patch::Merge(json!({ "rules": rules }));
            if let Err(status) = client.patch(&target, &patch, &WriteOptions::default()).await {
                tracing::warn!(role = name, %status, "cannot write the rules of an aggregated ClusterRole");
            }
        }
    }
}

/// The 403 of a request that was denied, in upstream's words.
pub fn forbidden(user: &UserInfo, info: &RequestInfo, why: &str) -> Status {
    let tail = if why.is_empty() { String::new() } else { format!(": {why}") };
    if !info.is_resource {
        let said = format!("User {:?} cannot {} path {:?}", user.name, info.verb, info.path);
        let mut status = Status::new(Reason::Forbidden, format!("forbidden: {}{tail}", escape(&said)));
        status.details = Some(Box::default());
        return status;
    }
    let resource = match info.subresource.as_str() {
        "" => info.resource.clone(),
        sub => format!("{}/{sub}", info.resource),
    };
    let scope = match info.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let said = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        user.name, info.verb, info.group
    );
    Status::forbidden(&info.group_resource(), &info.name, format!("{}{tail}", escape(&said)))
}

/// No answer may look like HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
