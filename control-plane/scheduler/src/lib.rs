//! The scheduler: binds pods to nodes.
//!
//! [`core`] decides, from a pod and what is known of the cluster; this shell keeps that knowledge up to date
//! from informers, asks for one decision after another, and writes bindings. A pod counts on its node from the
//! decision on, so that the next one sees it before the API does.

pub mod core;
mod evict;
mod queue;

use crate::core::claims::{self, Needs, need};
use crate::core::model::{Node, Pod, Spread, waits_for_another};
use crate::core::plugins::spread::default_constraints;
use crate::core::preempt::{Budget, Outcome, preempt};
use crate::core::state::Cluster;
use crate::core::{Decision, Failure, schedule};
use parking_lot::{Mutex, MutexGuard};
use queue::Queue;
use serde_json::{Value, json};
use skep_api::kinds::volume::class_of;
use skep_api::selector::Requirement;
use skep_api::{LabelSelector, Status};
use skep_client::{Change, Client, Collection, Informer, Patch, Recorder, Reference, WriteOptions};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The name pods ask for in `spec.schedulerName`.
pub const NAME: &str = "default-scheduler";

/// Tells a claim which node its first consumer has.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// How long a pod waits for its volumes once it has a node (`bindTimeoutSeconds`).
const CLAIMS_MAX: Duration = Duration::from_secs(600);

struct State {
    cluster: Cluster,
    queue: Queue,
    /// Decided and not yet seen bound.
    assumed: HashSet<Box<str>>,
    /// For pods that have sent others away: those of them that are not seen to go yet.
    evicting: HashMap<Box<str>, HashSet<Box<str>>>,
    turn: usize,
}

/// What becomes of a pod's nomination when it has failed.
enum Nomination {
    Stays,
    Ends,
    Is(String),
}

struct Scheduler {
    client: Arc<dyn Client>,
    claims: Informer,
    volumes: Informer,
    storage_classes: Informer,
    budgets: Informer,
    services: Informer,
    sets: Informer,
    events: Recorder,
    state: Mutex<State>,
    wake: Notify,
}

/// Runs the scheduler for as long as the runtime lives.
pub async fn run(client: Arc<dyn Client>) {
    let nodes = Informer::all(client.clone(), Collection::core("nodes"));
    let pods = Informer::all(client.clone(), Collection::core("pods"));
    let services = Informer::all(client.clone(), Collection::core("services"));
    let sets = Informer::all(client.clone(), Collection::of("apps", "v1", "replicasets"));
    let claims = Informer::all(client.clone(), Collection::core("persistentvolumeclaims"));
    let volumes = Informer::all(client.clone(), Collection::core("persistentvolumes"));
    let namespaces = Informer::all(client.clone(), Collection::core("namespaces"));
    let storage = Collection::of("storage.k8s.io", "v1", "storageclasses");
    let storage_classes = Informer::all(client.clone(), storage);
    let budgets = Informer::all(client.clone(), Collection::of("policy", "v1", "poddisruptionbudgets"));
    for informer in
        [&nodes, &pods, &services, &sets, &claims, &volumes, &storage_classes, &budgets, &namespaces]
    {
        informer.synced().await;
    }
    let scheduler = Arc::new(Scheduler {
        events: Recorder::start(client.clone(), NAME, ""),
        client,
        claims: claims.clone(),
        volumes: volumes.clone(),
        storage_classes: storage_classes.clone(),
        budgets,
        services,
        sets,
        state: Mutex::new(State {
            cluster: Cluster::default(),
            queue: Queue::default(),
            assumed: HashSet::new(),
            evicting: HashMap::new(),
            turn: 0,
        }),
        wake: Notify::new(),
    });
    follow(&namespaces, scheduler.clone(), Scheduler::namespace_changed);
    follow(&nodes, scheduler.clone(), Scheduler::node_changed);
    follow(&pods, scheduler.clone(), Scheduler::pod_changed);
    for informer in [&claims, &volumes, &storage_classes] {
        follow(informer, scheduler.clone(), Scheduler::storage_changed);
    }
    loop {
        let due = scheduler.drain();
        match due {
            Some(at) => {
                tokio::select! {
                    () = scheduler.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                }
            }
            None => scheduler.wake.notified().await,
        }
    }
}

