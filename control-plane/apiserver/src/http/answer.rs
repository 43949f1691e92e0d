//! Answers: objects, lists and statuses in the negotiated form.

use super::accept::{Accept, Form, Media};
use crate::hooks::{Body, BodyError, full};
use crate::registry::{Listing, Token, status_value};
use crate::table::{Columns, IncludeObject, partial, table, write_partial};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use skep_api::protobuf::{self, ListMeta, Message};
use skep_api::{Object, Resource, Status, yaml};
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
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(accept.media.name()));
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
    if accept.media == Media::Protobuf {
        return match protobuf::tree(value) {
            Ok(body) => bytes(code, accept, body),
            // Of no kind that has a protobuf form.
            Err(_) => self::value(code, &Accept { media: Media::Json, ..*accept }, value),
        };
    }
    bytes(code, accept, text(accept, value))
}

/// A tree as text: YAML, or JSON indented or in one line.
fn text(accept: &Accept, value: &Value) -> Vec<u8> {
    if accept.media == Media::Yaml {
        return yaml::document(value);
    }
    // A tree of our own has nothing that could not be written.
    if accept.pretty {
        return serde_json::to_vec_pretty(value).unwrap_or_default();
    }
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text
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

/// Puts warnings in front of those that are there.
pub(crate) fn warn_first(response: &mut Response<Body>, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    let before: Vec<HeaderValue> = response.headers().get_all(WARNING).iter().cloned().collect();
    response.headers_mut().remove(WARNING);
    warn(response, warnings);
    for value in before {
        response.headers_mut().append(WARNING, value);
    }
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
pub(crate) fn object_bytes(
    accept: &Accept,
    shape: Shape<'_>,
    object: &Arc<Object>,
    headers: bool,
) -> Result<Bytes, Status> {
    let tree = match (accept.form, accept.media) {
        (Form::Object, Media::Protobuf) => {
            let kind = protobuf::kind_of(object);
            let message = Message::of(object).map_err(Status::internal)?;
            return Ok(protobuf::object((&kind.0, &kind.1), &message, object.revision()));
        }
        (Form::Partial | Form::PartialList, Media::Protobuf) => {
            let message = Message::partial(object).map_err(Status::internal)?;
            let kind = (accept.meta_version(), "PartialObjectMetadata");
            return Ok(protobuf::object(kind, &message, object.revision()));
        }
        (Form::Object, _) if accept.is_line() => {
            let mut out = BytesMut::with_capacity(object.body().len() + 48);
            object.write_json(&mut out);
            out.put_u8(b'\n');
            return Ok(out.freeze());
        }
        (Form::Partial | Form::PartialList, _) if accept.is_line() => {
            let mut out = BytesMut::new();
            write_partial(accept.meta_version(), object, &mut out);
            out.put_u8(b'\n');
            return Ok(out.freeze());
        }
        (Form::Object, _) => object.value(),
        (Form::Partial | Form::PartialList, _) => partial(accept.meta_version(), object),
        (Form::Table, _) => {
            let metadata = match object.revision() {
                0 => json!({}),
                revision => json!({"resourceVersion": revision.to_string()}),
            };
            let objects = std::slice::from_ref(object);
            let columns = shape.columns(accept, headers);
            table(shape.row, objects, metadata, columns, jiff::Timestamp::now())
        }
    };
    Ok(text(accept, &tree).into())
}

impl Shape<'_> {
    /// What a table shows.
    pub(crate) fn columns(&self, accept: &Accept, headers: bool) -> Columns {
        Columns { include: self.include, headers, api_version: accept.meta_version() }
    }
}

/// One object.
pub(crate) fn object(
    code: u16,
    accept: &Accept,
    shape: Shape<'_>,
    object: &Arc<Object>,
) -> Result<Response<Body>, Status> {
    Ok(bytes(code, accept, object_bytes(accept, shape, object, true)?))
}

fn list_metadata(listing: &Listing) -> Value {
    let mut metadata = json!({});
    if listing.revision > 0 {
        metadata["resourceVersion"] = listing.revision.to_string().into();
    }
    if let Some(token) = &listing.token {
        metadata["continue"] = token.encode().into();
        if let Some(remaining) = listing.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    metadata
}

/// A list: written item by item from the shared bodies.
pub(crate) async fn list(
    accept: &Accept,
    shape: Shape<'_>,
    listing: Listing,
) -> Result<Response<Body>, Status> {
    let row = shape.row;
    let partial_form = matches!(accept.form, Form::Partial | Form::PartialList);
    let (api_version, kind) = if partial_form {
        (accept.meta_version().to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (row.gvk.api_version(), row.list_kind().into_owned())
    };
    if accept.media == Media::Protobuf && accept.form != Form::Table {
        return protobuf_list(accept, partial_form, (&api_version, &kind), listing).await;
    }
    let metadata = list_metadata(&listing);
    if accept.form == Form::Table {
        let now = jiff::Timestamp::now();
        let columns = shape.columns(accept, true);
        return Ok(value(200, accept, &table(row, &listing.items, metadata, columns, now)));
    }
    if !accept.is_line() {
        let whole = |object: &Arc<Object>| match partial_form {
            true => partial(accept.meta_version(), object),
            false => object.value(),
        };
        let items: Vec<Value> = listing.items.iter().map(whole).collect();
        let tree = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items});
        return Ok(value(200, accept, &tree));
    }
    let head =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[");
    let size = head.len() + listing.items.iter().map(|o| o.body().len() + 48).sum::<usize>();
    let partial = partial_form.then(|| accept.meta_version());
    let mut pieces = ListPieces { head: Some(head), items: listing.items.into_iter(), first: true, partial };
    if size < PIECE {
        return Ok(bytes(200, accept, pieces.next().unwrap_or_default()));
    }
    Ok(streamed(200, accept, Box::new(pieces), size))
}

/// So many objects are written before others get their turn.
const TURN: usize = 256;

async fn protobuf_list(
    accept: &Accept,
    partial: bool,
    (api_version, kind): (&str, &str),
    listing: Listing,
) -> Result<Response<Body>, Status> {
    let mut items = Vec::with_capacity(listing.items.len());
    let mut length = 0;
    for (at, object) in listing.items.iter().enumerate() {
        let message = if partial { Message::partial(object) } else { Message::of(object) };
        let message = message.map_err(Status::internal)?;
        let own = message.len(object.revision());
        length += protobuf::item_head(own).len() + own;
        items.push((message, object.revision()));
        if at % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    let token = listing.token.as_ref().map(Token::encode).unwrap_or_default();
    let remaining = listing.remaining.filter(|_| listing.token.is_some());
    let meta = ListMeta {
        revision: listing.revision,
        token: &token,
        remaining: remaining.and_then(|count| i64::try_from(count).ok()),
    };
    let (before, after) = protobuf::list(api_version, kind, &meta, length);
    let size = before.len() + length + after.len();
    let mut pieces = MessagePieces { before: Some(before), items: items.into_iter(), after: Some(after) };
    if size < PIECE {
        return Ok(bytes(200, accept, pieces.next().unwrap_or_default()));
    }
    Ok(streamed(200, accept, Box::new(pieces), size))
}

/// A list of messages in large pieces.
struct MessagePieces {
    before: Option<Vec<u8>>,
    items: std::vec::IntoIter<(Message, u64)>,
    after: Option<&'static [u8]>,
}

impl Iterator for MessagePieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let after = self.after?;
        let mut out = BytesMut::with_capacity(PIECE + (PIECE >> 2));
        out.put_slice(&self.before.take().unwrap_or_default());
        for (message, revision) in self.items.by_ref() {
            out.put_slice(&protobuf::item_head(message.len(revision)));
            message.write(revision, &mut out);
            if out.len() >= PIECE {
                break;
            }
        }
        if self.items.as_slice().is_empty() {
            out.put_slice(after);
            self.after = None;
        }
        Some(out.freeze())
    }
}

/// A list in large pieces.
struct ListPieces {
    head: Option<String>,
    items: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    /// The version of the meta group whose partial form the items have.
    partial: Option<&'static str>,
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
            match self.partial {
                Some(api_version) => write_partial(api_version, &object, &mut out),
                None => object.write_json(&mut out),
            }
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
            let pieces = ListPieces {
                head: Some("{\"items\":[".into()),
                items: items.into_iter(),
                first: true,
                partial: None,
            };
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
