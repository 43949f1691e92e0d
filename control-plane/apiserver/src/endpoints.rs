//! Paths that name no resource: discovery, OpenAPI, version, health and the token keys.

use crate::auth::jwt::{ISSUER, Keys};
use crate::cache::Caches;
use crate::discovery;
use crate::documents::{Documents, Which, form};
use crate::hooks::{Body, Exchange, Handler, Handlers, full};
use crate::http::accept::{Accept, Media, Offer, Wants};
use crate::http::answer as http_answer;
use crate::request::param;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, EXPIRES, LOCATION, VARY};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use skep_api::kinds::ResourceTable;
use skep_api::openapi::gnostic;
use skep_api::protobuf;
use skep_api::{GroupVersion, Status};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Version of the Kubernetes API that is served.
pub const GIT_VERSION: &str = concat!("v1.36.0+skep-", env!("CARGO_PKG_VERSION"));
const JSON: &str = "application/json";

/// A named part of the server's health: none while it is well, else what is wrong.
pub type Check = (&'static str, Arc<dyn Fn() -> Option<String> + Send + Sync>);

/// What the paths show.
pub struct Endpoints {
    /// What is served: the resource table as it is when a request comes.
    pub caches: Arc<Caches>,
    /// Where clients reach the server, `host:port`.
    pub address: String,
    /// The key of service-account tokens.
    pub keys: Arc<Keys>,
    /// Whether the process works at all (`/livez`, `/healthz`).
    pub live: Vec<Check>,
    /// Whether it should be sent requests (`/readyz`), beside `live`.
    pub ready: Vec<Check>,
}

impl Endpoints {
    /// Registers all paths. What `/` shows is what is registered by then, and the groups that are served.
    pub fn register(self, handlers: &mut Handlers) {
        const EXACT: [&str; 10] = [
            "/.well-known/openid-configuration",
            "/api",
            "/apis",
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ];
        let mut paths: Vec<String> = EXACT.iter().map(|p| (*p).to_owned()).collect();
        paths.extend(handlers.paths());
        for (base, checks) in [
            ("/healthz", vec![&self.live]),
            ("/livez", vec![&self.live]),
            ("/readyz", vec![&self.live, &self.ready]),
        ] {
            paths.extend(checks.iter().flat_map(|c| c.iter()).map(|(name, _)| format!("{base}/{name}")));
        }
        let this = Arc::new(Paths { paths, it: self, documents: Documents::default() });
        for path in EXACT.iter().chain(&["/"]) {
            handlers.path(path, this.clone());
        }
        for prefix in ["/api/", "/apis/", "/healthz/", "/livez/", "/readyz/", "/openapi/v3/"] {
            handlers.prefix(prefix, this.clone());
        }
    }
}

struct Paths {
    paths: Vec<String>,
    it: Endpoints,
    documents: Documents,
}

#[async_trait]
impl Handler for Paths {
    async fn handle(&self, exchange: Exchange) -> Result<Response<Body>, Status> {
        let request = &exchange.request;
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        // Health answers to every method, documents to HEAD, and the rest to GET alone.
        let allowed = match *parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => true,
            ["openapi", ..] => matches!(exchange.info.verb.as_str(), "get" | "head"),
            _ => exchange.info.verb == "get",
        };
        if !allowed {
            return Err(Status::method_not_allowed());
        }
        let headers = request.headers();
        let table = &self.it.caches.table();
        let found = match *parts.as_slice() {
            [] => Some(json!({"paths": self.listed(table)})),
            ["version"] => Some(version()),
            ["api"] | ["apis"] => return self.groups(parts[0] == "api", headers).await,
            ["api", version] => discovery::resource_list(table, "", version),
            ["apis", group] => discovery::one_group(table, group),
            ["apis", group, version] => {
                let served = discovery::resource_list(table, group, version);
                match crate::apiservices::elsewhere(&self.it.caches, group, version) {
                    Some(status) if served.is_none() => return Err(status),
                    _ => served,
                }
            }
            ["healthz" | "livez" | "readyz", ref check @ ..] => {
                return self.health(parts[0], &check.join("/"), query);
            }
            ["openapi", "v2"] => {
                let Some((kind, protobuf)) = form(&accepted(headers), &gnostic::MEDIA_TYPES) else {
                    return answer(StatusCode::NOT_ACCEPTABLE, "text/plain", "");
                };
                return self.documents.get(table, Which::V2 { protobuf }).await?.answer(kind, headers);
            }
            ["openapi", "v3"] => {
                return self.documents.get(table, Which::V3Index).await?.answer(JSON, headers);
            }
            ["openapi", "v3", ref rest @ ..] => return self.openapi_v3(rest, query, headers).await,
            [".well-known", "openid-configuration"] => return self.issuer(),
            ["openid", "v1", "jwks"] => return keys(JWK_SET, &self.it.keys.jwks()),
            _ => None,
        };
        let found = found.ok_or_else(Status::unknown_path)?;
        let wants = Wants::read(headers, query);
        // Only documents of discovery have kinds, and with them a protobuf form.
        let accept =
            if found.get("kind").is_some() { wants.choose(Offer::STATUS)? } else { Accept::default() };
        Ok(http_answer::value(200, &accept, &found))
    }
}

