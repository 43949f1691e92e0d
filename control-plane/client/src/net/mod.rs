//! The API over HTTPS.

mod config;
mod watch;

pub use config::{Config, ConfigError, Credentials};

use crate::{
    Client, Collection, DeleteOptions, ListOptions, ObjectList, Patch, Target, WatchOptions, WatchStream,
    WriteOptions,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use skep_api::{Object, Status};
use std::sync::Arc;
use std::time::Duration;

/// How long a request may take that is not a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An HTTP/2 connection whose peer has not answered a ping for so long is given up, so that a watch never
/// hangs on a dead server.
const PING: Duration = Duration::from_secs(15);

/// A client over one (multiplexed) HTTPS connection.
#[derive(Clone)]
pub struct HttpClient {
    inner: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: Arc<str>,
    bearer: Option<Arc<str>>,
    user_agent: Arc<str>,
}

impl HttpClient {
    /// A client for the server and the identity of `config`; `user_agent` names the component.
    pub fn new(config: &Config, user_agent: &str) -> Result<Self, ConfigError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config.tls()?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_adaptive_window(true)
            .build(https);
        Ok(HttpClient {
            inner,
            server: config.server.trim_end_matches('/').into(),
            bearer: config.bearer().map(Into::into),
            user_agent: user_agent.into(),
        })
    }

    /// Sends one request; an answer outside 200 to 299 becomes its [`Status`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Status> {
        let uri = format!("{}{path}", self.server);
        let mut request = Request::builder()
            .method(method)
            .uri(&uri)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, &*self.user_agent);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Status::bad_request(format!("{uri} is not a request: {e}")))?;
        let response = self
            .inner
            .request(request)
            .await
            .map_err(|e| Status::unavailable(format!("{}: {}", self.server, root_cause(&e))))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = collect(response).await.unwrap_or_default();
        Err(match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value.get("kind").and_then(Value::as_str) == Some("Status") => {
                Status::from_value(&value, code)
            }
            _ => Status {
                code,
                ..Status::new(skep_api::Reason::Unknown, String::from_utf8_lossy(&body).into_owned())
            },
        })
    }

    /// Sends one request and reads a JSON answer.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Status> {
        let body = match body {
            Some(value) => serde_json::to_vec(value).map_err(Status::internal)?.into(),
            None => Bytes::new(),
        };
        let exchange = async { collect(self.send(method, path, content_type, body).await?).await };
        let bytes = tokio::time::timeout(REQUEST_TIMEOUT, exchange).await.map_err(|_| {
            Status::timeout(format!("{path}: no answer within {}s", REQUEST_TIMEOUT.as_secs()))
        })??;
        serde_json::from_slice(&bytes)
            .map_err(|e| Status::internal(format!("{path}: the answer is not JSON: {e}")))
    }

    async fn object(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Arc<Object>, Status> {
        let value = self.json(method, path, content_type, body).await?;
        Ok(Arc::new(Object::from_wire(value).map_err(Status::internal)?))
    }
}

const JSON: &str = "application/json";

/// The innermost error: "connection refused" rather than "client error (Connect)".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    at.to_string()
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Status> {
    let body = response.into_body().collect().await;
    Ok(body.map_err(|e| Status::unavailable(format!("the answer broke off: {e}")))?.to_bytes())
}

/// Percent-encodes a value of a query.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Joins the pairs that have a value behind a path.
fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let query: Vec<String> =
        pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", quote(v))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

