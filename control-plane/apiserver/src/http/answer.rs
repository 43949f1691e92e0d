//! Answers: objects, lists and statuses in the negotiated form.

use super::accept::{Accept, Form};
use crate::hooks::{Body, BodyError, full};
use crate::registry::{Listing, status_value};
use crate::table::{IncludeObject, partial, table};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use skep_api::{Object, Resource, Status};
use std::io::Write;
use std::sync::Arc;

/// Size of the pieces of large answers.
const PIECE: usize = 64 << 10;
/// Answers from this size on are compressed for who accepts it (upstream's threshold).
const COMPRESS_FROM: usize = 128 << 10;

/// An answer of bytes that are at hand.
pub(crate) fn bytes(code: u16, accept: &Accept, body: impl Into<Bytes>) -> Response<Body> {
    let body: Bytes = body.into();
    let size = body.len();
    if accept.gzip && size >= COMPRESS_FROM {
        let pieces = (0..size).step_by(PIECE).map(move |at| body.slice(at..size.min(at + PIECE)));
        return streamed(code, accept, Box::new(pieces), size);
    }
    let mut response = Response::new(full(body));
    head(&mut response, code, accept);
    response
}

fn head(response: &mut Response<Body>, code: u16, accept: &Accept) {
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(accept.content_type()));
}

type Pieces = Box<dyn Iterator<Item = Bytes> + Send>;

fn streamed(code: u16, accept: &Accept, pieces: Pieces, size: usize) -> Response<Body> {
    let zip = accept.gzip && size >= COMPRESS_FROM;
    let pieces: Pieces = if zip { Box::new(Zipped::new(pieces)) } else { pieces };
    let frames = pieces.map(|piece| Ok::<_, BodyError>(Frame::data(piece)));
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
    head(&mut response, code, accept);
    if zip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// Compresses piece by piece.
struct Zipped {
    pieces: Pieces,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Zipped {
    fn new(pieces: Pieces) -> Self {
        Zipped { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl Iterator for Zipped {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let encoder = self.encoder.as_mut()?;
            match self.pieces.next() {
                Some(piece) => {
                    // Writing into memory does not fail.
                    encoder.write_all(&piece).ok()?;
                    if !encoder.get_ref().is_empty() {
                        return Some(std::mem::take(encoder.get_mut()).into());
                    }
                }
                None => return self.encoder.take()?.finish().ok().map(Bytes::from),
            }
        }
    }
}

/// A tree.
pub(crate) fn value(code: u16, accept: &Accept, value: &Value) -> Response<Body> {
    let text = if accept.pretty {
        serde_json::to_vec_pretty(value).map(|mut text| {
            text.push(b'\n');
            text
        })
    } else {
        serde_json::to_vec(value)
    };
    bytes(code, accept, text.unwrap_or_default())
}

/// A failure.
pub(crate) fn status(accept: &Accept, status: &Status) -> Response<Body> {
    let mut response = value(status.code, accept, &status_value(status));
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Adds warnings, each as a header of its own.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for text in warnings {
        let quoted: String = text
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, header);
        }
    }
}

/// What tables need to know beside the objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    /// Row of the resource.
    pub(crate) row: &'a Resource,
    /// How much of the object a table's row carries.
    pub(crate) include: IncludeObject,
}

/// The bytes of one object in its negotiated form; `headers` tells a table to describe its columns.
pub(crate) fn object_bytes(accept: &Accept, shape: Shape<'_>, object: &Arc<Object>, headers: bool) -> Bytes {
    let tree = match accept.form {
        Form::Object if !accept.pretty => return object.to_json(),
        Form::Object => object.value(),
        Form::Partial => partial(object),
        Form::Table => {
            let metadata = match object.revision() {
                0 => json!({}),
                revision => json!({"resourceVersion": revision.to_string()}),
            };
            let objects = std::slice::from_ref(object);
            table(shape.row, objects, metadata, shape.include, headers, jiff::Timestamp::now())
        }
    };
    let text = if accept.pretty { serde_json::to_vec_pretty(&tree) } else { serde_json::to_vec(&tree) };
    text.unwrap_or_default().into()
}

