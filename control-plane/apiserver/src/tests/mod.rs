//! The server over a real store, asked as clients ask.

mod applying;
mod differential;
mod evictions;
mod forms;
mod live;
mod options;
mod quotas;
mod recorded;
mod requests;
mod secure;
mod storage;
mod watches;

use crate::Handlers;
use crate::cache::Caches;
use crate::hooks::{Admission, Authenticator, Authorizer, Body, Decision, Shown, WriteRequest, full};
use crate::request::{RequestInfo, UserInfo};
use crate::server::{ApiServer, Limits, Parts};
use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use skep_api::kinds::ResourceTable;
use skep_api::{Object, Status};
use skep_store::{Config, Store};
use std::sync::Arc;

/// Anybody; a user named `nobody` may nothing.
struct Open;

#[async_trait]
impl Authenticator for Open {
    fn shown(&self, _: &[CertificateDer<'_>]) -> Shown {
        Shown::Nothing
    }

    async fn authenticate(&self, headers: &http::HeaderMap, _: &Shown) -> Result<UserInfo, Status> {
        match headers.get("user").and_then(|u| u.to_str().ok()) {
            Some("stranger") => Err(Status::unauthorized()),
            name => Ok(UserInfo::new(name.unwrap_or("admin"), &[])),
        }
    }
}

#[async_trait]
impl Authorizer for Open {
    async fn authorize(&self, user: &UserInfo, _: &RequestInfo) -> Decision {
        if user.name == "nobody" { Decision::Deny(String::new()) } else { Decision::Allow }
    }
}

#[async_trait]
impl Admission for Open {
    async fn admit(&self, _: &WriteRequest<'_>, _: &mut Value, _: Option<&Object>) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(
        &self,
        _: &WriteRequest<'_>,
        _: Option<&Value>,
        _: Option<&Object>,
        _: &mut Vec<String>,
    ) -> Result<(), Status> {
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) store: Store,
    _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

pub(crate) async fn world() -> World {
    world_with(Limits::default(), Handlers::default()).await
}

pub(crate) async fn world_with(limits: Limits, handlers: Handlers) -> World {
    world_of(limits, |_| handlers).await
}

/// A world whose handlers know the caches.
pub(crate) async fn world_of(limits: Limits, handlers: impl FnOnce(Arc<Caches>) -> Handlers) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let caches = Caches::start(store.clone(), ResourceTable::builtin()).await.unwrap();
    let handlers = handlers(caches.clone());
    let server = ApiServer::new(Parts {
        caches,
        authenticator: Arc::new(Open),
        authorizer: Arc::new(Open),
        admission: Arc::new(Open),
        handlers,
        limits,
    });
    World { server, store, _dir: dir }
}

impl World {
    pub(crate) async fn raw(&self, request: Request<Body>) -> Response<Body> {
        self.server.clone().answer_to(request).await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let response = self.raw(request.body(full(body)).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path, "application/json", body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    /// Creates a ConfigMap in namespace `d`.
    pub(crate) async fn config_map(&self, name: &str, labels: Value) -> Answer {
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}});
        let answer = self.json("POST", "/api/v1/namespaces/d/configmaps", body).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        answer
    }
}

/// The names of a list's items.
pub(crate) fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