fn follow(informer: &Informer, scheduler: Arc<Scheduler>, note: fn(&Scheduler, &Change)) {
    let mut changes = informer.subscribe();
    let informer = informer.clone();
    tokio::spawn(async move {
        let _held = informer; // the view lives for as long as its changes are followed
        while let Some(change) = changes.recv().await {
            note(&scheduler, &change);
            scheduler.wake.notify_one();
        }
    });
}

impl Scheduler {
    fn node_changed(&self, change: &Change) {
        let mut state = self.state.lock();
        match (&change.old, &change.new) {
            (_, Some(new)) => match Node::read(new) {
                Ok(node) => {
                    // A heartbeat makes no room.
                    let same = state.cluster.node(&node.name).is_some_and(|(known, _)| alike(known, &node));
                    state.cluster.put_node(node);
                    if !same {
                        state.queue.wake();
                    }
                }
                Err(error) => tracing::warn!(node = %new.meta().name, %error, "a node cannot be read"),
            },
            (Some(old), None) => state.cluster.remove_node(&old.meta().name),
            (None, None) => {}
        }
    }

    fn namespace_changed(&self, change: &Change) {
        let mut state = self.state.lock();
        match (&change.old, &change.new) {
            (Some(old), Some(new)) if old.meta().labels == new.meta().labels => {}
            (_, Some(new)) => {
                state.cluster.put_namespace(&new.meta().name, &new.meta().labels);
                state.queue.wake_if(Pod::is_particular);
            }
            (Some(old), None) => state.cluster.remove_namespace(&old.meta().name),
            (None, None) => {}
        }
    }

    fn pod_changed(&self, change: &Change) {
        let mut state = self.state.lock();
        if let Some(old) = &change.old
            && change.new.as_ref().is_none_or(|new| new.meta().uid != old.meta().uid)
        {
            let uid = &old.meta().uid;
            // One that had no place leaves none.
            let room = state.cluster.pod(uid).is_some() || state.cluster.nomination(uid).is_some();
            state.cluster.remove_pod(uid);
            state.cluster.forget_nomination(uid);
            state.assumed.remove(uid);
            state.queue.remove(uid);
            state.evicting.remove(uid);
            state.seen_going(uid);
            if room {
                state.queue.wake();
            }
        }
        let Some(new) = &change.new else { return };
        // Another's that has no place takes none and is nobody's company: with many of them, reading them all costs.
        if change.old.is_none() && waits_for_another(new, NAME) {
            return;
        }
        let pod = Arc::new(Pod::read(new));
        let uid = &pod.meta.uid;
        if pod.meta.deleting() || pod.finished {
            state.seen_going(uid);
        }
        if pod.waits_for(NAME) {
            if !state.assumed.contains(uid) {
                if !pod.nominated.is_empty() {
                    state.cluster.nominate(pod.clone(), &pod.nominated);
                } else if state.cluster.nomination(uid).is_some()
                    && change.old.as_ref().is_some_and(|old| !Pod::read(old).nominated.is_empty())
                {
                    state.cluster.forget_nomination(uid); // somebody ended it
                }
                state.queue.put(pod);
            }
            return;
        }
        state.queue.remove(uid);
        state.cluster.forget_nomination(uid);
        let bound = !pod.node.is_empty() && state.assumed.remove(uid);
        let old = state.cluster.pod(uid).cloned();
        state.cluster.put_pod(pod.clone());
        match old {
            Some(old) if pod.finished || old.request != pod.request => state.queue.wake(),
            Some(old) if !bound && old.node == pod.node && old.meta.labels == pod.meta.labels => {}
            // Company may be what a pod waits for.
            _ => state.queue.wake_if(|waiting| waiting.minds(&pod)),
        }
    }

    /// Claims and volumes may be what a pod waited for.
    fn storage_changed(&self, _change: &Change) {
        self.state.lock().queue.wake();
    }

    /// The pod with what its claims ask for at this instant.
    fn with_needs(&self, pod: Pod) -> Pod {
        if pod.claims.is_empty() {
            return pod;
        }
        let volumes: Vec<Value> = self.volumes.list().iter().map(|volume| volume.value()).collect();
        let (mut needs, mut exclusive) = (Vec::new(), Vec::new());
        for name in &pod.claims {
            let claim = self.claims.get(&pod.meta.namespace, name).map(|claim| claim.value());
            let class = claim.as_ref().and_then(|claim| self.storage_classes.get("", class_of(claim)));
            let class = class.map(|class| class.value());
            if claim.as_ref().is_some_and(claims::exclusive) {
                exclusive.push(name.clone());
            }
            needs.push((name.clone(), need(name, claim.as_ref(), &volumes, class.as_ref())));
        }
        Pod { needs: Needs(needs), exclusive, ..pod }
    }

