//! Routes to the pods of other nodes: what all Node objects say, held against the kernel's table.
//!
//! A node that shares a network with this one is the next hop to its pods; to one on another network there is a tunnel. Routes bear a protocol number of our own, and
//! nothing else is touched. They stay when the agent ends, and none is removed before all nodes are known.

mod kernel;
mod plan;
mod tunnel;

pub(crate) use plan::Net;

use crate::board::{Board, Subject};
use plan::NodeView;
use skep_client::Informer;
use std::time::Duration;

/// How often the kernel's table is looked at when no node changes: an interface that goes down takes its routes along.
const PERIOD: Duration = Duration::from_secs(30);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the routes of node `own` until the informer ends. Pods have addresses in `cluster`, a network a family; what goes
/// through the tunnel leaves by `uplink`.
pub(crate) async fn follow(
    nodes: Informer,
    own: String,
    cluster: Vec<Net>,
    uplink: Option<String>,
    board: Board,
) {
    let mut changes = nodes.subscribe();
    nodes.synced().await;
    let mut apart = Default::default();
    loop {
        let views: Vec<NodeView> = nodes.list().iter().map(|node| NodeView::of(&node.value())).collect();
        let pause = match kernel::reconcile(&own, &views, &cluster, uplink.as_deref()).await {
            Ok(wanted) => {
                if wanted.apart != apart {
                    for (node, why) in &wanted.apart {
                        tracing::warn!(%node, why, "pods of this node cannot be reached");
                    }
                    apart = wanted.apart;
                }
                let told = |(node, why)| format!("pods of node {node} cannot be reached: {why}");
                board.note(Subject::Routes, apart.iter().map(told).collect());
                PERIOD
            }
            Err(error) => {
                tracing::error!(%error, "routes to other nodes");
                board.note(Subject::Routes, vec![format!("routes to other nodes are not in force: {error}")]);
                RETRY
            }
        };
        tokio::select! {
            change = changes.recv() => if change.is_none() { return },
            () = tokio::time::sleep(pause) => {}
        }
        // A few changes usually come together.
        tokio::time::sleep(Duration::from_millis(10)).await;
        while changes.try_recv().is_ok() {}
    }
}