impl Paths {
    /// What `/` lists.
    fn listed(&self, table: &ResourceTable) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = self.paths.iter().cloned().collect();
        let announced = table.rows().filter(|row| row.announced());
        for gv in announced.map(|row| row.gvk.group_version()) {
            if gv.group.is_empty() {
                paths.insert(format!("/api/{}", gv.version));
            } else {
                paths.extend([format!("/apis/{}", gv.group), format!("/apis/{gv}")]);
            }
        }
        paths
    }

    /// How the tokens of service accounts are to be checked (OpenID Connect Discovery 1.0).
    fn issuer(&self) -> Result<Response<Body>, Status> {
        let document = json!({
            "issuer": ISSUER, "jwks_uri": format!("https://{}/openid/v1/jwks", self.it.address),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        keys(JSON, &document)
    }

    async fn groups(&self, core: bool, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let table = &self.it.caches.table();
        let Some((media, version)) = wants_aggregated(headers) else {
            let document =
                if core { discovery::api_versions(&self.it.address) } else { discovery::group_list(table) };
            let accept = Wants::read(headers, "").choose(Offer::STATUS)?;
            let mut response = http_answer::value(200, &accept, &document);
            response.headers_mut().insert(VARY, http::HeaderValue::from_static("Accept"));
            return Ok(response);
        };
        let kind = format!("{};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList", media.name());
        let which = Which::Discovery { core, version, protobuf: media == Media::Protobuf };
        self.documents.get(table, which).await?.answer(&kind, headers)
    }

    async fn openapi_v3(
        &self,
        rest: &[&str],
        query: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Status> {
        let gv = match *rest {
            ["api", version] => GroupVersion::new("", version.to_owned()),
            ["apis", group, version] => GroupVersion::new(group.to_owned(), version.to_owned()),
            _ => return Err(Status::unknown_path()),
        };
        let table = &self.it.caches.table();
        let url = self.documents.url(table, &gv).ok_or_else(Status::unknown_path)?;
        let asked = param(query, "hash");
        if asked.is_some() && param(url.split_once('?').map_or("", |s| s.1), "hash") != asked {
            // Where the index gives the document another hash, the client is sent there.
            let mut response = answer(StatusCode::MOVED_PERMANENTLY, "text/plain", String::new())?;
            response.headers_mut().insert(LOCATION, url.parse().map_err(Status::internal)?);
            return Ok(response);
        }
        let Some((kind, protobuf)) = form(&accepted(headers), &gnostic::v3::MEDIA_TYPES) else {
            return answer(StatusCode::NOT_ACCEPTABLE, "text/plain", "");
        };
        let document = self.documents.get(table, Which::V3 { gv, protobuf }).await?;
        let mut response = document.answer(kind, headers)?;
        if asked.is_some() {
            let kept = http::HeaderValue::from_static("public, immutable");
            response.headers_mut().insert(CACHE_CONTROL, kept);
            let year = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_hours(365 * 24));
            let year = year.map_err(Status::internal)?.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            response.headers_mut().insert(EXPIRES, year.parse().map_err(Status::internal)?);
        }
        Ok(response)
    }

    fn health(&self, base: &str, check: &str, query: &str) -> Result<Response<Body>, Status> {
        let more = if base == "readyz" { &self.it.ready[..] } else { &[] };
        let all: Vec<&Check> = self.it.live.iter().chain(more).collect();
        if !check.is_empty() {
            let (_, run) = all.iter().find(|(name, _)| *name == check).ok_or_else(Status::unknown_path)?;
            return match run() {
                None => answer(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
                Some(why) => answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain; charset=utf-8",
                    format!("internal server error: {why}\n"),
                ),
            };
        }
        let excluded = crate::request::params(query, "exclude");
        let results: Vec<(&str, bool)> = all
            .iter()
            .filter(|(name, _)| !excluded.iter().any(|e| e == name))
            .map(|(name, run)| (*name, run().is_none()))
            .collect();
        let (code, text) = report(base, &results, param(query, "verbose").is_some());
        let code = StatusCode::from_u16(code).map_err(Status::internal)?;
        answer(code, "text/plain; charset=utf-8", text)
    }
}

/// Media type of a JSON Web Key Set (RFC 7517, 8.5.1).
const JWK_SET: &str = "application/jwk-set+json";

/// A document about the token keys, which may be kept for an hour.
fn keys(kind: &str, document: &Value) -> Result<Response<Body>, Status> {
    let mut response = answer(StatusCode::OK, kind, document.to_string())?;
    let kept = http::HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, kept);
    Ok(response)
}

