//! Documents about what is served: OpenAPI and aggregated discovery, made when they are first asked for after a change of
//! the resource table, and kept compressed.

use crate::discovery;
use crate::hooks::{Body, full};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;
use skep_api::kinds::ResourceTable;
use skep_api::openapi::{self, gnostic};
use skep_api::protobuf;
use skep_api::schema::Schemas;
use skep_api::{GroupVersion, Resource, Status};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Shorter documents are not compressed.
const COMPRESS_FROM: usize = 1400;

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    /// OpenAPI 2, as JSON or in protobuf.
    V2 { protobuf: bool },
    /// Where the OpenAPI 3 documents are.
    V3Index,
    /// OpenAPI 3 of one group version, as JSON or in protobuf.
    V3 { gv: GroupVersion, protobuf: bool },
    /// Aggregated discovery: of the core group or of the others, in which version, as JSON or in protobuf.
    Discovery { core: bool, version: &'static str, protobuf: bool },
}

/// A document with its digest.
#[derive(Debug)]
pub(crate) struct Document {
    bytes: Bytes,
    zipped: bool,
    tag: HeaderValue,
    made: HeaderValue,
}

type Slot = Arc<OnceCell<Option<Arc<Document>>>>;

/// All documents that were asked for. Those of OpenAPI 3 outlive changes of the table that do not concern them.
#[derive(Default)]
pub(crate) struct Documents {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    table: ResourceTable,
    /// Where the index says that the documents of OpenAPI 3 are.
    urls: Option<Arc<Urls>>,
    /// Each with where it was when it was made.
    made: HashMap<Which, (String, Slot)>,
}

type Urls = HashMap<String, String>;

fn rows(table: &ResourceTable) -> Vec<&Resource> {
    table.rows().filter(|row| row.announced()).map(|row| &**row).collect()
}

fn urls(table: &ResourceTable) -> Urls {
    let tree = openapi::v3_index(&rows(table));
    let paths = tree.get("paths").and_then(Value::as_object);
    let url = |entry: &Value| Some(entry.get("serverRelativeURL")?.as_str()?.to_owned());
    paths.into_iter().flatten().filter_map(|(path, entry)| Some((path.clone(), url(entry)?))).collect()
}

/// The bytes of a document; none where there is nothing to be told.
fn write(which: &Which, table: &ResourceTable) -> Option<Bytes> {
    let v2 = || openapi::v2(&rows(table), Schemas::builtin());
    match which {
        Which::V2 { protobuf: false } => Some(v2()),
        Which::V2 { protobuf: true } => {
            let tree = serde_json::from_slice(&v2()).ok()?;
            Some(gnostic::document(&tree).into())
        }
        Which::V3Index => Some(openapi::v3_index(&rows(table)).to_string().into()),
        Which::V3 { gv, protobuf } => {
            let json = openapi::v3(&rows(table), Schemas::builtin(), gv)?;
            if !protobuf {
                return Some(json);
            }
            let tree = serde_json::from_slice(&json).ok()?;
            Some(gnostic::v3::document(&tree).into())
        }
        Which::Discovery { core, version, protobuf } => {
            let tree = discovery::aggregated(table, *core, version);
            if *protobuf {
                protobuf::tree(&tree).ok().map(Bytes::from)
            } else {
                Some(tree.to_string().into())
            }
        }
    }
}

impl Document {
    fn new(text: Bytes) -> Option<Document> {
        let digest = ring::digest::digest(&ring::digest::SHA256, &text);
        let tag: String = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{tag}\"")).ok()?;
        let made = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let made = HeaderValue::from_str(&made).ok()?;
        let zipped = text.len() >= COMPRESS_FROM;
        let bytes = if zipped {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&text).ok()?;
            encoder.finish().ok()?.into()
        } else {
            text
        };
        Some(Document { bytes, zipped, tag, made })
    }

    /// The answer to a request that takes this media type; 304 where the client has the document.
    pub(crate) fn answer(&self, kind: &str, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let mut response = Response::new(full(Bytes::new()));
        let out = response.headers_mut();
        out.insert(CONTENT_TYPE, HeaderValue::from_str(kind).map_err(Status::internal)?);
        out.insert(ETAG, self.tag.clone());
        out.insert(LAST_MODIFIED, self.made.clone());
        out.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        out.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        let had = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        if had.flat_map(|v| v.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == self.tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        let codings = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let takes = codings.split(',').any(|c| c.trim() == "gzip" || c.trim().starts_with("gzip;"));
        let body = match (self.zipped, takes) {
            (true, true) => {
                out.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                self.bytes.clone()
            }
            (true, false) => {
                let mut decoder = GzDecoder::new(Vec::new());
                decoder.write_all(&self.bytes).map_err(Status::internal)?;
                decoder.finish().map_err(Status::internal)?.into()
            }
            (false, _) => self.bytes.clone(),
        };
        *response.body_mut() = full(body);
        Ok(response)
    }
}

impl Documents {
    /// Where the document of a group version is, with its hash; none where it is not served.
    pub(crate) fn url(&self, table: &ResourceTable, gv: &GroupVersion) -> Option<String> {
        self.kept.lock().of(table).urls().get(&openapi::v3_path(gv)).cloned()
    }

    /// A document as of a table; 404 where there is nothing to be told.
    pub(crate) async fn get(&self, table: &ResourceTable, which: Which) -> Result<Arc<Document>, Status> {
        let slot = self.kept.lock().of(table).slot(&which).ok_or_else(Status::unknown_path)?;
        let made = slot
            .get_or_try_init(|| async {
                let table = table.clone();
                let work = move || write(&which, &table).and_then(Document::new).map(Arc::new);
                tokio::task::spawn_blocking(work).await.map_err(Status::internal)
            })
            .await?;
        made.clone().ok_or_else(Status::unknown_path)
    }
}

