//! The objects of one resource and its recent changes.

use super::watcher::Watcher;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::RwLock;
use skep_api::protobuf::{self, Message, ProtobufError};
use skep_api::{Object, Resource};
use skep_store::{Event, EventKind};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Most changes that are kept.
const RING_CHANGES: usize = 16_384;
/// Most bytes of past object versions that are kept, beyond the newest few.
const RING_BYTES: usize = 16 << 20;
/// So many changes are kept whatever their size.
const RING_LEAST: usize = 64;

/// Keys, values and revisions of a resource as the store has them.
pub(super) type Loaded = Vec<(Box<str>, Bytes, u64)>;

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// Revision of the change.
    pub revision: u64,
    /// The new version; of a deletion, the last one at the deletion's revision.
    pub object: Arc<Object>,
    /// The version before; none for a new object.
    pub previous: Option<Arc<Object>>,
    /// Whether the object is gone.
    pub deleted: bool,
    frame: OnceLock<Bytes>,
    protobuf: OnceLock<Result<Bytes, ProtobufError>>,
}

impl Change {
    /// What the change is to whoever sees all objects: `ADDED`, `MODIFIED` or `DELETED`.
    pub fn word(&self) -> &'static str {
        match (self.deleted, &self.previous) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        }
    }

    /// The change as a line of a JSON watch, encoded once for all watchers.
    pub fn frame(&self) -> &Bytes {
        self.frame.get_or_init(|| {
            let mut out = BytesMut::with_capacity(self.object.body().len() + 96);
            frame_into(self.word(), &self.object, &mut out);
            out.freeze()
        })
    }

    /// The change as a frame of a protobuf watch, encoded once for all watchers; an error where the kind has no such form.
    pub fn protobuf_frame(&self) -> Result<Bytes, ProtobufError> {
        let frame = self.protobuf.get_or_init(|| {
            let mut out = BytesMut::new();
            protobuf_frame_into(self.word(), &self.object, &mut out)?;
            Ok(out.freeze())
        });
        frame.clone()
    }
}

/// Appends a frame of a protobuf watch.
pub fn protobuf_frame_into(word: &str, object: &Object, out: &mut BytesMut) -> Result<(), ProtobufError> {
    let message = Message::of(object)?;
    let kind = protobuf::kind_of(object);
    protobuf::object_frame(word, (&kind.0, &kind.1), &message, object.revision(), out);
    Ok(())
}

/// Appends a line of a JSON watch.
pub fn frame_into(word: &str, object: &Object, out: &mut BytesMut) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(word.as_bytes());
    out.put_slice(b"\",\"object\":");
    object.write_json(out);
    out.put_slice(b"}\n");
}

/// Objects of one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By namespace and name.
    pub items: Vec<Arc<Object>>,
    /// The moment.
    pub revision: u64,
    /// How many objects lie in the range after those that were taken.
    pub remaining: usize,
}

pub(super) struct State {
    pub(super) objects: BTreeMap<Box<str>, Arc<Object>>,
    pub(super) ring: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Sequence number of the first change of the ring.
    pub(super) first: u64,
    /// All changes after this revision are in the ring.
    pub(super) floor: u64,
    /// Revision of the last change, or at which the cache was loaded.
    last: u64,
    /// Changes up to this revision are known already when the feed tells of them.
    covered: u64,
    /// Raised when the cache is loaded anew.
    pub(super) generation: u64,
}

/// The cache of one resource.
pub struct Cache {
    prefix: String,
    fields: Vec<skep_api::resource::Str>,
    pub(super) state: RwLock<State>,
    pub(super) wake: watch::Sender<()>,
}