/// Code and text of a health report.
fn report(base: &str, results: &[(&str, bool)], verbose: bool) -> (u16, String) {
    let well = results.iter().all(|r| r.1);
    if well && !verbose {
        return (200, "ok".into());
    }
    let mut text = String::new();
    for (name, well) in results {
        text.push_str(&if *well {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        });
    }
    text.push_str(&format!("{base} check {}\n", if well { "passed" } else { "failed" }));
    (if well { 200 } else { 500 }, text)
}

/// The form and version of the aggregated document that the client takes, in its order of preference. Protobuf has no
/// `v2beta1`.
fn wants_aggregated(headers: &HeaderMap) -> Option<(Media, &'static str)> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    for range in accept.flat_map(|v| v.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters: Vec<&str> = parts.collect();
        let media = match name {
            protobuf::MEDIA_TYPE => Media::Protobuf,
            JSON => Media::Json,
            "*/*" if parameters.iter().all(|p| p.starts_with("q=")) => return None,
            _ => continue,
        };
        let all =
            parameters.contains(&"g=apidiscovery.k8s.io") && parameters.contains(&"as=APIGroupDiscoveryList");
        match ["v2", "v2beta1"].into_iter().find(|v| all && parameters.contains(&format!("v={v}").as_str())) {
            Some("v2beta1") if media == Media::Protobuf => {}
            Some(version) => return Some((media, version)),
            None => return None,
        }
    }
    None
}

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// The architecture as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a client takes, in its own words.
fn accepted(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect()
}

fn answer(code: StatusCode, kind: &str, text: impl Into<Bytes>) -> Result<Response<Body>, Status> {
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, kind)
        .body(full(text.into()))
        .map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_reads_as_upstreams() {
        assert_eq!(report("livez", &[("ping", true)], false), (200, "ok".into()));
        assert_eq!(
            report("readyz", &[("ping", true), ("etcd", true)], true),
            (200, "[+]ping ok\n[+]etcd ok\nreadyz check passed\n".into())
        );
        assert_eq!(
            report("readyz", &[("ping", true), ("etcd", false)], false),
            (500, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n".into())
        );
    }

    #[test]
    fn which_form_of_discovery_a_client_wants() {
        for (accept, want) in [
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                Some((Media::Json, "v2")),
            ),
            (
                "application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io",
                Some((Media::Json, "v2beta1")),
            ),
            ("application/json", None),
            ("*/*", None),
            ("application/json, application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", None),
            (
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some((Media::Protobuf, "v2")),
            ),
            (
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                None,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_aggregated(&headers), want, "{accept}");
        }
        assert_eq!(wants_aggregated(&HeaderMap::new()), None);
    }
}
