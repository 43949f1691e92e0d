//! Who may ask the node, and what: the API server and administrators by their certificates, everybody else as the API server
//! says of their token or certificate (TokenReview, SubjectAccessReview), under the names of the kubelet's own resources.

use crate::api::Api;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::Status;
use skep_client::{Collection, WriteOptions};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The identity the API server calls with.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// How long it is remembered whose a token is.
const TOKEN_KNOWN: Duration = Duration::from_secs(120);
/// How long it is remembered that somebody may.
const ALLOWED_KNOWN: Duration = Duration::from_secs(300);
/// How long it is remembered that somebody may not.
const DENIED_KNOWN: Duration = Duration::from_secs(30);
/// So many answers are remembered of each kind.
const REMEMBERED: usize = 1024;

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Caller {
    /// Name.
    pub name: String,
    /// Uid, or empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else is known, as JSON text, or empty.
    pub extra: String,
}

impl Caller {
    /// The owner of a certificate that TLS has verified: common name and organizations.
    fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().find_map(|name| name.as_str().ok())?.to_owned();
        let mut groups: Vec<String> =
            subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
        groups.push("system:authenticated".into());
        Some(Caller { name, groups, ..Caller::default() })
    }

    /// Whom nobody has to be asked about.
    fn is_trusted(&self) -> bool {
        self.name == API_SERVER || self.groups.iter().any(|group| group == ADMINISTRATORS)
    }
}

/// Why somebody is not answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who asks.
    Unauthorized,
    /// They may not; what they wanted, for people.
    Forbidden(String),
    /// It cannot be found out now.
    Unknown(String),
}

/// What a request needs the right to: any of these below the node, and the verb.
fn wish(method: &str, path: &str) -> (&'static str, Vec<&'static str>) {
    let verb = match method {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let below = match first {
        "pods" | "runningpods" => vec!["pods", "proxy"],
        "healthz" => vec!["healthz", "proxy"],
        "configz" => vec!["configz", "proxy"],
        "stats" => vec!["stats"],
        "metrics" => vec!["metrics"],
        "logs" => vec!["log"],
        _ => vec!["proxy"],
    };
    (verb, below)
}

/// Who says.
#[async_trait]
pub trait Reviews: Send + Sync + 'static {
    /// Whose a token is; none where it is nobody's.
    async fn token(&self, token: &str) -> Result<Option<Caller>, Status>;

    /// Whether somebody may do this to what is below the node.
    async fn access(&self, caller: &Caller, verb: &str, below: &str) -> Result<bool, Status>;
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

#[async_trait]
impl Reviews for Api {
    async fn token(&self, token: &str) -> Result<Option<Caller>, Status> {
        let reviews = Collection::of("authentication.k8s.io", "v1", "tokenreviews");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = self.client().create(&reviews, body, &WriteOptions::default()).await?.value();
        let status = &answer["status"];
        if status["authenticated"] != true {
            return Ok(None);
        }
        let user = &status["user"];
        let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
        let extra = if user["extra"].is_object() { user["extra"].to_string() } else { String::new() };
        Ok(Some(Caller { name: text("username"), uid: text("uid"), groups: texts(&user["groups"]), extra }))
    }

    async fn access(&self, caller: &Caller, verb: &str, below: &str) -> Result<bool, Status> {
        let reviews = Collection::of("authorization.k8s.io", "v1", "subjectaccessreviews");
        let mut spec = json!({
            "user": caller.name, "groups": caller.groups,
            "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": below, "name": self.node(),
            },
        });
        if !caller.uid.is_empty() {
            spec["uid"] = json!(caller.uid);
        }
        if let Ok(extra) = serde_json::from_str::<Value>(&caller.extra) {
            spec["extra"] = extra;
        }
        let body =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer = self.client().create(&reviews, body, &WriteOptions::default()).await?.value();
        Ok(answer["status"]["allowed"] == true)
    }
}

/// Answers that hold for a while; when there are too many all are forgotten.
struct Memory<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    fn new() -> Self {
        Memory(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
    }

    fn put(&self, key: K, value: V, time: Duration) {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(key, (value, Instant::now() + time));
    }
}

/// The door.
pub struct Access {
    reviews: Arc<dyn Reviews>,
    /// By the token's digest.
    tokens: Memory<Vec<u8>, Caller>,
    rights: Memory<(Caller, &'static str, &'static str), bool>,
}

impl Access {
    /// A door where `reviews` is asked about whom nobody knows.
    pub fn new(reviews: Arc<dyn Reviews>) -> Self {
        Access { reviews, tokens: Memory::new(), rights: Memory::new() }
    }

