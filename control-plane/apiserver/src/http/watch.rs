//! The body of a watch: lines of JSON, or frames of protobuf.

use super::accept::{Accept, Form, Media};
use super::answer::{Shape, object_bytes};
use super::chain::Peer;
use crate::cache::{frame_into, protobuf_frame_into};
use crate::hooks::{Body, BodyError};
use crate::registry::{Told, Watch, status_value};
use crate::table::IncludeObject;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use skep_api::{Object, Resource, Status, protobuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

struct Events {
    watch: Watch,
    accept: Accept,
    row: Arc<Resource>,
    include: IncludeObject,
    stop: watch::Receiver<bool>,
    headers: bool,
    over: bool,
    _counted: Counted,
}

/// Counts as a watch of a connection as long as it is there.
struct Counted(Arc<Peer>);

impl Counted {
    fn on(peer: Arc<Peer>) -> Self {
        peer.watches.fetch_add(1, Ordering::Relaxed);
        Counted(peer)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a running watch; ends when the watch does or the server stops.
pub(crate) fn body(
    watch: Watch,
    (accept, include): (Accept, IncludeObject),
    row: Arc<Resource>,
    stop: watch::Receiver<bool>,
    peer: Arc<Peer>,
) -> Body {
    let accept = Accept { pretty: false, ..accept };
    let counted = Counted::on(peer);
    let events = Events { watch, accept, row, include, stop, headers: true, over: false, _counted: counted };
    let stream = futures::stream::unfold(events, |mut events| async move {
        events.next().await.map(|piece| (Ok::<_, BodyError>(Frame::data(piece)), events))
    });
    StreamBody::new(stream).boxed_unsync()
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let told = tokio::select! {
            told = self.watch.next() => told?,
            _ = self.stop.wait_for(|stop| *stop) => return None,
        };
        let written = match told {
            Ok(batch) => self.write(&batch),
            Err(status) => Err(status),
        };
        Some(written.unwrap_or_else(|status| {
            self.over = true;
            let mut out = BytesMut::new();
            self.tree("ERROR", &status_value(&status), &mut out);
            out.freeze()
        }))
    }

    fn write(&mut self, batch: &[Told]) -> Result<Bytes, Status> {
        let plain = self.accept.form == Form::Object;
        let protobuf = self.accept.media == Media::Protobuf;
        let shared = |change: &crate::cache::Change| match protobuf {
            true => change.protobuf_frame().map_err(Status::internal),
            false => Ok(change.frame().clone()),
        };
        // One change that all watchers see alike is sent from the buffer that all share.
        if let ([Told::Added(_, Some(c)) | Told::Modified(_, Some(c)) | Told::Deleted(_, Some(c))], true) =
            (batch, plain)
        {
            return shared(c);
        }
        let mut out = BytesMut::new();
        for told in batch {
            let (word, object, change) = match told {
                Told::Added(object, change) => ("ADDED", object, change),
                Told::Modified(object, change) => ("MODIFIED", object, change),
                Told::Deleted(object, change) => ("DELETED", object, change),
                Told::Bookmark { revision, initial_end } => {
                    self.bookmark(*revision, *initial_end, &mut out)?;
                    continue;
                }
            };
            match change {
                Some(change) if plain => out.put_slice(&shared(change)?),
                None if plain && protobuf => {
                    protobuf_frame_into(word, object, &mut out).map_err(Status::internal)?;
                }
                None if plain => frame_into(word, object, &mut out),
                _ => self.other_form(word, object, &mut out)?,
            }
        }
        Ok(out.freeze())
    }

    /// Writes an event of what is not the object itself.
    fn other_form(&mut self, word: &str, object: &Arc<Object>, out: &mut BytesMut) -> Result<(), Status> {
        let shape = Shape { row: &self.row, include: self.include };
        let bytes = object_bytes(&self.accept, shape, object, self.headers)?;
        self.headers = false;
        self.event(word, &bytes, out);
        Ok(())
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool, out: &mut BytesMut) -> Result<(), Status> {
        let mut metadata = json!({});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = json!({
            "kind": self.row.gvk.kind, "apiVersion": self.row.gvk.api_version(), "metadata": metadata,
        });
        let object = Arc::new(Object::from_value(object, revision, &[]).map_err(Status::internal)?);
        match (self.accept.form, self.accept.media) {
            (Form::Object, Media::Protobuf) => {
                protobuf_frame_into("BOOKMARK", &object, out).map_err(Status::internal)
            }
            (Form::Object, _) => {
                frame_into("BOOKMARK", &object, out);
                Ok(())
            }
            // The annotation is seen whatever a table's rows carry otherwise.
            (Form::Table, _) if initial_end && self.include == IncludeObject::None => {
                self.include = IncludeObject::Metadata;
                let written = self.other_form("BOOKMARK", &object, out);
                self.include = IncludeObject::None;
                written
            }
            _ => self.other_form("BOOKMARK", &object, out),
        }
    }

    fn tree(&self, word: &str, tree: &Value, out: &mut BytesMut) {
        if self.accept.media == Media::Protobuf {
            // A status has a protobuf form.
            let bytes = protobuf::tree(tree).unwrap_or_default();
            self.event(word, &bytes, out);
        } else {
            self.event(word, tree.to_string().as_bytes(), out);
        }
    }

    /// Appends an event about an object that is written already.
    fn event(&self, word: &str, object: &[u8], out: &mut BytesMut) {
        if self.accept.media == Media::Protobuf {
            protobuf::frame(word, object.len(), out, |out| out.put_slice(object));
            return;
        }
        out.put_slice(format!("{{\"type\":\"{word}\",\"object\":").as_bytes());
        out.put_slice(object.trim_ascii_end());
        out.put_slice(b"}\n");
    }
}
