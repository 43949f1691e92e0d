//! All pods of the node: a worker for each, the runtime's listing handed out to them, what nobody owns removed.

use crate::context::Context;
use crate::core::observed::State;
use crate::core::sandbox::id;
use crate::cri::Listed;
use crate::worker::{Message, Shown, Worker};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, RwLock};
use skep_api::Object;
use skep_client::{Change, Informer};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

pub(crate) struct Handle {
    tx: mpsc::UnboundedSender<Message>,
    pub(crate) shown: Arc<RwLock<Shown>>,
    signature: Vec<(String, i32)>,
    /// The newest object of the pod.
    pub(crate) pod: Arc<Pod>,
    /// Whether the node took it.
    pub(crate) taken: bool,
}

/// The pods of the node. Clones share them.
#[derive(Clone)]
pub struct Pods {
    pub(crate) cx: Context,
    pub(crate) workers: Arc<Mutex<HashMap<String, Handle>>>,
    /// Pods that ask for another size than they were given, and since when.
    pub(crate) waiting: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    poke: Arc<Notify>,
    answered: Arc<AtomicI64>,
    events: Arc<AtomicBool>,
}

/// Time between two listings of the runtime without events, and with.
const RELIST: Duration = Duration::from_secs(1);
const RELIST_WITH_EVENTS: Duration = Duration::from_secs(10);
/// A log is moved away at this size; so many files are kept of each container.
const LOG_MAX: u64 = 10 << 20;
const LOG_FILES: usize = 5;

/// A pod's object, if it can be one.
fn read(o: &Arc<Object>) -> Option<Arc<Pod>> {
    match skep_client::typed::decode::<Pod>(o) {
        Ok(p) => {
            let uid = id(&p).2;
            let sound = !uid.is_empty() && !uid.contains('/') && !uid.starts_with('.');
            sound.then(|| Arc::new(p))
        }
        Err(e) => {
            tracing::warn!(error = %e.message, "a pod cannot be read");
            None
        }
    }
}

fn signature(l: &Listed) -> Vec<(String, i32)> {
    let mut out: Vec<(String, i32)> =
        l.0.iter()
            .map(|s| (s.id.clone(), s.state))
            .chain(l.1.iter().map(|c| (c.id.clone(), c.state)))
            .collect();
    out.sort();
    out
}

