//! What becomes of a request, as plain functions.

use super::read;
use crate::authority::texts;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use skep_api::kinds::certificates::{Request, ends, signers};

/// What the one who asked must be allowed, for a request to be approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Review {
    /// The subresource of requests that stands for the right.
    pub(super) subresource: &'static str,
    /// What the approval says.
    pub(super) message: &'static str,
}

const OWN: Review = Review {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const ANY: Review = Review {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// Issued and denied requests go after an hour, others after a day.
const DONE: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

fn conditions(tree: &Value) -> &[Value] {
    tree.pointer("/status/conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn has(tree: &Value, kind: &str) -> bool {
    conditions(tree).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

fn issued(tree: &Value) -> Option<&str> {
    tree.pointer("/status/certificate").and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The request, where nobody has decided about it.
pub(super) fn undecided(tree: &Value) -> Option<Request> {
    let open = issued(tree).is_none() && !has(tree, "Approved") && !has(tree, "Denied");
    if open { read(tree) } else { None }
}

/// The request, where it is approved and its signer has neither signed nor refused.
pub(super) fn unsigned(tree: &Value) -> Option<Request> {
    let due = has(tree, "Approved") && !has(tree, "Denied") && !has(tree, "Failed") && issued(tree).is_none();
    if due { read(tree) } else { None }
}

/// By which rights a request may be approved, the narrower first; none where it is not for a node agent.
pub(super) fn reviews(tree: &Value, asked: &Request) -> Vec<Review> {
    let for_node = tree["spec"]["signerName"] == signers::KUBELET_CLIENT
        && signers::kubelet_client(asked, &texts(tree, "/spec/usages")).is_ok();
    match (for_node, tree["spec"]["username"] == asked.common_name.as_str()) {
        (false, _) => Vec::new(),
        (true, true) => vec![OWN, ANY],
        (true, false) => vec![ANY],
    }
}

/// Adds a condition that is true.
pub(super) fn add_condition(tree: &mut Value, kind: &str, reason: &str, message: &str) {
    let mut all = conditions(tree).to_vec();
    all.push(json!({"type": kind, "status": "True", "reason": reason, "message": message}));
    tree["status"]["conditions"] = all.into();
}

/// Puts the certificate.
pub(super) fn put_certificate(tree: &mut Value, pem: &str) {
    tree["status"]["certificate"] = STANDARD.encode(pem).into();
}

/// Whether a request has been there for long enough.
pub(super) fn is_over(tree: &Value, now: Timestamp) -> bool {
    let older = |at: &Value, than: SignedDuration| {
        at.as_str()
            .and_then(|at| at.parse::<Timestamp>().ok())
            .is_some_and(|at| now.duration_since(at) > than)
    };
    let since = |kind: &str, than: SignedDuration| {
        conditions(tree).iter().any(|c| c["type"] == kind && older(&c["lastUpdateTime"], than))
    };
    let certificate = issued(tree).and_then(|text| STANDARD.decode(text).ok());
    let expired = certificate.as_deref().and_then(ends).is_some_and(|end| end < now.as_second());
    let pending = conditions(tree).is_empty() && older(&tree["metadata"]["creationTimestamp"], PENDING);
    let approved = conditions(tree).iter().any(|c| c["type"] == "Approved");
    pending
        || since("Denied", DONE)
        || since("Failed", DONE)
        || since("Approved", if certificate.is_some() { DONE } else { PENDING })
        || (approved && expired)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-05-02T12:00:00Z".parse().unwrap()
    }

    fn asked(common_name: &str) -> Request {
        Request {
            common_name: common_name.into(),
            organizations: vec!["system:nodes".into()],
            signed: true,
            ..Request::default()
        }
    }

    fn object(signer: &str, user: &str) -> Value {
        json!({"metadata": {"name": "c", "creationTimestamp": "2026-05-02T11:00:00Z"}, "spec": {
            "signerName": signer, "username": user, "usages": ["digital signature", "client auth"]}})
    }

    #[test]
    fn node_agents_are_approved_by_what_they_may() {
        let node = "system:node:n1";
        assert_eq!(reviews(&object(signers::KUBELET_CLIENT, node), &asked(node)), [OWN, ANY]);
        assert_eq!(reviews(&object(signers::KUBELET_CLIENT, "system:bootstrap:x"), &asked(node)), [ANY]);
        assert_eq!(reviews(&object(signers::CLIENT, node), &asked(node)), []);
        assert_eq!(reviews(&object(signers::KUBELET_CLIENT, "ann"), &asked("ann")), []);
    }

    #[test]
    fn old_requests_go() {
        let with = |kind: &str, at: &str, certificate: &str| {
            let mut tree = object(signers::CLIENT, "ann");
            tree["status"] = json!({"certificate": certificate,
                "conditions": [{"type": kind, "status": "True", "lastUpdateTime": at}]});
            is_over(&tree, now())
        };
        assert!(!with("Denied", "2026-05-02T11:30:00Z", ""));
        assert!(with("Denied", "2026-05-02T10:59:00Z", ""));
        assert!(with("Failed", "2026-05-02T10:59:00Z", ""));
        assert!(with("Approved", "2026-05-02T10:59:00Z", "AAAA"));
        assert!(!with("Approved", "2026-05-02T10:59:00Z", ""));
        assert!(with("Approved", "2026-05-01T10:59:00Z", ""));
        let mut pending = object(signers::CLIENT, "ann");
        assert!(!is_over(&pending, now()));
        pending["metadata"]["creationTimestamp"] = "2026-05-01T11:00:00Z".into();
        assert!(is_over(&pending, now()));
    }

    #[test]
    fn conditions_are_added_to_those_there_are() {
        let mut tree = object(signers::CLIENT, "ann");
        add_condition(&mut tree, "Approved", "r", "m");
        add_condition(&mut tree, "Failed", "r", "m");
        assert_eq!(conditions(&tree).len(), 2);
        assert!(has(&tree, "Approved") && has(&tree, "Failed"));
        assert_eq!(unsigned(&tree), None);
    }
}
