//! The zone that is answered from, where it comes from, and its copy on disk.

use crate::core::{Snapshot, Zone, objects};
use parking_lot::{RwLock, RwLockReadGuard};
use skep_client::{Change, Client, Collection, Informer};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A change is on disk about so much later; changes that come together are written once.
const SETTLE: Duration = Duration::from_secs(1);
/// Snapshots are at least so far apart.
const APART: Duration = Duration::from_secs(4);
/// So many changes are taken at once before questions get their turn.
const BATCH: usize = 256;

/// So long without an answer of the API server is worth a word.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the zone comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From nowhere yet: nothing is known.
    Nothing,
    /// From the snapshot of an earlier process.
    Snapshot,
    /// From the API server, which may be away by now.
    Api,
}

struct State {
    source: Source,
    zone: Zone,
}

/// The zone of this process.
pub struct View {
    state: RwLock<State>,
    changed: Notify,
    file: PathBuf,
}

/// The zone, for as long as one looks at it.
pub struct Seen<'a>(RwLockReadGuard<'a, State>);

impl Seen<'_> {
    /// The zone; none where nothing is known.
    pub fn zone(&self) -> Option<&Zone> {
        (self.0.source != Source::Nothing).then_some(&self.0.zone)
    }
}

impl View {
    /// A view that begins with the snapshot in a directory, where there is a good one.
    pub fn open(dir: &Path) -> Self {
        let file = dir.join("names.json");
        let (source, zone) = match load(&file) {
            Ok(Some(zone)) => (Source::Snapshot, zone),
            Ok(None) => (Source::Nothing, Zone::default()),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the snapshot is not used");
                (Source::Nothing, Zone::default())
            }
        };
        View { state: RwLock::new(State { source, zone }), changed: Notify::new(), file }
    }

    /// The zone as it is now.
    pub fn seen(&self) -> Seen<'_> {
        Seen(self.state.read())
    }

    /// Where the zone comes from.
    pub fn source(&self) -> Source {
        self.state.read().source
    }

    /// Takes over a complete view.
    pub fn publish(&self, zone: Zone) {
        *self.state.write() = State { source: Source::Api, zone };
        self.changed.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut Zone)) {
        change(&mut self.state.write().zone);
        self.changed.notify_one();
    }

    /// Writes the zone to disk: all of it or nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self) -> std::io::Result<()> {
        let snapshot = {
            let state = self.state.read();
            if state.source != Source::Api {
                return Ok(());
            }
            state.zone.snapshot()
        };
        let fresh = self.file.with_extension("new");
        let mut out = std::fs::File::create(&fresh)?;
        out.write_all(&serde_json::to_vec(&snapshot)?)?;
        out.sync_data()?;
        std::fs::rename(&fresh, &self.file)
    }

    /// Keeps the copy on disk, for as long as the process lives.
    pub async fn keep(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(SETTLE).await;
            let view = self.clone();
            let saved = tokio::task::spawn_blocking(move || view.save()).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(file = %self.file.display(), %error, "the snapshot is not written; trying again at the next change");
            }
            tokio::time::sleep(APART).await;
        }
    }

    /// Follows the API server, for as long as the process lives.
    pub async fn follow(self: Arc<Self>, client: Arc<dyn Client>) {
        let namespaces = Informer::all(client.clone(), Collection::core("namespaces"));
        let services = Informer::all(client.clone(), Collection::core("services"));
        let slices = Informer::all(client, Collection::of("discovery.k8s.io", "v1", "endpointslices"));
        for (informer, what) in
            [(&namespaces, "namespaces"), (&services, "services"), (&slices, "endpointslices")]
        {
            while timeout(PATIENCE, informer.synced()).await.is_err() {
                tracing::warn!(
                    what,
                    names_from = ?self.source(),
                    "the API server has not told yet: it is away, or the credentials do not suffice (--kubeconfig)"
                );
            }
        }
        // A subscription begins with what is there.
        let mut changes = [namespaces.subscribe(), services.subscribe(), slices.subscribe()];
        let kinds: [fn(&mut Zone, &Change); 3] = [namespace, service, slice];
        let mut zone = Zone::default();
        for (changes, apply) in changes.iter_mut().zip(kinds) {
            while let Ok(change) = changes.try_recv() {
                apply(&mut zone, &change);
            }
        }
        zone.set_serial(now());
        self.publish(zone);
        tracing::info!("names are those of the API server");
        let [mut a, mut b, mut c] = changes;
        loop {
            let (first, apply) = tokio::select! {
                change = a.recv() => (change, kinds[0]),
                change = b.recv() => (change, kinds[1]),
                change = c.recv() => (change, kinds[2]),
            };
            // The informers above live as long as this function.
            let Some(first) = first else { return };
            self.change(|zone| {
                apply(zone, &first);
                for (changes, apply) in [&mut a, &mut b, &mut c].into_iter().zip(kinds) {
                    for change in std::iter::from_fn(|| changes.try_recv().ok()).take(BATCH) {
                        apply(zone, &change);
                    }
                }
                zone.set_serial(now());
            });
        }
    }
}

fn now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn load(file: &Path) -> Result<Option<Zone>, Box<dyn std::error::Error>> {
    match std::fs::read(file) {
        Ok(json) => Ok(Some(Snapshot::parse(&json)?.into_zone())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn namespace(zone: &mut Zone, change: &Change) {
    if let Some(object) = change.latest() {
        zone.set_namespace(&object.meta().name, change.new.is_some());
    }
}

fn service(zone: &mut Zone, change: &Change) {
    let Some(object) = change.latest() else { return };
    let meta = object.meta();
    let new = change.new.as_ref().and_then(|new| read(objects::service(new.body()), &meta.name));
    zone.set_service(&meta.namespace, &meta.name, new);
}

fn slice(zone: &mut Zone, change: &Change) {
    let Some(object) = change.latest() else { return };
    let meta = object.meta();
    let new = change.new.as_ref().and_then(|new| read(objects::slice(new.body()), &meta.name));
    zone.set_slice(&meta.namespace, &meta.name, new);
}

/// One object that cannot be read must not hold up the others.
fn read<T>(object: Result<Option<T>, serde_json::Error>, name: &str) -> Option<T> {
    object.unwrap_or_else(|error| {
        tracing::warn!(%name, %error, "an object has no names: it cannot be read");
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_outlives_its_process() {
        let dir = std::env::temp_dir().join(format!("skep-dns-view-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let view = View::open(&dir);
        assert!(view.source() == Source::Nothing && view.seen().zone().is_none());
        view.save().unwrap();
        assert_eq!(View::open(&dir).source(), Source::Nothing, "what is not known is not written");
        let mut zone = Zone::default();
        zone.set_namespace("default", true);
        view.publish(zone.clone());
        view.save().unwrap();
        let again = View::open(&dir);
        assert_eq!((again.source(), again.seen().zone()), (Source::Snapshot, Some(&zone)));
        std::fs::write(dir.join("names.json"), b"{\"format\": 1, \"nam").unwrap();
        assert_eq!(View::open(&dir).source(), Source::Nothing, "half a snapshot is none");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