/// One object.
pub(crate) fn object(code: u16, accept: &Accept, shape: Shape<'_>, object: &Arc<Object>) -> Response<Body> {
    bytes(code, accept, object_bytes(accept, shape, object, true))
}

fn list_metadata(listing: &Listing) -> Value {
    let mut metadata = json!({"resourceVersion": listing.revision.to_string()});
    if let Some(token) = &listing.token {
        metadata["continue"] = token.encode().into();
        if let Some(remaining) = listing.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    metadata
}

/// A list: written item by item from the shared bodies.
pub(crate) fn list(accept: &Accept, shape: Shape<'_>, listing: Listing) -> Response<Body> {
    let metadata = list_metadata(&listing);
    let row = shape.row;
    match accept.form {
        Form::Table => {
            let now = jiff::Timestamp::now();
            value(200, accept, &table(row, &listing.items, metadata, shape.include, true, now))
        }
        Form::Partial => {
            let items: Vec<Value> = listing.items.iter().map(|o| partial(o)).collect();
            let tree = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items,
            });
            value(200, accept, &tree)
        }
        Form::Object if accept.pretty => {
            let items: Vec<Value> = listing.items.iter().map(|o| o.value()).collect();
            let tree = json!({
                "kind": format!("{}List", row.gvk.kind), "apiVersion": row.gvk.api_version(),
                "metadata": metadata, "items": items,
            });
            value(200, accept, &tree)
        }
        Form::Object => {
            let head = format!(
                "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
                row.gvk.kind,
                row.gvk.api_version()
            );
            let size = head.len() + listing.items.iter().map(|o| o.body().len() + 48).sum::<usize>();
            let mut pieces = ListPieces { head: Some(head), items: listing.items.into_iter(), first: true };
            if size < PIECE {
                return bytes(200, accept, pieces.next().unwrap_or_default());
            }
            streamed(200, accept, Box::new(pieces), size)
        }
    }
}

/// A list in large pieces.
struct ListPieces {
    head: Option<String>,
    items: std::vec::IntoIter<Arc<Object>>,
    first: bool,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        match self.head.take() {
            Some(head) => out.put_slice(head.as_bytes()),
            None if self.items.as_slice().is_empty() => return None,
            None => out.reserve(PIECE + (PIECE >> 2)),
        }
        for object in self.items.by_ref() {
            if !std::mem::take(&mut self.first) {
                out.put_u8(b',');
            }
            object.write_json(&mut out);
            if out.len() >= PIECE {
                break;
            }
        }
        if self.items.as_slice().is_empty() {
            out.put_slice(b"]}\n");
        }
        Some(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_pieces_join_to_json() {
        let body = |n: usize| json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": format!("n{n}")}, "d": "x".repeat(3000)});
        for count in [0, 1, 2, 60] {
            let items: Vec<_> = (0..count)
                .map(|n| Arc::new(Object::from_value(body(n), n as u64 + 1, &[]).unwrap()))
                .collect();
            let pieces =
                ListPieces { head: Some("{\"items\":[".into()), items: items.into_iter(), first: true };
            let joined: Vec<u8> = pieces.flat_map(|piece| piece.to_vec()).collect();
            let tree: Value = serde_json::from_slice(&joined).unwrap();
            assert_eq!(tree["items"].as_array().unwrap().len(), count);
        }
    }

    #[test]
    fn compressed_pieces_unfold() {
        let text = "abc ".repeat(50_000);
        let pieces: Vec<Bytes> = text.as_bytes().chunks(1000).map(Bytes::copy_from_slice).collect();
        let zipped: Vec<u8> = Zipped::new(Box::new(pieces.into_iter())).flat_map(|p| p.to_vec()).collect();
        assert!(zipped.len() < text.len() / 10);
        let mut out = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped[..]), &mut out).unwrap();
        assert_eq!(out, text);
    }
}
