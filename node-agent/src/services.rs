//! From the informers of Services and EndpointSlices to the dataplane's view and to what environments show.

use crate::board::{Board, Done, Subject};
use crate::health_checks::HealthChecks;
use crate::plane::Plane;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use skep_client::Informer;
use skep_dataplane::ServiceView;
use skep_dataplane::hostports::{Pod, host_ports};
use skep_dataplane::k8s::{self, EndpointSlice, Place, Service};
use skep_pods::core::env;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

fn decode<T: DeserializeOwned>(informer: &Informer) -> Vec<T> {
    informer.list().iter().filter_map(|o| o.decode().ok()).collect()
}

/// The label of a node that names its zone (well-known labels of the API).
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What the dataplane's view is made from.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Services of the cluster.
    pub(crate) services: Informer,
    /// Their EndpointSlices.
    pub(crate) slices: Informer,
    /// The nodes, of which the node's own says where it is.
    pub(crate) nodes: Informer,
    /// The pods of the node.
    pub(crate) pods: Informer,
}

impl Seen {
    /// Waits until every list is complete.
    async fn synced(&self) {
        for informer in [&self.services, &self.slices, &self.nodes, &self.pods] {
            informer.synced().await;
        }
    }

    /// The node's zone; empty if it has none.
    fn zone(&self, node: &str) -> String {
        let own = self.nodes.get("", node);
        let zone = own.and_then(|o| o.value()["metadata"]["labels"][ZONE_LABEL].as_str().map(str::to_owned));
        zone.unwrap_or_default()
    }

    /// What the dataplane is asked to route, as the API stands now.
    fn view(&self, place: Place<'_>) -> ServiceView {
        k8s::view(&decode::<Service>(&self.services), &decode::<EndpointSlice>(&self.slices), place)
    }
}

/// Brings the dataplane's tables, and the ports for health checks, up to date at each change, once everything they are made
/// from is known. Says so by `synced`.
pub(crate) async fn follow(plane: Plane, seen: Seen, node: String, board: Board, synced: Arc<Notify>) {
    let mut cluster = [&seen.services, &seen.slices].map(Informer::subscribe);
    let mut around = [&seen.nodes, &seen.pods].map(Informer::subscribe);
    seen.synced().await;
    let mut checks = HealthChecks::default();
    let mut view = ServiceView::default();
    let mut done = None;
    let (mut changed, mut zone) = (true, String::new());
    loop {
        while cluster.iter_mut().any(|c| c.try_recv().is_ok()) {
            changed = true;
        }
        while around.iter_mut().any(|c| c.try_recv().is_ok()) {}
        let was = std::mem::replace(&mut zone, seen.zone(&node));
        // Pods and nodes change often, and the rest is much to read.
        if std::mem::take(&mut changed) || was != zone {
            view = seen.view(Place { node: &node, zone: &zone });
        }
        view.host_ports = host_ports(&decode::<Pod>(&seen.pods));
        let mut retry = None;
        if done.as_ref() != Some(&view) {
            board.queued(Instant::now(), Timestamp::now());
            board.note(Subject::HealthChecks, checks.sync(&view).await);
            match sync(&plane, &view, &board).await {
                Ok(()) => {
                    done = Some(view.clone());
                    synced.notify_one();
                }
                Err(error) => {
                    tracing::error!(error, "services not synced");
                    board.note(
                        Subject::Services,
                        vec![format!("Services are not in force as they are now: {error}")],
                    );
                    retry = Some(Duration::from_secs(1));
                }
            }
        }
        let ([a, b], [c, d]) = (&mut cluster, &mut around);
        tokio::select! {
            x = a.recv() => if x.is_none() { return } else { changed = true },
            x = b.recv() => if x.is_none() { return } else { changed = true },
            x = c.recv() => if x.is_none() { return },
            x = d.recv() => if x.is_none() { return },
            () = tokio::time::sleep(retry.unwrap_or(Duration::from_secs(600))) => {}
        }
        // A few changes usually come together.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn sync(plane: &Plane, view: &ServiceView, board: &Board) -> Result<(), String> {
    let (plane, view) = (plane.clone(), view.clone());
    let began = Instant::now();
    let report = tokio::task::spawn_blocking(move || plane.0.sync_services(&view)).await;
    let report = report.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    tracing::debug!(?report, "services synced");
    for conflict in &report.conflicts {
        tracing::warn!("service address conflict: {conflict}");
    }
    board.note(Subject::Services, vec![]);
    let claimed = |conflict| format!("{conflict} is another's already, and leads to that one");
    board.note(Subject::Conflicts, report.conflicts.iter().map(claimed).collect());
    board.synced(Done { at: Timestamp::now(), took: began.elapsed(), report });
    Ok(())
}

/// Tells the dataplane of addresses that the node gains or loses.
pub(crate) async fn follow_addresses(plane: Plane, board: Board) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let p = plane.clone();
        let changed = tokio::task::spawn_blocking(move || p.0.sync_addresses()).await;
        let problem = match changed.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
            Ok(changed) => {
                if changed > 0 {
                    tracing::info!(changed, "the node's own addresses changed");
                }
                None
            }
            Err(error) => {
                tracing::warn!(error, "the node's own addresses are not known");
                Some(format!("the node's own addresses are not known: {error}"))
            }
        };
        board.note(Subject::Addresses, problem.into_iter().collect());
    }
}

/// Services as the environments of containers show them.
pub(crate) fn environment(services: &Informer) -> Vec<env::ServiceView> {
    decode(services).into_iter().filter_map(shown).collect()
}

fn shown(service: Service) -> Option<env::ServiceView> {
    let ip = service.addresses().first()?.to_string();
    let ports = service.ports().filter_map(|p| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((p.name.clone().unwrap_or_default(), protocol, p.port?))
    });
    let ports = ports.collect();
    Some(env::ServiceView { namespace: service.metadata.namespace, name: service.metadata.name, ip, ports })
}
