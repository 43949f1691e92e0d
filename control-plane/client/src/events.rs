//! Events about objects, as `kubectl describe` shows them.
//!
//! Telling never waits and never fails: a full queue drops the event, since nothing may depend on one.

use crate::{Client, Collection, Patch, WriteOptions};
use serde_json::{Value, json};
use skep_api::Object;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that wait to be written.
const QUEUE: usize = 1000;
/// Repeated events count up on one object within this time (`client-go` correlates over ten minutes).
const AGGREGATE: Duration = Duration::from_secs(600);
/// Events remembered for that.
const REMEMBERED: usize = 4096;

/// What an event is about (`v1.ObjectReference`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// A part of the object: `spec.containers{web}`.
    pub field_path: String,
}

impl Reference {
    /// A reference to a whole object of a kind.
    pub fn to(api_version: &str, kind: &str, object: &Object) -> Self {
        let meta = object.meta();
        Reference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: meta.namespace.to_string(),
            name: meta.name.to_string(),
            uid: meta.uid.to_string(),
            field_path: String::new(),
        }
    }

    fn value(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (key, text) in [
            ("apiVersion", &self.api_version),
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
            ("fieldPath", &self.field_path),
        ] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        Value::Object(out)
    }
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Something needs attention.
    Warning,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Told {
    about: Reference,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// Writes events for one component; clones share it.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Told>,
}

impl Recorder {
    /// A recorder that writes through `client` as `component` (on `host`, empty in the control plane).
    pub fn start(client: Arc<dyn Client>, component: &str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer =
            Writer { client, component: component.to_owned(), host: host.to_owned(), known: HashMap::new() };
        tokio::spawn(writer.run(receiver));
        Recorder { sender }
    }

    /// Tells a normal event.
    pub fn normal(&self, about: &Reference, reason: &'static str, message: impl Into<String>) {
        self.tell(about, Severity::Normal, reason, message.into());
    }

    /// Tells a warning.
    pub fn warning(&self, about: &Reference, reason: &'static str, message: impl Into<String>) {
        self.tell(about, Severity::Warning, reason, message.into());
    }

    fn tell(&self, about: &Reference, severity: Severity, reason: &'static str, message: String) {
        let told = Told { about: about.clone(), severity, reason, message };
        if self.sender.try_send(told).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }
}

struct Seen {
    name: String,
    count: u64,
    at: Instant,
}

struct Writer {
    client: Arc<dyn Client>,
    component: String,
    host: String,
    known: HashMap<Told, Seen>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Told>) {
        while let Some(told) = receiver.recv().await {
            self.write(told).await;
        }
    }

    async fn write(&mut self, told: Told) {
        let now = now();
        let namespace =
            if told.about.namespace.is_empty() { "default" } else { told.about.namespace.as_str() };
        let events = Collection::core("events").within(namespace);
        self.known.retain(|_, seen| seen.at.elapsed() < AGGREGATE);
        if let Some(seen) = self.known.get_mut(&told) {
            let patch = Patch::Merge(json!({"count": seen.count + 1, "lastTimestamp": now.second}));
            let target = events.object(seen.name.as_str());
            if self.client.patch(&target, &patch, &WriteOptions::default()).await.is_ok() {
                seen.count += 1;
                seen.at = Instant::now();
                return;
            }
        }
        let name = format!("{}.{:x}", told.about.name, now.nanos);
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": told.about.value(),
            "reason": told.reason, "message": told.message,
            "type": match told.severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "source": self.source(), "count": 1,
            "firstTimestamp": now.second, "lastTimestamp": now.second,
            "reportingComponent": self.component, "reportingInstance": self.host,
        });
        match self.client.create(&events, body, &WriteOptions::default()).await {
            Ok(_) if self.known.len() < REMEMBERED => {
                self.known.insert(told, Seen { name, count: 1, at: Instant::now() });
            }
            Ok(_) => {}
            Err(status) => tracing::debug!(%status, "an event was not written"),
        }
    }

    fn source(&self) -> Value {
        let mut source = json!({"component": self.component});
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        source
    }
}

struct Now {
    nanos: u128,
    /// RFC 3339, in seconds, as `metav1.Time` has it.
    second: String,
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = jiff::Timestamp::from_second(since.as_secs() as i64).unwrap_or_default().to_string();
    Now { nanos: since.as_nanos(), second }
}
