//! Which pods the node takes, and what those that run may become: the decisions are in [`crate::core`], carried out here.

use crate::core::admit::{self, NodeView, Rejection};
use crate::core::allot::{Given, Record};
use crate::core::sandbox::id;
use crate::core::{preempt, resize, rules};
use crate::manager::{Handle, Pods};
use crate::worker::{End, Message, Shown};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;

/// How long a pod that needs room waits for those that make it, beyond their grace.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pod whose end is decided needs no place.
pub(crate) fn over(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        || rules::terminal_phase(pod.status.as_ref().and_then(|s| s.phase.as_deref()))
}

/// Whether nothing of a pod takes a place any more.
fn ended(s: &Shown) -> bool {
    let phase = s.pod.status.as_ref().and_then(|s| s.phase.as_deref());
    rules::terminal_phase(phase) && !s.seen.any_running()
}

impl Pods {
    /// The pods that take a place on this node, as they were given it; without the one of that uid.
    fn active(&self, but: &str) -> Vec<Arc<Pod>> {
        let workers = self.workers.lock();
        let taken = workers.iter().filter(|(uid, h)| h.taken && *uid != but);
        taken
            .filter_map(|(uid, h)| {
                let shown = h.shown.read().clone();
                let given = self.cx.allotments.get(uid).map(|r| r.given);
                (!ended(&shown)).then(|| given.map_or(shown.pod.clone(), |g| g.overlay(&shown.pod)))
            })
            .collect()
    }

    /// Whether the node has room for the pod as it asks to be; answers the uids of those that must go for it.
    pub(crate) async fn fits(&self, pod: &Pod) -> Result<Vec<String>, Rejection> {
        if let Some(r) = admit::forbidden(pod, self.cx.kernel) {
            return Err(r);
        }
        let others = self.active(id(pod).2);
        let others: Vec<&Pod> = others.iter().map(|p| &**p).collect();
        let mut refusals = admit::refusals(pod, &(self.cx.own)(), &others);
        if admit::only_affinity(&refusals)
            && let Ok(Some(node)) = self.cx.api.get_node().await
        {
            refusals = admit::refusals(pod, &NodeView::read(&node), &others);
        }
        let go = preempt::decide(pod, &refusals, &others)?;
        Ok(go.into_iter().filter_map(|at| others.get(at)).map(|p| id(p).2.to_owned()).collect())
    }

    /// Decides on a pod that is new to this node; answers the uids of those that make room for it.
    pub(crate) async fn admit(&self, pod: &Pod, runs: bool) -> Result<Vec<String>, Rejection> {
        let uid = id(pod).2;
        let Some(spec) = pod.spec.as_ref().filter(|_| !over(pod)) else { return Ok(Vec::new()) };
        if self.cx.allotments.get(uid).is_some() {
            return Ok(Vec::new());
        }
        if runs {
            self.cx.allotments.put(uid, Record::adopt(spec));
            return Ok(Vec::new());
        }
        let go = self.fits(pod).await?;
        self.cx.allotments.put(uid, Record::new(spec));
        self.make_room(&go);
        Ok(go)
    }

    fn make_room(&self, uids: &[String]) {
        for uid in uids {
            let Some(shown) = self.by_uid(uid) else { continue };
            self.cx.api.event(&shown.pod, None, true, preempt::PREEMPTING, preempt::PREEMPTED);
            self.tell(
                uid,
                Message::End(End {
                    reason: preempt::PREEMPTING.into(),
                    message: preempt::PREEMPTED.into(),
                    disruption: "Pod was preempted by Kubelet to accommodate a critical pod.".into(),
                    grace: None,
                }),
            );
        }
    }

    /// Waits until those that make room have ended, or have had time enough for it.
    pub(crate) async fn room(&self, uids: &[String]) {
        let grace = |uid: &String| self.by_uid(uid).map_or(0, |s| rules::grace_seconds(&s.pod));
        let longest = uids.iter().map(grace).max().unwrap_or(0);
        let limit = PATIENCE + Duration::from_secs(u64::try_from(longest).unwrap_or(0));
        let all_gone = async {
            while uids.iter().any(|u| self.by_uid(u).is_some_and(|s| !ended(&s))) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(limit, all_gone).await.is_err() {
            tracing::warn!("pods that make room for a critical one do not end");
        }
    }

    /// Notes whether a pod asks for another size than it was given.
    pub(crate) fn sized(&self, pod: &Pod) {
        let uid = id(pod).2;
        let Some(record) = self.cx.allotments.get(uid) else { return };
        let since = resize::Notes::read(pod).pending.map(|n| n.since);
        let mut waiting = self.waiting.lock();
        if !over(pod) && pod.spec.as_ref().is_some_and(|s| !record.given.is(s)) {
            waiting.entry(uid.to_owned()).or_insert_with(|| since.unwrap_or_else(Timestamp::now));
        } else if waiting.remove(uid).is_some() || since.is_some() {
            drop(waiting);
            self.tell(uid, Message::SizeKept);
        }
    }

    /// Looks at all pods that wait for another size, in the order in which they may have it.
    pub(crate) async fn resize(&self) {
        let waiting: Vec<(String, Timestamp)> = {
            let mut waiting = self.waiting.lock();
            let workers = self.workers.lock();
            waiting.retain(|uid, _| workers.get(uid).is_some_and(|h| !over(&h.pod)));
            waiting.iter().map(|(u, t)| (u.clone(), *t)).collect()
        };
        if waiting.is_empty() {
            return;
        }
        let wants = |uid: &str| self.workers.lock().get(uid).map(|h: &Handle| h.pod.clone());
        let pairs: Vec<(Arc<Pod>, Arc<Pod>, Timestamp)> = waiting
            .iter()
            .filter_map(|(uid, since)| {
                let pod = wants(uid)?;
                Some((pod.clone(), self.cx.allotments.get(uid)?.given.overlay(&pod), *since))
            })
            .collect();
        let mut turn: Vec<resize::Waiting<'_>> =
            pairs.iter().map(|(wants, has, since)| resize::Waiting { wants, has, since: *since }).collect();
        resize::order(&mut turn);
        for w in turn {
            let uid = id(w.wants).2;
            let verdict = self.fits(w.wants).await;
            if let (Ok(go), Some(spec)) = (&verdict, &w.wants.spec) {
                self.cx.allotments.change(uid, |r| r.given = Given::of(spec));
                self.waiting.lock().remove(uid);
                self.make_room(go);
            }
            self.tell(uid, Message::Sized(Arc::new(w.wants.clone()), verdict.map(|_| ())));
        }
    }
}
