//! A small blocking client of the API server, for what `up`, `status` and the tests ask of it without kubectl.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Longest answer taken, in bytes.
const LIMIT: u64 = 256 << 20;

/// What a kubeconfig with one cluster and one user holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Kubeconfig {
    /// `https://host:port`.
    pub server: String,
    /// Certificate authority, PEM.
    pub authority: Vec<u8>,
    /// Client certificate, PEM.
    pub certificate: Vec<u8>,
    /// Client key, PEM.
    pub key: Vec<u8>,
}

impl Kubeconfig {
    /// Reads the fields that Skep's own kubeconfigs have, each once, whether the file is YAML or JSON.
    ///
    /// # Errors
    /// A field that is missing or is not base64.
    pub fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim().trim_start_matches("- ").split_once(':'))
                .find(|(key, _)| key.trim().trim_matches('"') == name)
                .map(|(_, value)| value.trim().trim_end_matches(',').trim_matches('"').to_owned())
                .with_context(|| format!("kubeconfig without {name}"))
        };
        let data = |name: &str| -> Result<Vec<u8>> {
            base64::engine::general_purpose::STANDARD.decode(field(name)?).with_context(|| name.to_owned())
        };
        Ok(Kubeconfig {
            server: field("server")?,
            authority: data("certificate-authority-data")?,
            certificate: data("client-certificate-data")?,
            key: data("client-key-data")?,
        })
    }
}

/// An answer of the API server.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
    /// `Warning` headers.
    pub warnings: Vec<String>,
}

impl Answer {
    fn read(response: &mut Response<ureq::Body>) -> Result<Self> {
        let headers = response.headers().get_all("warning").iter();
        let warnings = headers.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        let body = response.body_mut().with_config().limit(LIMIT).read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), body, warnings })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// A body that is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("status {}: not JSON", self.status))
    }

    /// The body as JSON if the status is a success.
    ///
    /// # Errors
    /// Any other status, with the message of the `Status` object.
    pub fn success(&self) -> Result<Value> {
        if self.status < 300 {
            return self.json();
        }
        let message = self.json().ok().and_then(|status| status["message"].as_str().map(str::to_owned));
        bail!("{} (status {})", message.unwrap_or_else(|| "the API server refused".to_owned()), self.status)
    }
}

/// A connection to one API server with one identity.
#[derive(Clone)]
pub struct Api {
    agent: Agent,
    server: String,
}

impl Api {
    /// A client with the identity of a kubeconfig.
    ///
    /// # Errors
    /// A kubeconfig that cannot be read.
    pub fn open(kubeconfig: &Path) -> Result<Self> {
        let text = fs::read_to_string(kubeconfig).with_context(|| format!("{}", kubeconfig.display()))?;
        Self::new(&Kubeconfig::parse(&text).with_context(|| format!("{}", kubeconfig.display()))?)
    }

    /// A client with these credentials.
    ///
    /// # Errors
    /// Certificates or keys that are not PEM.
    pub fn new(config: &Kubeconfig) -> Result<Self> {
        let chain = [Certificate::from_pem(&config.certificate)?];
        let identity = ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&config.key)?);
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(&config.authority)?]))
            .client_cert(Some(identity))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Ok(Api { agent: agent.into(), server: config.server.clone() })
    }

    /// Any request. Whatever status comes back is an answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn request(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<Answer> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("Content-Type", kind)
            .header("Accept", "application/json")
            .body(body)?;
        let mut response = self.agent.run(request).with_context(|| what.clone())?;
        Answer::read(&mut response).with_context(|| what)
    }

    /// GET.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let request = Request::builder()
            .uri(format!("{}{path}", self.server))
            .header("Accept", "application/json, */*")
            .body(())?;
        let mut response = self.agent.run(request).with_context(|| format!("GET {path}"))?;
        Answer::read(&mut response)
    }

    /// POST of an object to a collection.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Answer> {
        self.request(Method::POST, collection, "application/json", serde_json::to_vec(object)?)
    }

    /// JSON merge patch of an object.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Answer> {
        self.request(Method::PATCH, path, "application/merge-patch+json", serde_json::to_vec(patch)?)
    }

    /// DELETE.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        let request =
            Request::builder().method(Method::DELETE).uri(format!("{}{path}", self.server)).body(())?;
        let mut response = self.agent.run(request).with_context(|| format!("DELETE {path}"))?;
        Answer::read(&mut response)
    }

    /// Creates an object, or merges it into the one of that name.
    ///
    /// # Errors
    /// When the server refuses both.
    pub fn apply(&self, collection: &str, object: &Value) -> Result<Value> {
        let created = self.create(collection, object)?;
        if created.status != 409 {
            return created.success();
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.merge(&format!("{collection}/{name}"), object)?.success()
    }

    /// The items of a collection; a client's list.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn list(&self, collection: &str) -> Result<Vec<Value>> {
        let mut list = self.get(collection)?.success().with_context(|| collection.to_owned())?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }
}

/// Status of a condition of this type, e.g. `True`.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)?["status"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_give_the_same() {
        let yaml = "clusters:\n- cluster:\n    certificate-authority-data: YQ==\n    server: https://127.0.0.1:6443\n  name: skep\n\
                    users:\n- name: admin\n  user:\n    client-certificate-data: Yg==\n    client-key-data: Yw==\n";
        let json = "{\n \"certificate-authority-data\": \"YQ==\",\n \"server\": \"https://127.0.0.1:6443\",\n \
                    \"client-certificate-data\": \"Yg==\",\n \"client-key-data\": \"Yw==\"\n}";
        let parsed = Kubeconfig::parse(yaml).unwrap();
        assert_eq!(parsed.server, "https://127.0.0.1:6443");
        assert_eq!((parsed.authority.as_slice(), parsed.key.as_slice()), (b"a".as_slice(), b"c".as_slice()));
        assert_eq!(parsed, Kubeconfig::parse(json).unwrap());
        assert!(
            Kubeconfig::parse("server: x").unwrap_err().to_string().contains("certificate-authority-data")
        );
    }

    #[test]
    fn a_refusal_carries_the_message_of_the_status() {
        let body = br#"{"kind":"Status","message":"pods \"x\" not found","code":404}"#.to_vec();
        let error = Answer { status: 404, body, warnings: Vec::new() }.success().unwrap_err().to_string();
        assert!(error.contains("pods \"x\" not found") && error.contains("404"), "{error}");
    }
}
