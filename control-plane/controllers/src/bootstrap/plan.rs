//! What becomes of bootstrap tokens, as plain functions.

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Type of the Secrets that hold them.
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Prefix of their names; the id follows.
const PREFIX: &str = "bootstrap-token-";
/// What is signed, in `data` of the ConfigMap.
const SIGNED: &str = "kubeconfig";
/// Prefix of the signatures' keys; the id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

fn field(secret: &Value, key: &str) -> Option<String> {
    let text = secret.get("data")?.get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// Whether a Secret holds a bootstrap token.
pub(super) fn is_token(secret: &Value) -> bool {
    secret["type"] == TYPE
}

/// How long a token is good yet: zero where it is over, none where it has no end. A time that cannot be read is over.
pub(super) fn left(secret: &Value, now: Timestamp) -> Option<Duration> {
    let text = field(secret, "expiration").filter(|text| !text.is_empty())?;
    let Ok(at) = text.parse::<Timestamp>() else { return Some(Duration::ZERO) };
    let left = at.duration_since(now);
    Some(if left.is_positive() { left.unsigned_abs() } else { Duration::ZERO })
}

/// Id and secret of a token that signs.
fn signs(secret: &Value, now: Timestamp) -> Option<(String, String)> {
    let name = secret.pointer("/metadata/name")?.as_str()?;
    let (id, kept) = (field(secret, "token-id")?, field(secret, "token-secret")?);
    let good = is_token(secret)
        && name.strip_prefix(PREFIX) == Some(id.as_str())
        && id.len() == 6
        && !kept.is_empty()
        && left(secret, now) != Some(Duration::ZERO)
        && field(secret, "usage-bootstrap-signing").as_deref() == Some("true");
    good.then_some((id, kept))
}

/// A detached signature (RFC 7515, appendix F) of a text by a token.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// The ConfigMap with the signatures of all tokens that sign, and no others; none where it has them.
pub(super) fn signed(mut map: Value, secrets: &[Value], now: Timestamp) -> Option<Value> {
    let content = map["data"][SIGNED].as_str()?.to_owned();
    let tokens: BTreeMap<String, String> = secrets.iter().filter_map(|secret| signs(secret, now)).collect();
    let data = map["data"].as_object_mut()?;
    let kept = data.iter().filter(|(key, _)| !key.starts_with(SIGNATURE));
    let mut wanted: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    for (id, secret) in tokens {
        wanted.insert(format!("{SIGNATURE}{id}"), signature(&content, &id, &secret).into());
    }
    if *data == wanted {
        return None;
    }
    *data = wanted;
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn secret(id: &str, more: Value) -> Value {
        let mut data =
            json!({"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        for value in data.as_object_mut().unwrap().values_mut() {
            *value = STANDARD.encode(value.as_str().unwrap()).into();
        }
        json!({"metadata": {"name": format!("{PREFIX}{id}")}, "type": TYPE, "data": data})
    }

    #[test]
    fn tokens_end() {
        let ends = |at: &str| left(&secret("abcdef", json!({"expiration": at})), now());
        assert_eq!(ends("2026-05-01T12:00:10Z"), Some(Duration::from_secs(10)));
        assert_eq!(ends("2026-05-01T12:00:00Z"), Some(Duration::ZERO));
        assert_eq!(ends("tomorrow"), Some(Duration::ZERO));
        assert_eq!(ends(""), None);
        assert_eq!(left(&secret("abcdef", json!({})), now()), None);
    }

    #[test]
    fn a_signature_is_that_of_rfc_7515() {
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            signature(content, "joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn the_tokens_that_sign_have_a_signature_each() {
        let map = json!({"data": {"kubeconfig": "x", "other": "y", "jws-kubeconfig-gone00": "old"}});
        let tokens = [
            secret("abcdef", json!({})),
            secret("bbbbbb", json!({"usage-bootstrap-signing": "false"})),
            secret("cccccc", json!({"expiration": "2026-05-01T11:00:00Z"})),
        ];
        let signed_map = signed(map, &tokens, now()).unwrap();
        let keys: Vec<&String> = signed_map["data"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", "kubeconfig", "other"]);
        assert_eq!(signed(signed_map.clone(), &tokens, now()), None);
        assert!(signed(signed_map, &[], now()).is_some());
        assert_eq!(signed(json!({"data": {}}), &tokens, now()), None);
    }
}
