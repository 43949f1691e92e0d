//! Who may do what: RBAC over the roles and bindings that the API holds.
//!
//! A node agent (`system:node:NAME` in group `system:nodes`) has the rights of the ClusterRoles `system:node` and
//! `system:node-proxier`, for every object of the resources they name: it is not yet narrowed to what the pods on that node refer
//! to. Nor is it checked yet that whoever writes a role holds its rights.

pub mod aggregate;
pub mod defaults;
pub mod rbac;
mod read;
#[cfg(test)]
mod tests;

use crate::cache::{Caches, Lagged, Watcher};
use crate::hooks::{Authorizer, Decision};
use crate::request::{RequestInfo, UserInfo};
use async_trait::async_trait;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use rbac::{Policy, Rule, Wish};
use serde_json::json;
use skep_api::{GroupResource, Reason, Status};
use skep_client::informer::{Change, Informer};
use skep_client::{Client, Collection, Patch, WriteOptions};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Decides by the roles and bindings in the watch cache, brought up to date before each decision.
pub struct Rbac {
    caches: Arc<Caches>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    policy: Policy,
    sources: Vec<Source>,
}

/// One of the resources that the policy is made of.
struct Source {
    kind: read::Kind,
    resource: GroupResource,
    watcher: Watcher,
    /// Revision of the last change that is in the policy.
    seen: u64,
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
        let state = RwLock::new(State::load(&caches));
        Rbac { caches, state }
    }

    /// Decides: the reason it is allowed, or why it may be missing (often empty).
    pub fn decide(&self, user: &UserInfo, wish: &Wish<'_>) -> Result<String, String> {
        self.current().policy.decide(user, wish)
    }

    /// All rules that bind a user in a namespace, and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.current().policy.rules_for(user, namespace)
    }

    fn current(&self) -> RwLockReadGuard<'_, State> {
        let state = self.state.read();
        if state.sources.iter().all(|s| self.caches.changed(&s.resource) == s.seen) {
            return state;
        }
        drop(state);
        let mut state = self.state.write();
        if state.catch_up(&self.caches).is_err() {
            *state = State::load(&self.caches);
        }
        RwLockWriteGuard::downgrade(state)
    }
}

impl State {
    fn load(caches: &Caches) -> Self {
        let mut state = State::default();
        for (name, kind) in read::RESOURCES {
            let resource = GroupResource::new(defaults::GROUP, name);
            let Some(cache) = caches.cache(&resource) else { continue };
            let seen = cache.last_change();
            let (view, watcher) = cache.view_and_watch(0, "");
            view.items.iter().for_each(|object| read::put(&mut state.policy, kind, object));
            state.sources.push(Source { kind, resource, watcher, seen });
        }
        state
    }

    fn catch_up(&mut self, caches: &Caches) -> Result<(), Lagged> {
        const BATCH: usize = 256;
        for source in &mut self.sources {
            let seen = caches.changed(&source.resource);
            loop {
                let changes = source.watcher.take(BATCH)?;
                for change in &changes {
                    if change.deleted {
                        read::remove(&mut self.policy, source.kind, &change.object);
                    } else {
                        read::put(&mut self.policy, source.kind, &change.object);
                    }
                }
                if changes.len() < BATCH {
                    break;
                }
            }
            source.seen = seen;
        }
        Ok(())
    }
}

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