    /// Whether a request is to be answered. `certificate`: the client's own, verified by TLS; `token`: of its
    /// `Authorization` header.
    pub async fn check(
        &self,
        certificate: Option<&[u8]>,
        token: Option<&str>,
        method: &str,
        path: &str,
    ) -> Result<(), Refusal> {
        let caller = match certificate.and_then(Caller::of_certificate) {
            Some(caller) if caller.is_trusted() => return Ok(()),
            Some(caller) => caller,
            None => self.owner(token.ok_or(Refusal::Unauthorized)?).await?,
        };
        let (verb, below) = wish(method, path);
        for one in &below {
            if self.may(&caller, verb, one).await? {
                return Ok(());
            }
        }
        Err(Refusal::Forbidden(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            caller.name,
            below.join(" ")
        )))
    }

    async fn owner(&self, token: &str) -> Result<Caller, Refusal> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref().to_vec();
        if let Some(caller) = self.tokens.get(&digest) {
            return Ok(caller);
        }
        let asked = self.reviews.token(token).await;
        let caller = asked.map_err(|why| Refusal::Unknown(why.message))?.ok_or(Refusal::Unauthorized)?;
        self.tokens.put(digest, caller.clone(), TOKEN_KNOWN);
        Ok(caller)
    }

    async fn may(&self, caller: &Caller, verb: &'static str, below: &'static str) -> Result<bool, Refusal> {
        let key = (caller.clone(), verb, below);
        if let Some(known) = self.rights.get(&key) {
            return Ok(known);
        }
        let asked = self.reviews.access(caller, verb, below).await;
        let may = asked.map_err(|why| Refusal::Unknown(why.message))?;
        self.rights.put(key, may, if may { ALLOWED_KNOWN } else { DENIED_KNOWN });
        Ok(may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Knows one token; its owner may `get` metrics and healthz.
    #[derive(Default)]
    struct Says(AtomicUsize);

    #[async_trait]
    impl Reviews for Says {
        async fn token(&self, token: &str) -> Result<Option<Caller>, Status> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match token {
                "broken" => Err(Status::unavailable("not now")),
                "good" => Ok(Some(Caller { name: "scraper".into(), ..Caller::default() })),
                _ => Ok(None),
            }
        }

        async fn access(&self, caller: &Caller, verb: &str, below: &str) -> Result<bool, Status> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(caller.name == "scraper" && verb == "get" && matches!(below, "metrics" | "healthz"))
        }
    }

    #[test]
    fn what_paths_need() {
        for (path, want) in [
            ("/pods", "pods proxy"),
            ("/runningpods/", "pods proxy"),
            ("/healthz/ping", "healthz proxy"),
            ("/configz", "configz proxy"),
            ("/metrics/cadvisor", "metrics"),
            ("/metricsx", "proxy"),
            ("/stats/summary", "stats"),
            ("/logs/", "log"),
            ("/exec/d/p/c", "proxy"),
            ("/containerLogs/d/p/c", "proxy"),
            ("/", "proxy"),
        ] {
            assert_eq!(wish("GET", path), ("get", want.split(' ').collect()), "{path}");
        }
        assert_eq!(wish("POST", "/exec/d/p/c").0, "create");
    }

    #[tokio::test]
    async fn tokens_are_reviewed_and_remembered() {
        let says = Arc::new(Says::default());
        let access = Access::new(says.clone());
        let ask = |token: Option<&'static str>, path: &'static str| access.check(None, token, "GET", path);
        assert_eq!(ask(None, "/metrics").await, Err(Refusal::Unauthorized));
        assert_eq!(ask(Some("bad"), "/metrics").await, Err(Refusal::Unauthorized));
        assert_eq!(ask(Some("broken"), "/metrics").await, Err(Refusal::Unknown("not now".into())));
        let before = says.0.load(Ordering::Relaxed);
        for _ in 0..5 {
            assert_eq!(ask(Some("good"), "/metrics").await, Ok(()));
        }
        assert_eq!(says.0.load(Ordering::Relaxed), before + 2, "one review of the token, one of the right");
        assert_eq!(ask(Some("good"), "/healthz").await, Ok(()));
        let why = "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])";
        assert_eq!(ask(Some("good"), "/pods").await, Err(Refusal::Forbidden(why.into())));
        assert!(access.check(None, Some("good"), "POST", "/metrics").await.is_err());
    }

    #[test]
    fn memory_has_an_end() {
        let memory = Memory::new();
        for n in 0..REMEMBERED * 3 {
            memory.put(n, n, Duration::from_secs(60));
            assert!(memory.0.lock().len() <= REMEMBERED);
        }
        memory.put(0, 0, Duration::ZERO);
        assert_eq!(memory.get(&0), None, "it held for no time at all");
    }
}