fn flag(name: &'static str, on: bool) -> (&'static str, String) {
    (name, if on { "true".into() } else { String::new() })
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn list_path(collection: &Collection, options: &ListOptions) -> String {
    let limit = if options.limit == 0 { String::new() } else { options.limit.to_string() };
    let pairs = [
        ("labelSelector", options.label_selector.clone()),
        ("fieldSelector", options.field_selector.clone()),
        ("limit", limit),
        ("continue", options.continue_token.clone().unwrap_or_default()),
        ("resourceVersion", optional(options.revision)),
    ];
    with_query(&collection.path(), &pairs)
}

fn watch_path(collection: &Collection, options: &WatchOptions) -> String {
    let initial = options.send_initial_events;
    let pairs = [
        flag("watch", true),
        ("labelSelector", options.label_selector.clone()),
        ("fieldSelector", options.field_selector.clone()),
        ("resourceVersion", optional(options.revision)),
        flag("sendInitialEvents", initial),
        ("resourceVersionMatch", if initial { "NotOlderThan".into() } else { String::new() }),
        flag("allowWatchBookmarks", options.bookmarks || initial),
        ("timeoutSeconds", optional(options.timeout_seconds)),
    ];
    with_query(&collection.path(), &pairs)
}

fn write_path(path: String, options: &WriteOptions) -> String {
    let pairs = [
        ("dryRun", if options.dry_run { "All".into() } else { String::new() }),
        ("fieldManager", options.field_manager.clone().unwrap_or_default()),
        flag("force", options.force),
    ];
    with_query(&path, &pairs)
}

fn delete_body(options: &DeleteOptions) -> Value {
    let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(uid) = &options.uid {
        body["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(revision) = options.revision {
        body["preconditions"]["resourceVersion"] = revision.to_string().into();
    }
    if let Some(policy) = options.propagation {
        body["propagationPolicy"] = policy.as_str().into();
    }
    if options.dry_run {
        body["dryRun"] = json!(["All"]);
    }
    body
}

#[async_trait]
impl Client for HttpClient {
    async fn get(&self, target: &Target) -> Result<Arc<Object>, Status> {
        self.object(Method::GET, &target.path(), JSON, None).await
    }

    async fn list(&self, collection: &Collection, options: &ListOptions) -> Result<ObjectList, Status> {
        let mut value = self.json(Method::GET, &list_path(collection, options), JSON, None).await?;
        let text =
            |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        // Items of a list carry neither: their kind is the list's, less "List".
        let kind = text("/kind").trim_end_matches("List").to_owned();
        let (api_version, token) = (text("/apiVersion"), text("/metadata/continue"));
        let revision = text("/metadata/resourceVersion").parse().unwrap_or(0);
        let items = match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let items = items
            .into_iter()
            .map(|mut item| {
                if let Some(map) = item.as_object_mut() {
                    map.entry("apiVersion").or_insert_with(|| api_version.as_str().into());
                    map.entry("kind").or_insert_with(|| kind.as_str().into());
                }
                Object::from_wire(item).map(Arc::new).map_err(Status::internal)
            })
            .collect::<Result<_, _>>()?;
        Ok(ObjectList { items, revision, continue_token: (!token.is_empty()).then_some(token) })
    }

    async fn watch(&self, collection: &Collection, options: &WatchOptions) -> Result<WatchStream, Status> {
        let path = watch_path(collection, options);
        let open = self.send(Method::GET, &path, JSON, Bytes::new());
        let response = tokio::time::timeout(REQUEST_TIMEOUT, open)
            .await
            .map_err(|_| Status::timeout(format!("{path}: no answer")))??;
        Ok(watch::events(response.into_body()))
    }

    async fn create(
        &self,
        collection: &Collection,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        self.object(Method::POST, &write_path(collection.path(), options), JSON, Some(&body)).await
    }

    async fn create_subresource(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        self.object(Method::POST, &write_path(target.path(), options), JSON, Some(&body)).await
    }

    async fn update(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        self.object(Method::PUT, &write_path(target.path(), options), JSON, Some(&body)).await
    }

    async fn patch(
        &self,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let path = write_path(target.path(), options);
        self.object(Method::PATCH, &path, patch.content_type(), Some(patch.body())).await
    }

    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Arc<Object>>, Status> {
        let value = self.json(Method::DELETE, &target.path(), JSON, Some(&delete_body(options))).await?;
        if value.get("kind").and_then(Value::as_str) == Some("Status") {
            return Ok(None);
        }
        Ok(Some(Arc::new(Object::from_wire(value).map_err(Status::internal)?)))
    }

    async fn delete_collection(
        &self,
        collection: &Collection,
        selectors: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let path = list_path(collection, selectors);
        self.json(Method::DELETE, &path, JSON, Some(&delete_body(options))).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_quoted() {
        let pods = Collection::core("pods").within("d");
        let options = ListOptions { limit: 5, ..ListOptions::labels("app in (a, b)") };
        assert_eq!(
            list_path(&pods, &options),
            "/api/v1/namespaces/d/pods?labelSelector=app%20in%20%28a%2C%20b%29&limit=5"
        );
        let watch = WatchOptions { revision: Some(7), bookmarks: true, ..WatchOptions::default() };
        assert_eq!(
            watch_path(&pods, &watch),
            "/api/v1/namespaces/d/pods?watch=true&resourceVersion=7&allowWatchBookmarks=true"
        );
        assert_eq!(write_path("/x".into(), &WriteOptions::default()), "/x");
    }

    #[test]
    fn delete_options_on_the_wire() {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some("u".into()),
            propagation: Some(crate::Propagation::Foreground),
            ..DeleteOptions::default()
        };
        assert_eq!(
            delete_body(&options),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                   "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground"})
        );
    }
}
