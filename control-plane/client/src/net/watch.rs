//! The events of a watch, out of a body of JSON lines.

use crate::{WatchEvent, WatchStream};
use bytes::{Buf, BytesMut};
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use skep_api::{Object, Status};
use std::sync::Arc;

/// No single event may be larger; objects are limited to a few MiB by the server.
const LINE_LIMIT: usize = 64 << 20;

/// Turns a body into events; the stream ends with the body.
pub(super) fn events(body: Incoming) -> WatchStream {
    let state = (body, BytesMut::new());
    futures::stream::unfold(Some(state), |state| async move {
        let (mut body, mut buffer) = state?;
        loop {
            if let Some(line) = take_line(&mut buffer) {
                let event = parse(&line);
                let go_on = event.is_ok();
                return Some((event, go_on.then_some((body, buffer))));
            }
            if buffer.len() > LINE_LIMIT {
                return Some((Err(Status::internal("an event of the watch is too large")), None));
            }
            match body.frame().await? {
                Ok(frame) => {
                    if let Some(data) = frame.data_ref() {
                        buffer.extend_from_slice(data);
                    }
                }
                Err(e) => return Some((Err(Status::unavailable(format!("the watch broke off: {e}"))), None)),
            }
        }
    })
    .boxed()
}

/// Takes a whole line, without its end; blank lines are passed over.
fn take_line(buffer: &mut BytesMut) -> Option<BytesMut> {
    loop {
        let at = buffer.iter().position(|b| *b == b'\n')?;
        let line = buffer.split_to(at);
        buffer.advance(1);
        if !line.iter().all(u8::is_ascii_whitespace) {
            return Some(line);
        }
    }
}

fn parse(line: &[u8]) -> Result<WatchEvent, Status> {
    let mut event: Value = serde_json::from_slice(line)
        .map_err(|e| Status::internal(format!("an event of the watch is not JSON: {e}")))?;
    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "ERROR" {
        return Err(Status::from_value(&object, 500));
    }
    let initial_events_end = object.pointer("/metadata/annotations/k8s.io~1initial-events-end")
        == Some(&Value::String("true".into()));
    let object = Arc::new(Object::from_wire(object).map_err(Status::internal)?);
    match kind {
        "ADDED" => Ok(WatchEvent::Added(object)),
        "MODIFIED" => Ok(WatchEvent::Modified(object)),
        "DELETED" => Ok(WatchEvent::Deleted(object)),
        "BOOKMARK" => Ok(WatchEvent::Bookmark { revision: object.revision(), initial_events_end }),
        other => Err(Status::internal(format!("a watch event of unknown type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_events() {
        let mut buffer = BytesMut::from(
            "\n{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"5\"}}}\n{\"ty",
        );
        let line = take_line(&mut buffer).unwrap();
        assert!(matches!(parse(&line).unwrap(), WatchEvent::Added(o) if o.revision() == 5));
        assert!(take_line(&mut buffer).is_none());
        assert_eq!(&buffer[..], b"{\"ty");
    }

    #[test]
    fn bookmarks_and_errors() {
        let end = parse(br#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#);
        assert!(matches!(end.unwrap(), WatchEvent::Bookmark { revision: 9, initial_events_end: true }));
        let gone = parse(br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#);
        assert!(gone.unwrap_err().is_expired());
        assert!(parse(b"nonsense").is_err());
    }
}
