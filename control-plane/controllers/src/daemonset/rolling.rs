//! The next step of a DaemonSet's rolling update.

use super::model::Fit;
use super::plan::{ByNode, Input, name};
use crate::views::Pod;
use std::collections::BTreeMap;

/// What the step does.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Nodes that get a new pod beside the old one.
    pub(super) create: Vec<String>,
    /// Old pods that go.
    pub(super) delete: Vec<String>,
}

/// The pods of one node that stay: the new one and the old one. None where there are several of a kind.
fn sides<'a>(input: &Input<'_>, pods: &[&'a Pod]) -> Option<(Option<&'a Pod>, Option<&'a Pod>)> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().copied().filter(|pod| !pod.meta().deleting()) {
        let side = if input.set.updated(pod, input.hash) { &mut new } else { &mut old };
        if side.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

fn room(most: i64, taken: usize) -> usize {
    usize::try_from(most).unwrap_or(0).saturating_sub(taken)
}

/// Decides which old pods go, or which nodes get a second pod.
pub(super) fn rolling_update<'a>(
    input: &Input<'_>,
    fits: &BTreeMap<&'a str, Fit>,
    mut by_node: ByNode<'a>,
    wanted: i64,
) -> Steps {
    for (node, _) in fits.iter().filter(|(_, fit)| **fit == Fit::Run) {
        by_node.entry(node).or_default();
    }
    let (surge, mut unavailable) = (input.set.max_surge(wanted), input.set.max_unavailable(wanted));
    if wanted > 0 && surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    if surge == 0 {
        replace(input, &by_node, unavailable)
    } else {
        beside(input, fits, &by_node, surge, wanted)
    }
}

/// Old pods go, as many as may be missing; those that are of no use go in any case.
fn replace(input: &Input<'_>, by_node: &ByNode<'_>, most: i64) -> Steps {
    let (mut missing, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
    for pods in by_node.values() {
        match sides(input, pods) {
            Some((Some(new), None)) => missing += usize::from(!input.available(new)),
            Some((None, Some(old))) if input.available(old) => candidates.push(name(old)),
            Some((None, Some(old))) => {
                useless.push(name(old));
                missing += 1;
            }
            _ => missing += 1,
        }
    }
    candidates.truncate(room(most, missing));
    useless.extend(candidates);
    Steps { create: Vec::new(), delete: useless }
}

/// New pods come beside old ones, which go once the new ones are available.
fn beside(
    input: &Input<'_>,
    fits: &BTreeMap<&str, Fit>,
    by_node: &ByNode<'_>,
    most: i64,
    wanted: i64,
) -> Steps {
    let (mut surging, mut available) = (0, 0);
    let (mut steps, mut misplaced, mut candidates) = (Steps::default(), Vec::new(), Vec::new());
    for (node, pods) in by_node {
        let Some((new, old)) = sides(input, pods) else {
            surging += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(|pod| input.available(pod)));
        let Some(old) = old else { continue };
        let runs = fits.get(node) == Some(&Fit::Run);
        match new {
            Some(new) if input.available(new) => steps.delete.push(name(old)),
            Some(_) => surging += 1,
            None if !input.available(old) && runs => steps.create.push((*node).to_owned()),
            None if !input.available(old) => steps.delete.push(name(old)),
            None if runs => candidates.push((*node).to_owned()),
            None => misplaced.push(name(old)),
        }
    }
    // A pod on a node that should not have one goes only when enough others are available.
    misplaced.truncate(available.saturating_sub(usize::try_from(wanted).unwrap_or(0)));
    steps.delete.extend(misplaced);
    candidates.truncate(room(most, surging));
    steps.create.extend(candidates);
    steps
}