impl Cache {
    pub(super) fn new(row: &Resource) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            ring: VecDeque::new(),
            bytes: 0,
            first: 0,
            floor: 0,
            last: 0,
            covered: 0,
            generation: 0,
        };
        Cache {
            prefix: super::prefix_of(&row.stored_in()),
            // Where the objects are served in another form, that has the fields.
            fields: if row.stored.is_none() { row.selectable_fields.clone() } else { Vec::new() },
            state: RwLock::new(state),
            wake: watch::channel(()).0,
        }
    }

    fn decode(&self, local: &str, value: Bytes, revision: u64) -> Option<Arc<Object>> {
        let fields: Vec<&str> = self.fields.iter().map(AsRef::as_ref).collect();
        match Object::from_stored(value, revision, &fields) {
            Ok(object) => Some(Arc::new(object)),
            Err(why) => {
                tracing::error!(key = %format!("{}{local}", self.prefix), revision, %why, "a stored object is unreadable");
                None
            }
        }
    }

    pub(super) fn reset(&self, loaded: Loaded, revision: u64) {
        let objects: BTreeMap<_, _> = loaded
            .into_iter()
            .filter_map(|(key, value, at)| self.decode(&key, value, at).map(|object| (key, object)))
            .collect();
        let mut state = self.state.write();
        let first = state.first + state.ring.len() as u64;
        *state = State {
            objects,
            ring: VecDeque::new(),
            bytes: 0,
            first,
            floor: revision,
            last: revision,
            covered: revision,
            generation: state.generation + 1,
        };
        drop(state);
        self.wake.send_replace(());
    }

    /// What has been applied so far will not be told again, or is passed over when it is.
    pub(super) fn caught_up(&self) {
        let mut state = self.state.write();
        state.covered = state.last;
    }

    pub(super) fn apply(&self, local: &str, event: &Event) {
        if event.revision <= self.state.read().covered {
            return;
        }
        let decoded = match event.kind {
            EventKind::Put => self.decode(local, event.value.clone(), event.revision),
            EventKind::Delete => None,
        };
        let mut state = self.state.write();
        let (object, previous, deleted) = match decoded {
            Some(object) => {
                let previous = state.objects.insert(local.into(), object.clone());
                (object, previous, false)
            }
            // Removed, or replaced by what nobody can read: gone either way.
            None => match state.objects.remove(local) {
                Some(last) => (Arc::new(last.at_revision(event.revision)), Some(last), true),
                None => return,
            },
        };
        state.last = event.revision;
        let (frame, protobuf) = (OnceLock::new(), OnceLock::new());
        state.push(Change { revision: event.revision, object, previous, deleted, frame, protobuf });
        drop(state);
        self.wake.send_replace(());
    }

    /// An object by its local key.
    pub fn get(&self, local: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(local).cloned()
    }

    /// An object by its key in the store, if the cache holds that very version.
    pub(super) fn find(&self, key: &[u8], revision: u64) -> Option<Arc<Object>> {
        let local = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        self.get(local).filter(|object| object.revision() == revision)
    }

    /// Revision of the last change that is at hand.
    pub fn last_change(&self) -> u64 {
        self.state.read().last
    }

    /// Present objects of a namespace (empty: of all) whose local keys are greater than or equal to `start`, at most
    /// `limit` (0: all). `reached` is what [`super::Caches::reached`] answered before.
    pub fn view(&self, reached: u64, namespace: &str, start: &str, limit: usize) -> View {
        let state = self.state.read();
        state.view(reached, namespace, start, limit)
    }

    /// As [`Cache::view`], of the moment `revision`; none where that is not the present one.
    pub fn view_at(
        &self,
        revision: u64,
        reached: u64,
        namespace: &str,
        start: &str,
        limit: usize,
    ) -> Option<View> {
        let state = self.state.read();
        if state.last > revision || state.floor > revision || reached < revision {
            return None;
        }
        Some(View { revision, ..state.view(reached, namespace, start, limit) })
    }

    /// Present objects together with a watcher of everything that comes after.
    pub fn view_and_watch(self: &Arc<Self>, reached: u64, namespace: &str) -> (View, Watcher) {
        let state = self.state.read();
        let view = state.view(reached, namespace, "", 0);
        let watcher = Watcher::new(self, &state, state.first + state.ring.len() as u64, 0);
        (view, watcher)
    }

    /// A watcher of all changes after `revision`; none where they are no longer all at hand.
    pub fn watch(self: &Arc<Self>, revision: u64) -> Option<Watcher> {
        let state = self.state.read();
        if revision < state.floor {
            return None;
        }
        let skip = state.ring.partition_point(|change| change.revision <= revision);
        Some(Watcher::new(self, &state, state.first + skip as u64, revision))
    }
}

impl State {
    fn push(&mut self, change: Change) {
        self.bytes += change.object.body().len();
        self.ring.push_back(Arc::new(change));
        while self.ring.len() > RING_LEAST && (self.ring.len() > RING_CHANGES || self.bytes > RING_BYTES) {
            let Some(old) = self.ring.pop_front() else { break };
            self.bytes -= old.object.body().len();
            self.floor = old.revision;
            self.first += 1;
        }
    }

    fn view(&self, reached: u64, namespace: &str, start: &str, limit: usize) -> View {
        let (low, high) = if namespace.is_empty() {
            (start.to_owned(), Bound::Unbounded)
        } else {
            // `0` follows `/`: the end of all keys that begin with `NAMESPACE/`.
            let low = format!("{namespace}/");
            (
                if start > low.as_str() { start.to_owned() } else { low },
                Bound::Excluded(format!("{namespace}0")),
            )
        };
        let mut view = View { revision: reached.max(self.last), ..View::default() };
        if matches!(&high, Bound::Excluded(high) if low >= *high) {
            return view;
        }
        let high = match &high {
            Bound::Excluded(high) => Bound::Excluded(high.as_str()),
            _ => Bound::Unbounded,
        };
        let mut range = self.objects.range::<str, _>((Bound::Included(low.as_str()), high));
        if limit == 0 {
            view.items = range.map(|(_, object)| object.clone()).collect();
        } else {
            view.items = range.by_ref().take(limit).map(|(_, object)| object.clone()).collect();
            view.remaining = range.count();
        }
        view
    }
}