impl Kept {
    /// The same for a table: what is of another one is dropped.
    fn of(&mut self, table: &ResourceTable) -> &mut Self {
        if !self.table.is_same(table) {
            self.table = table.clone();
            self.urls = None;
            let urls = self.urls();
            self.made.retain(|which, (url, _)| match which {
                Which::V3 { gv, .. } => urls.get(&openapi::v3_path(gv)) == Some(url),
                _ => false,
            });
        }
        self
    }

    fn urls(&mut self) -> Arc<Urls> {
        let table = &self.table;
        self.urls.get_or_insert_with(|| Arc::new(urls(table))).clone()
    }

    /// The place of a document; none for one that there is not.
    fn slot(&mut self, which: &Which) -> Option<Slot> {
        let url = match which {
            Which::V3 { gv, .. } => self.urls().get(&openapi::v3_path(gv))?.clone(),
            _ => String::new(),
        };
        Some(self.made.entry(which.clone()).or_insert_with(|| (url, Slot::default())).1.clone())
    }
}

/// The form of an OpenAPI document that a client takes: its media type, and whether that is protobuf, which the version has
/// under the two names `protobuf`; none where it takes neither.
pub(crate) fn form<'a>(accept: &[&str], protobuf: &[&'a str; 2]) -> Option<(&'a str, bool)> {
    let json = (openapi::MEDIA_TYPE, false);
    if accept.is_empty() {
        return Some(json);
    }
    let ranges = accept.iter().flat_map(|text| text.split(','));
    let names = ranges.map(|range| range.split(';').next().unwrap_or_default().trim());
    let mut any = None;
    for name in names {
        match name {
            openapi::MEDIA_TYPE => return Some(json),
            name if protobuf.contains(&name) => return Some((protobuf[0], true)),
            "*/*" | "application/*" => any = Some(json),
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn body(response: Response<Body>) -> Bytes {
        response.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_document_is_sent_as_the_client_takes_it() {
        for length in [20, 20_000] {
            let text = Bytes::from("x".repeat(length));
            let document = Document::new(text.clone()).unwrap();
            let plain = document.answer("text/plain", &HeaderMap::new()).unwrap();
            assert_eq!(plain.status(), 200);
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, plain.headers()[ETAG].clone());
            assert_eq!(document.answer("text/plain", &headers).unwrap().status(), 304);
            assert_eq!(body(plain).await, text);
            let other = Document::new("other".into()).unwrap();
            assert_eq!(other.answer("text/plain", &headers).unwrap().status(), 200);
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
            let zipped = document.answer("text/plain", &headers).unwrap();
            assert_eq!(zipped.headers().contains_key(CONTENT_ENCODING), length > COMPRESS_FROM);
            if length > COMPRESS_FROM {
                let mut decoder = GzDecoder::new(Vec::new());
                decoder.write_all(&body(zipped).await).unwrap();
                assert_eq!(decoder.finish().unwrap(), text);
            }
        }
    }

    #[tokio::test]
    async fn documents_are_written_once_for_a_table() {
        let documents = Documents::default();
        let table = ResourceTable::builtin();
        let apps = || Which::V3 { gv: GroupVersion::new("apps", "v1"), protobuf: false };
        let json = Which::V2 { protobuf: false };
        let v2 = documents.get(&table, json.clone()).await.unwrap();
        let v3 = documents.get(&table, apps()).await.unwrap();
        assert!(Arc::ptr_eq(&v2, &documents.get(&table, json.clone()).await.unwrap()));
        assert!(Arc::ptr_eq(&v3, &documents.get(&table, apps()).await.unwrap()));
        let url = documents.url(&table, &GroupVersion::new("apps", "v1")).unwrap();
        assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));

        let less = table.retain(|row| row.gvk.group != "batch");
        let fewer = documents.get(&less, json).await.unwrap();
        let text = body(fewer.answer("text/plain", &HeaderMap::new()).unwrap()).await;
        assert!(!String::from_utf8(text.to_vec()).unwrap().contains("/apis/batch/v1/"));
        let batch = Which::V3 { gv: GroupVersion::new("batch", "v1"), protobuf: true };
        assert_eq!(documents.get(&less, batch).await.unwrap_err().code, 404);
        // What does not concern a group leaves its document as it is.
        assert!(Arc::ptr_eq(&v3, &documents.get(&less, apps()).await.unwrap()));
    }

    #[test]
    fn forms_of_documents() {
        for (accept, want) in [
            (&[][..], Some(false)),
            (&["application/json"], Some(false)),
            (&["application/com.github.proto-openapi.spec.v2@v1.0+protobuf"], Some(true)),
            (&["application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json"], Some(true)),
            (&["*/*", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"], Some(true)),
            (&["text/html, */*"], Some(false)),
            (&["text/html"], None),
        ] {
            assert_eq!(form(accept, &gnostic::MEDIA_TYPES).map(|form| form.1), want, "{accept:?}");
            let third: Vec<String> = accept.iter().map(|text| text.replace("spec.v2", "spec.v3")).collect();
            let third: Vec<&str> = third.iter().map(String::as_str).collect();
            assert_eq!(form(&third, &gnostic::v3::MEDIA_TYPES).map(|form| form.1), want, "{accept:?}");
        }
    }
}
