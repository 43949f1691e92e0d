//! Bootstrap tokens: `ID.SECRET`, kept as Secrets in `kube-system`, by which a machine that is not yet a node says who it is.

use crate::request::UserInfo;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where the Secrets are.
pub(super) const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Id and secret of what looks like a bootstrap token.
pub(super) fn split(token: &str) -> Option<(&str, &str)> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let (id, secret) = token.split_once('.')?;
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The name of a token's Secret.
pub(super) fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// Whom a token is of, by its Secret; none where it is not good.
pub(super) fn user(object: &Value, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let field = |key: &str| {
        let text = object.get("data")?.get(key)?.as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let kept = field("token-secret").unwrap_or_default();
    let same = super::same_secret(kept.as_bytes(), secret.as_bytes());
    let going = object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
    let expired = field("expiration").filter(|text| !text.is_empty()).is_some_and(|text| {
        // A time that cannot be read is over.
        text.parse::<Timestamp>().map_or(true, |at| at <= now)
    });
    let good = object.get("type").and_then(Value::as_str) == Some(TYPE)
        && !going
        && same
        && field("token-id").as_deref() == Some(id)
        && !expired
        && field("usage-bootstrap-authentication").as_deref() == Some("true");
    if !good {
        return None;
    }
    let extra = field("auth-extra-groups").unwrap_or_default();
    let mut groups = BTreeSet::from([GROUP]);
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_extra(group) {
            return None;
        }
        groups.insert(group);
    }
    Some(UserInfo::new(format!("system:bootstrap:{id}"), &groups.into_iter().collect::<Vec<_>>()))
}

/// Whether a token may name this group.
fn is_extra(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let word = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    !rest.is_empty()
        && rest.len() <= 256
        && rest.bytes().all(|b| word(b) || matches!(b, b':' | b'-'))
        && rest.bytes().last().is_some_and(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(changes: Value) -> Value {
        let mut data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
        data.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let data: serde_json::Map<String, Value> = data
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), STANDARD.encode(value.as_str().unwrap()).into()))
            .collect();
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": TYPE, "data": data})
    }

    #[test]
    fn tokens_look_like_nothing_else() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in
            ["", "abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "a.b.c", "abcdef.0123456789abcde-"]
        {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn a_secret_says_whom_a_token_is_of() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        let of = |changes: Value| user(&secret(changes), "abcdef", "0123456789abcdef", now);
        let groups = json!({"auth-extra-groups": "system:bootstrappers:b,system:bootstrappers:a"});
        let found = of(groups).unwrap();
        assert_eq!(found.name, "system:bootstrap:abcdef");
        assert_eq!(
            found.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:a",
                "system:bootstrappers:b",
                "system:authenticated"
            ]
        );
        assert!(of(json!({"expiration": "2026-05-01T12:00:01Z"})).is_some());
        for bad in [
            json!({"expiration": "2026-05-01T12:00:00Z"}),
            json!({"expiration": "soon"}),
            json!({"token-id": "other1"}),
            json!({"token-secret": "0123456789abcdee"}),
            json!({"usage-bootstrap-authentication": "false"}),
            json!({"auth-extra-groups": "system:masters"}),
            json!({"auth-extra-groups": "system:bootstrappers:"}),
        ] {
            assert_eq!(of(bad.clone()), None, "{bad}");
        }
        let mut opaque = secret(json!({}));
        opaque["type"] = "Opaque".into();
        assert_eq!(user(&opaque, "abcdef", "0123456789abcdef", now), None);
    }
}