    /// Tells the claims that waited for it the pod's node, and waits until they are bound.
    async fn bind_claims(&self, pod: &Pod, node: &str) -> Result<(), Status> {
        let waiting = pod.needs.waiting();
        if waiting.is_empty() {
            return Ok(());
        }
        let mut changes = self.claims.subscribe();
        let claims = Collection::core("persistentvolumeclaims").within(&*pod.meta.namespace);
        for name in &waiting {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {SELECTED_NODE: node}}}));
            self.client.patch(&claims.object(*name), &patch, &WriteOptions::default()).await?;
        }
        let is_bound = |name: &&str| {
            let claim = self.claims.get(&pod.meta.namespace, name).map(|claim| claim.value());
            claim.is_some_and(|claim| claim.pointer("/status/phase").is_some_and(|phase| phase == "Bound"))
        };
        let all = async {
            while !waiting.iter().all(is_bound) {
                if changes.recv().await.is_none() {
                    return;
                }
            }
        };
        let late = || Status::timeout("binding volumes: timed out waiting for the claims of the pod");
        tokio::time::timeout(CLAIMS_MAX, all).await.map_err(|_| late())
    }

    /// Decides for all pods that can be tried now; answers when the next can.
    fn drain(self: &Arc<Self>) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let mut state = self.state.lock();
            let Some(pod) = state.queue.pop(now) else { return state.queue.next_due() };
            let pod = Arc::new(self.with_needs(pod.resolved(state.cluster.namespaces())));
            let defaults = if pod.spread.is_empty() { self.default_spread(&pod) } else { Vec::new() };
            state.turn = state.turn.wrapping_add(1);
            let turn = state.turn;
            match schedule(&pod, &state.cluster, &defaults, turn) {
                Decision::Bind(node) => {
                    state.assumed.insert(pod.meta.uid.clone());
                    state.cluster.forget_nomination(&pod.meta.uid);
                    state.cluster.put_pod(Arc::new(Pod { node: node.clone(), ..(*pod).clone() }));
                    drop(state);
                    tokio::spawn(self.clone().bind(pod, node));
                }
                Decision::Unschedulable(failure) => {
                    state.queue.fail(&pod.meta.uid, now);
                    self.failed(state, pod, &failure);
                }
            }
        }
    }

    /// Looks whether others can make room for a pod that fits nowhere, and tells what came of it.
    fn failed(self: &Arc<Self>, mut state: MutexGuard<'_, State>, pod: Arc<Pod>, failure: &Failure) {
        let budgets: Vec<Budget> = if failure.refused.values().all(|refusal| refusal.lasting) {
            Vec::new()
        } else {
            self.budgets.list().iter().filter_map(|budget| Budget::read(budget)).collect()
        };
        let outcome = preempt(&pod, &state.cluster, failure, &budgets, state.turn);
        let why = outcome.message(failure);
        match outcome {
            Outcome::Ineligible(_) => {
                drop(state);
                tokio::spawn(self.clone().tell(pod, why, Nomination::Stays));
            }
            Outcome::Useless(_) => {
                let nominated =
                    state.cluster.nomination(&pod.meta.uid).is_some() || !pod.nominated.is_empty();
                state.cluster.forget_nomination(&pod.meta.uid);
                drop(state);
                let nomination = if nominated { Nomination::Ends } else { Nomination::Stays };
                tokio::spawn(self.clone().tell(pod, why, nomination));
            }
            Outcome::Evict { node, victims } => {
                let displaced = state.take_room(&pod, &node, &victims);
                drop(state);
                tokio::spawn(self.clone().tell(pod.clone(), why, Nomination::Is(node.clone())));
                tokio::spawn(self.clone().make_room(pod, node, victims, displaced));
            }
        }
    }

    /// Pods of one Service, or of one set, spread over nodes and zones where they do not say how.
    fn default_spread(&self, pod: &Pod) -> Vec<Spread> {
        let mut rows = Vec::new();
        for service in self.services.namespace(&pod.meta.namespace) {
            let tree = service.value();
            let Some(selector) = tree.pointer("/spec/selector").and_then(Value::as_object) else { continue };
            let all = selector
                .iter()
                .filter_map(|(k, v)| Some(Requirement::In(k.clone(), vec![v.as_str()?.to_owned()])));
            let selector = LabelSelector(all.collect());
            if !selector.is_everything() && selector.matches(&pod.meta.labels) {
                rows.extend(selector.0);
            }
        }
        if let Some(owner) = pod.meta.controller()
            && let Some(set) = self.sets.get(&pod.meta.namespace, &owner.name)
            && let Some(selector) = LabelSelector::from_structure(set.value().pointer("/spec/selector"))
        {
            rows.extend(selector.0);
        }
        if rows.is_empty() { Vec::new() } else { default_constraints(LabelSelector(rows)) }
    }

    async fn bind(self: Arc<Self>, pod: Arc<Pod>, node: String) {
        let meta = &pod.meta;
        let body = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let target = Collection::core("pods").item(&meta.namespace, &meta.name).sub("binding");
        let about = reference(&pod);
        let bound = async {
            self.bind_claims(&pod, &node).await?;
            self.client.create_subresource(&target, body, &WriteOptions::default()).await
        };
        match bound.await {
            Ok(_) => {
                let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
                self.events.normal(&about, "Scheduled", message);
            }
            Err(status) => {
                let mut state = self.state.lock();
                state.assumed.remove(&meta.uid);
                state.cluster.remove_pod(&meta.uid);
                // Gone, or bound by somebody else: what the informer says next decides.
                if !status.is_not_found() && !status.is_conflict() {
                    state.queue.put(pod.clone());
                    state.queue.fail(&meta.uid, Instant::now());
                    state.queue.wake();
                    tracing::warn!(pod = meta.key(), %status, "a binding failed; trying again");
                }
                drop(state);
                self.wake.notify_one();
            }
        }
    }

    async fn tell(self: Arc<Self>, pod: Arc<Pod>, why: String, nomination: Nomination) {
        self.events.warning(&reference(&pod), "FailedScheduling", why.clone());
        if let Err(status) = self.write_failure(&pod, &why, &nomination).await
            && !status.is_not_found()
        {
            tracing::debug!(pod = pod.meta.key(), %status, "a condition was not written");
        }
    }

    async fn write_failure(&self, pod: &Pod, why: &str, nomination: &Nomination) -> Result<(), Status> {
        let target = Collection::core("pods").item(&pod.meta.namespace, &pod.meta.name);
        let present = self.client.get(&target).await?;
        let tree = present.value();
        let conditions = tree.pointer("/status/conditions").cloned().unwrap_or_default();
        let old = conditions.as_array().and_then(|c| c.iter().find(|c| c["type"] == "PodScheduled")).cloned();
        let mut status = json!({});
        let written = tree.pointer("/status/nominatedNodeName").and_then(Value::as_str).unwrap_or_default();
        match nomination {
            Nomination::Is(node) if node != written => status["nominatedNodeName"] = node.as_str().into(),
            Nomination::Ends if !written.is_empty() => status["nominatedNodeName"] = Value::Null,
            _ => {}
        }
        let since = old.as_ref().filter(|c| c["status"] == "False").map(|c| c["lastTransitionTime"].clone());
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
            "lastTransitionTime": since.unwrap_or_else(now),
        });
        if present.meta().generation > 0 {
            condition["observedGeneration"] = present.meta().generation.into();
        }
        let said = |old: &Value| {
            ["status", "reason", "message", "observedGeneration"]
                .iter()
                .all(|key| old[*key] == condition[*key])
        };
        if !old.as_ref().is_some_and(said) {
            status["conditions"] = json!([condition]);
        }
        if status.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.meta.uid}, "status": status}));
        self.client.patch(&target.sub("status"), &patch, &WriteOptions::default()).await.map(|_| ())
    }
}

/// This second, as `metav1.Time` writes it.
fn now() -> Value {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string().into()
}

fn alike(a: &Node, b: &Node) -> bool {
    a.labels == b.labels
        && a.taints == b.taints
        && a.unschedulable == b.unschedulable
        && a.allocatable == b.allocatable
}

fn reference(pod: &Pod) -> Reference {
    Reference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.meta.namespace.to_string(),
        name: pod.meta.name.to_string(),
        uid: pod.meta.uid.to_string(),
        field_path: String::new(),
    }
}