impl Pods {
    /// No pods yet.
    pub fn new(cx: Context) -> Self {
        Self {
            cx,
            workers: Arc::new(Mutex::new(HashMap::new())),
            waiting: Arc::default(),
            poke: Arc::new(Notify::new()),
            answered: Arc::new(AtomicI64::new(0)),
            events: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The means the pods share.
    pub fn context(&self) -> &Context {
        &self.cx
    }

    /// Seconds since the epoch at which the runtime last answered a listing; 0 for never.
    pub fn runtime_answered(&self) -> i64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// A pod by namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Shown> {
        self.list().into_iter().find(|s| {
            s.pod.metadata.namespace.as_deref() == Some(namespace)
                && s.pod.metadata.name.as_deref() == Some(name)
        })
    }

    /// A pod by uid.
    pub fn by_uid(&self, uid: &str) -> Option<Shown> {
        self.workers.lock().get(uid).map(|h| h.shown.read().clone())
    }

    /// All pods.
    pub fn list(&self) -> Vec<Shown> {
        self.workers.lock().values().map(|h| h.shown.read().clone()).collect()
    }

    /// Works until dropped. `pods` holds the pods bound to this node.
    pub async fn run(self, pods: Informer) {
        let mut changes = pods.subscribe();
        pods.synced().await;
        let listed = loop {
            match self.cx.rt.list().await {
                Ok(l) => break l,
                Err(error) => {
                    tracing::warn!(%error, "runtime does not answer");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        self.answered.store(jiff::Timestamp::now().as_second(), Ordering::Relaxed);
        // Those that have their place already come first, then whoever has waited longest.
        let mut first: Vec<(bool, Arc<Pod>)> = pods
            .list()
            .iter()
            .filter_map(read)
            .map(|p| {
                let uid = id(&p).2;
                let runs = listed.contains_key(uid) || self.cx.allotments.get(uid).is_some();
                (runs, p)
            })
            .collect();
        first.sort_by_key(|(runs, p)| (!runs, p.metadata.creation_timestamp.as_ref().map(|t| t.0)));
        for (runs, p) in first {
            self.object(p, runs).await;
        }
        self.resize().await;
        tokio::spawn(self.clone().follow_events());
        let mut sweep = tokio::time::interval(Duration::from_secs(30));
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut logs = tokio::time::interval(Duration::from_secs(10));
        logs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let pause = if self.events.load(Ordering::Relaxed) { RELIST_WITH_EVENTS } else { RELIST };
            tokio::select! {
                c = changes.recv() => match c {
                    Some(c) => self.change(&c).await,
                    None => return,
                },
                () = self.poke.notified() => self.relist(&pods).await,
                () = tokio::time::sleep(pause) => self.relist(&pods).await,
                _ = sweep.tick() => self.sweep(&pods),
                _ = logs.tick() => self.rotate_logs().await,
            }
        }
    }

    async fn change(&self, c: &Change) {
        let uid = |o: &Arc<Object>| o.meta().uid.to_string();
        if let Some(old) = &c.old
            && c.new.as_ref().is_none_or(|n| uid(n) != uid(old))
        {
            let uid = uid(old);
            if let Some(h) = self.workers.lock().get_mut(&uid) {
                // What the API no longer knows takes no place any more, as whoever counts there sees it.
                h.taken = false;
            }
            self.tell(&uid, Message::Gone);
        }
        if let Some(pod) = c.new.as_ref().and_then(read) {
            self.object(pod, false).await;
        }
    }

    pub(crate) fn tell(&self, uid: &str, m: Message) {
        if let Some(h) = self.workers.lock().get(uid) {
            let _ = h.tx.send(m);
        }
    }

    /// A pod's object, newer or new; whether something of it runs already.
    async fn object(&self, pod: Arc<Pod>, runs: bool) {
        let uid = id(&pod).2.to_owned();
        let known = self.workers.lock().get_mut(&uid).map(|h| h.pod = pod.clone()).is_some();
        if known {
            // What the pod may have is decided before its worker hears what it asks for.
            self.sized(&pod);
            self.resize().await;
            self.tell(&uid, Message::Pod(pod));
            return;
        }
        let verdict = self.admit(&pod, runs).await;
        let (tx, rx) = mpsc::unbounded_channel();
        let shown = Arc::new(RwLock::new(Shown { pod: pod.clone(), seen: Arc::default() }));
        let mut w = Worker::new(self.cx.clone(), pod.clone(), tx.clone(), rx, shown.clone());
        let (room, taken) = match verdict {
            Ok(room) => (room, true),
            Err(r) => {
                w.reject(&r);
                (Vec::new(), false)
            }
        };
        let handle = Handle { tx, shown, signature: Vec::new(), pod: pod.clone(), taken };
        self.workers.lock().insert(uid.clone(), handle);
        let pods = self.clone();
        tokio::spawn(async move {
            pods.room(&room).await;
            w.run().await;
            pods.workers.lock().remove(&uid);
            pods.cx.allotments.forget(&uid);
            // Its place may be what another waits for.
            pods.poke.notify_one();
        });
        if taken {
            self.sized(&pod);
        }
    }

    /// Hands changed listings out, and removes what belongs to no pod.
    async fn relist(&self, pods: &Informer) {
        let all = match self.cx.rt.list().await {
            Ok(l) => l,
            Err(error) => {
                tracing::debug!(%error, "runtime does not answer");
                return;
            }
        };
        self.answered.store(jiff::Timestamp::now().as_second(), Ordering::Relaxed);
        let mut orphans = Vec::new();
        {
            let mut workers = self.workers.lock();
            for (uid, l) in &all {
                match workers.get_mut(uid) {
                    Some(h) => {
                        let s = signature(l);
                        if h.signature != s {
                            h.signature = s;
                            let _ = h.tx.send(Message::Listed(l.clone()));
                        }
                    }
                    None => orphans.push((uid.clone(), l.clone())),
                }
            }
            for (uid, h) in workers.iter_mut() {
                if !all.contains_key(uid) && !h.signature.is_empty() {
                    h.signature.clear();
                    let _ = h.tx.send(Message::Listed(Listed::default()));
                }
            }
        }
        if !orphans.is_empty() && pods.is_synced() {
            let known: HashSet<String> = pods.list().iter().map(|o| o.meta().uid.to_string()).collect();
            for (uid, l) in orphans {
                if !known.contains(&uid) {
                    self.remove_orphan(&uid, &l).await;
                }
            }
        }
        self.resize().await;
    }

    async fn remove_orphan(&self, uid: &str, l: &Listed) {
        tracing::info!(%uid, "removing a pod that the API does not know");
        for c in &l.1 {
            let _ = self.cx.rt.stop_container(&c.id, 2).await;
        }
        for s in &l.0 {
            if let Err(error) = self.cx.rt.stop_sandbox(&s.id).await {
                tracing::warn!(%uid, %error, "orphaned sandbox not stopped");
                return;
            }
            let _ = self.cx.rt.remove_sandbox(&s.id).await;
        }
        for c in &l.1 {
            let _ = self.cx.rt.remove_container(&c.id).await;
        }
        if let Some(m) = l.0.first().and_then(|s| s.metadata.as_ref()) {
            let _ = std::fs::remove_dir_all(self.cx.node.pod_logs(&m.namespace, &m.name, uid));
        }
        let _ = self.cx.volumes.remove_dir(uid);
    }

    /// Directories, logs and cgroups of pods that are nowhere any more.
    fn sweep(&self, pods: &Informer) {
        if !pods.is_synced() {
            return;
        }
        let mut known: HashSet<String> = pods.list().iter().map(|o| o.meta().uid.to_string()).collect();
        known.extend(self.workers.lock().keys().cloned());
        let names = |dir: PathBuf| {
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect::<Vec<String>>()
        };
        for uid in names(self.cx.node.data_dir.join("pods")) {
            if !known.contains(&uid) {
                let _ = self.cx.volumes.remove_dir(&uid);
            }
        }
        for dir in names(self.cx.node.log_dir.clone()) {
            let uid = dir.rsplit('_').next().unwrap_or_default();
            if !known.contains(uid) {
                let _ = std::fs::remove_dir_all(self.cx.node.log_dir.join(&dir));
            }
        }
        for (uid, path) in self.cx.cgroups.pods(&self.cx.node) {
            if !known.contains(&uid) {
                let _ = self.cx.cgroups.remove(&path);
            }
        }
    }

    /// Follows the runtime's events where it has them; each only says that it is time to look.
    async fn follow_events(self) {
        use futures::StreamExt;
        let mut pause = Duration::from_secs(1);
        loop {
            match self.cx.rt.events().await {
                Ok(mut stream) => {
                    self.events.store(true, Ordering::Relaxed);
                    pause = Duration::from_secs(1);
                    while let Some(Ok(_)) = stream.next().await {
                        self.poke.notify_one();
                    }
                    self.events.store(false, Ordering::Relaxed);
                }
                Err(e) if e.unimplemented => return,
                Err(e) => tracing::debug!(error = %e, "no container events"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }

    /// Moves logs that have grown too long away.
    async fn rotate_logs(&self) {
        for s in self.list() {
            let (ns, name, uid) = id(&s.pod);
            let dir = self.cx.node.pod_logs(ns, name, uid);
            for c in s.seen.containers.iter().filter(|c| c.state == State::Running) {
                let log = dir.join(&c.name).join(format!("{}.log", c.attempt));
                if std::fs::metadata(&log).is_ok_and(|m| m.len() > LOG_MAX) {
                    if let Err(error) = rotate(&log) {
                        tracing::warn!(log = %log.display(), %error, "log not moved");
                        continue;
                    }
                    if let Err(error) = self.cx.rt.reopen_log(&c.id).await {
                        tracing::warn!(container = %c.id, %error, "log not opened again");
                    }
                }
            }
        }
    }

    /// Pods by phase, for metrics.
    pub fn phases(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for s in self.list() {
            let phase = s.pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
            *out.entry(phase).or_default() += 1;
        }
        out
    }
}

/// Renames a log by the time and drops the oldest ones.
fn rotate(log: &std::path::Path) -> std::io::Result<()> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut to = log.as_os_str().to_owned();
    to.push(format!(".{stamp}"));
    std::fs::rename(log, PathBuf::from(to))?;
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Ok(()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut old: Vec<PathBuf> = std::fs::read_dir(dir)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
        .collect();
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(LOG_FILES);
    for p in old.into_iter().take(surplus) {
        std::fs::remove_file(p)?;
    }
    Ok(())
}
