//! Images: is it here, may it be pulled, with whose credentials.

use crate::api::Api;
use crate::core::backoff::Backoff;
use crate::core::spec::ImageUser;
use crate::cri::Runtime;
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

/// An image that can be run.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    /// Identifier to run.
    pub id: String,
    /// The user the image asks for.
    pub user: ImageUser,
}

/// Why an image cannot be run now; `retry_at` says when to try again, `failed` whether a pull has just failed.
#[derive(Debug, Clone)]
pub struct NotReady {
    /// Waiting reason.
    pub reason: &'static str,
    /// Message.
    pub message: String,
    /// Next attempt.
    pub retry_at: Timestamp,
    /// Whether this is a failed pull that counts for the backoff.
    pub failed: bool,
}

/// Adds `:latest` to a name that has neither tag nor digest.
pub fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') || name.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// The registry an image name points to, as credentials are keyed.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Makes sure the image of a container is on the node.
pub async fn ensure(
    rt: &Runtime,
    api: &Api,
    pod: &Pod,
    c: &Container,
    backoff: Option<&Backoff>,
    sandbox: cri::PodSandboxConfig,
) -> Result<Ready, NotReady> {
    let asked = c.image.clone().unwrap_or_default();
    let image = with_tag(&asked);
    let now = Timestamp::now();
    let later = |s: i64| now + SignedDuration::from_secs(s);
    let event =
        |warning: bool, reason: &str, message: &str| api.event(pod, Some(&c.name), warning, reason, message);
    let here = match rt.image(&image).await {
        Ok(i) => i,
        Err(e) => {
            let message = format!("Failed to inspect image {asked:?}: {e}");
            event(true, "InspectFailed", &message);
            let retry_at = later(10);
            return Err(NotReady { reason: "ImageInspectError", message, retry_at, failed: false });
        }
    };
    let policy = c.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    match (policy, here) {
        ("Always", _) => {}
        (_, Some(found)) => {
            event(
                false,
                "Pulled",
                &format!(
                    "Container image {asked:?} already present on machine and can be accessed by the pod"
                ),
            );
            return Ok(ready(found));
        }
        ("Never", None) => {
            let message = format!("Container image {asked:?} is not present with pull policy of Never");
            event(true, "ErrImageNeverPull", &message);
            let retry_at = later(30);
            return Err(NotReady { reason: "ErrImageNeverPull", message, retry_at, failed: false });
        }
        _ => {}
    }
    // A failed pull counts from the moment it failed, which is when the backoff entry was made.
    if let Some(until) = backoff.and_then(|b| b.until()).filter(|u| now < *u) {
        let message = format!("Back-off pulling image {asked:?}");
        event(false, "BackOff", &message);
        return Err(NotReady { reason: "ImagePullBackOff", message, retry_at: until, failed: false });
    }
    event(false, "Pulling", &format!("Pulling image {asked:?}"));
    let started = std::time::Instant::now();
    let mut last = None;
    for auth in credentials(api, pod, &image).await {
        match rt.pull(&image, auth, Some(sandbox.clone())).await {
            Ok(reference) => {
                let found = rt.image(&image).await.ok().flatten();
                let size = found.as_ref().map_or(0, |i| i.size);
                let took = started.elapsed().as_millis();
                event(
                    false,
                    "Pulled",
                    &format!(
                        "Successfully pulled image {asked:?} in {took}ms ({took}ms including waiting). Image size: {size} bytes."
                    ),
                );
                return Ok(found.map(ready).unwrap_or(Ready { id: reference, user: ImageUser::default() }));
            }
            Err(e) => last = Some(e),
        }
    }
    let why = last.map(|e| e.message).unwrap_or_default();
    event(true, "Failed", &format!("Failed to pull image {asked:?}: {why}"));
    event(true, "Failed", "Error: ErrImagePull");
    Err(NotReady { reason: "ErrImagePull", message: why, retry_at: later(1), failed: true })
}

fn ready(i: cri::Image) -> Ready {
    Ready { id: i.id, user: ImageUser { uid: i.uid.map(|u| u.value), name: i.username } }
}

/// Credentials to try, in order; without any the pull is anonymous.
async fn credentials(api: &Api, pod: &Pod, image: &str) -> Vec<Option<cri::AuthConfig>> {
    use base64::Engine;
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut out = Vec::new();
    let mut missing = Vec::new();
    for r in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        let (kind, value) = match api.secret(ns, &r.name).await {
            Ok(Some(s)) => s,
            _ => {
                missing.push(r.name.clone());
                continue;
            }
        };
        let key = match kind.as_str() {
            "kubernetes.io/dockerconfigjson" => ".dockerconfigjson",
            "kubernetes.io/dockercfg" => ".dockercfg",
            _ => continue,
        };
        let raw = value["data"][key].as_str().unwrap_or_default();
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(raw) else { continue };
        let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(&bytes) else { continue };
        let auths = if key == ".dockercfg" { &parsed } else { &parsed["auths"] };
        let wanted = registry(image);
        for (host, a) in auths.as_object().into_iter().flatten() {
            let bare = host.trim_start_matches("https://").trim_start_matches("http://");
            let name = bare.split('/').next().unwrap_or(bare);
            if name != wanted && !(wanted == "docker.io" && name.ends_with("docker.io")) {
                continue;
            }
            let text = |k: &str| a[k].as_str().unwrap_or_default().to_owned();
            let (mut username, mut password) = (text("username"), text("password"));
            if username.is_empty()
                && let Ok(pair) = base64::engine::general_purpose::STANDARD.decode(text("auth"))
                && let Some((u, p)) = String::from_utf8_lossy(&pair).split_once(':')
            {
                (username, password) = (u.to_owned(), p.to_owned());
            }
            out.push(Some(cri::AuthConfig {
                username,
                password,
                identity_token: text("identitytoken"),
                registry_token: text("registrytoken"),
                ..cri::AuthConfig::default()
            }));
        }
    }
    if !missing.is_empty() {
        api.event(
            pod,
            None,
            true,
            "FailedToRetrieveImagePullSecret",
            &format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            ),
        );
    }
    out.push(None);
    out
}
