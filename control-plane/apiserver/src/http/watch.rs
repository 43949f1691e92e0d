//! The body of a watch: lines of JSON.

use super::accept::{Accept, Form};
use super::answer::{Shape, object_bytes};
use crate::cache::frame_into;
use crate::hooks::{Body, BodyError};
use crate::registry::{Told, Watch, status_value};
use crate::table::IncludeObject;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use skep_api::{Resource, Status};
use std::sync::Arc;
use tokio::sync::watch;

/// Annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

struct Lines {
    watch: Watch,
    accept: Accept,
    row: Arc<Resource>,
    include: IncludeObject,
    stop: watch::Receiver<bool>,
    headers: bool,
    over: bool,
}

/// The body of a running watch; ends when the watch does or the server stops.
pub(crate) fn body(
    watch: Watch,
    accept: Accept,
    row: Arc<Resource>,
    include: IncludeObject,
    stop: watch::Receiver<bool>,
) -> Body {
    let lines = Lines { watch, accept, row, include, stop, headers: true, over: false };
    let stream = futures::stream::unfold(lines, |mut lines| async move {
        lines.next().await.map(|piece| (Ok::<_, BodyError>(Frame::data(piece)), lines))
    });
    StreamBody::new(stream).boxed_unsync()
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let told = tokio::select! {
            told = self.watch.next() => told?,
            _ = self.stop.wait_for(|stop| *stop) => return None,
        };
        match told {
            Ok(batch) => Some(self.write(&batch)),
            Err(status) => {
                self.over = true;
                Some(error_line(&status))
            }
        }
    }

    fn write(&mut self, batch: &[Told]) -> Bytes {
        let plain = self.accept.form == Form::Object;
        // One change that all watchers see alike is sent from the buffer that all share.
        if let ([Told::Added(_, Some(c)) | Told::Modified(_, Some(c)) | Told::Deleted(_, Some(c))], true) =
            (batch, plain)
        {
            return c.frame().clone();
        }
        let mut out = BytesMut::new();
        for told in batch {
            let (word, object, change) = match told {
                Told::Added(object, change) => ("ADDED", object, change),
                Told::Modified(object, change) => ("MODIFIED", object, change),
                Told::Deleted(object, change) => ("DELETED", object, change),
                Told::Bookmark { revision, initial_end } => {
                    self.bookmark(*revision, *initial_end, &mut out);
                    continue;
                }
            };
            match change {
                Some(change) if plain => out.put_slice(change.frame()),
                None if plain => frame_into(word, object, &mut out),
                _ => {
                    let shape = Shape { row: &self.row, include: self.include };
                    let accept = Accept { pretty: false, ..self.accept };
                    let bytes = object_bytes(&accept, shape, object, self.headers);
                    self.headers = false;
                    line(word, &bytes, &mut out);
                }
            }
        }
        out.freeze()
    }

    fn bookmark(&self, revision: u64, initial_end: bool, out: &mut BytesMut) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let (kind, api_version): (Value, Value) = match self.accept.form {
            Form::Object => (self.row.gvk.kind.as_ref().into(), self.row.gvk.api_version().into()),
            Form::Partial => ("PartialObjectMetadata".into(), "meta.k8s.io/v1".into()),
            Form::Table => ("Table".into(), "meta.k8s.io/v1".into()),
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if self.accept.form == Form::Table {
            object["columnDefinitions"] = Value::Null;
            object["rows"] = json!([]);
        }
        line("BOOKMARK", object.to_string().as_bytes(), out);
    }
}

fn line(word: &str, object: &[u8], out: &mut BytesMut) {
    out.put_slice(format!("{{\"type\":\"{word}\",\"object\":").as_bytes());
    out.put_slice(object);
    out.put_slice(b"}\n");
}

fn error_line(status: &Status) -> Bytes {
    let mut out = BytesMut::new();
    line("ERROR", status_value(status).to_string().as_bytes(), &mut out);
    out.freeze()
}
