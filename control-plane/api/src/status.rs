//! `metav1.Status`: the answer to a request that failed.
//!
//! Constructors follow `k8s.io/apimachinery/pkg/api/errors`: reason, code and the shape of the message
//! are what clients match on.

use crate::field::FieldError;
use crate::resource::{GroupResource, GroupVersionKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Machine readable reason of a failure (`metav1.StatusReason`), each with its HTTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 400, the request itself cannot be understood.
    BadRequest,
    /// 401, nobody the server knows.
    Unauthorized,
    /// 403, known and not allowed.
    Forbidden,
    /// 404.
    NotFound,
    /// 405, the resource has no such verb.
    MethodNotAllowed,
    /// 406, no media type in common.
    NotAcceptable,
    /// 409, a name is taken.
    AlreadyExists,
    /// 409, somebody else was first.
    Conflict,
    /// 410, a resource version that is no longer there (watch).
    Gone,
    /// 410, a resource version or continue token that has been compacted away.
    Expired,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 422, understood and not valid.
    Invalid,
    /// 429.
    TooManyRequests,
    /// 500.
    InternalError,
    /// 503.
    ServiceUnavailable,
    /// 504, the server could not finish in time; the client may try again.
    Timeout,
    /// 500 with a hint to retry (`ServerTimeout`).
    ServerTimeout,
    /// A reason this build does not know (from another server).
    Unknown,
}

/// One row a reason: its wire name and its HTTP status code.
const REASONS: &[(Reason, &str, u16)] = &[
    (Reason::BadRequest, "BadRequest", 400),
    (Reason::Unauthorized, "Unauthorized", 401),
    (Reason::Forbidden, "Forbidden", 403),
    (Reason::NotFound, "NotFound", 404),
    (Reason::MethodNotAllowed, "MethodNotAllowed", 405),
    (Reason::NotAcceptable, "NotAcceptable", 406),
    (Reason::AlreadyExists, "AlreadyExists", 409),
    (Reason::Conflict, "Conflict", 409),
    (Reason::Gone, "Gone", 410),
    (Reason::Expired, "Expired", 410),
    (Reason::RequestEntityTooLarge, "RequestEntityTooLarge", 413),
    (Reason::UnsupportedMediaType, "UnsupportedMediaType", 415),
    (Reason::Invalid, "Invalid", 422),
    (Reason::TooManyRequests, "TooManyRequests", 429),
    (Reason::InternalError, "InternalError", 500),
    (Reason::ServiceUnavailable, "ServiceUnavailable", 503),
    (Reason::Timeout, "Timeout", 504),
    (Reason::ServerTimeout, "ServerTimeout", 500),
    (Reason::Unknown, "", 500),
];

impl Reason {
    /// The wire name, empty for [`Reason::Unknown`].
    pub fn as_str(self) -> &'static str {
        REASONS.iter().find(|r| r.0 == self).map_or("", |r| r.1)
    }

    /// The HTTP status code that goes with the reason.
    pub fn code(self) -> u16 {
        REASONS.iter().find(|r| r.0 == self).map_or(500, |r| r.2)
    }

    /// The reason of a wire name; [`Reason::Unknown`] for one this build does not know.
    pub fn parse(name: &str) -> Self {
        REASONS.iter().find(|r| r.1 == name).map_or(Reason::Unknown, |r| r.0)
    }
}

/// One of several causes of a failure (`metav1.StatusCause`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCause {
    /// `FieldValueInvalid` and its like.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// JSON path of the field, as in `spec.ports[0].name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a failed request was about (`metav1.StatusDetails`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusDetails {
    /// Name of the object.
    pub name: String,
    /// API group.
    pub group: String,
    /// Kind or resource name, whichever upstream puts there.
    pub kind: String,
    /// Uid of the object, where it matters.
    pub uid: String,
    /// The causes, for [`Reason::Invalid`] and its like.
    pub causes: Vec<StatusCause>,
    /// Seconds after which a retry makes sense, 0 for none.
    pub retry_after_seconds: u32,
}

/// A failed request, as the client is told of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine readable reason.
    pub reason: Reason,
    /// For people: what is wrong and, where there is one, the remedy.
    pub message: String,
    /// What it was about.
    pub details: Option<Box<StatusDetails>>,
}

impl Status {
    /// A status of `reason` with its usual code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Status { code: reason.code(), reason, message: message.into(), details: None }
    }

    /// The same, about a named object of a resource.
    fn about(reason: Reason, resource: &GroupResource, name: &str, message: String) -> Self {
        let details = StatusDetails {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..StatusDetails::default()
        };
        Status { details: Some(Box::new(details)), ..Status::new(reason, message) }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::new(Reason::BadRequest, message)
    }

    /// 401, in the words clients know.
    pub fn unauthorized() -> Self {
        Status::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 403: `pods "x" is forbidden: why`; without a name, `pods is forbidden: why`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl std::fmt::Display) -> Self {
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Status::about(Reason::Forbidden, resource, name, message)
    }

    /// 404 for an object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Status::about(Reason::NotFound, resource, name, format!("{resource} \"{name}\" not found"))
    }

    /// 404 for a path that names no resource.
    pub fn unknown_path() -> Self {
        let mut status = Status::new(Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 405 for a path that has no such method.
    pub fn method_not_allowed() -> Self {
        let why = "the server does not allow this method on the requested resource";
        let mut status = Status::new(Reason::MethodNotAllowed, why);
        status.details = Some(Box::default());
        status
    }

    /// 405 for a verb that the resource does not support though its path has the method.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{resource}\"");
        Status::about(Reason::MethodNotAllowed, resource, "", message)
    }

    /// 409, the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Status::about(Reason::AlreadyExists, resource, name, format!("{resource} \"{name}\" already exists"))
    }

    /// 409, an optimistic lock or precondition failed.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Status::about(Reason::Conflict, resource, name, message)
    }

    /// 409 for a stale resource version.
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        Status::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410, `Expired`: a resource version older than the history that is kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Status::new(Reason::Expired, message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Status::new(Reason::RequestEntityTooLarge, message)
    }

    /// 415, naming what is accepted.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Status::new(Reason::UnsupportedMediaType, message)
    }

    /// 422 with one cause a field. Upstream's message: `Kind.group "name" is invalid: field: detail`.
    pub fn invalid(gvk: &GroupVersionKind, name: &str, errors: &[FieldError]) -> Self {
        let qualified = gvk.group_kind();
        let joined = match errors {
            [] => String::from("unknown error"),
            [one] => one.to_string(),
            many => format!("[{}]", many.iter().map(FieldError::to_string).collect::<Vec<_>>().join(", ")),
        };
        let details = StatusDetails {
            name: name.to_owned(),
            group: gvk.group.to_string(),
            kind: gvk.kind.to_string(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..StatusDetails::default()
        };
        Status {
            details: Some(Box::new(details)),
            ..Status::new(Reason::Invalid, format!("{qualified} \"{name}\" is invalid: {joined}"))
        }
    }

    /// 429 with the seconds to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = StatusDetails { retry_after_seconds, ..StatusDetails::default() };
        Status { details: Some(Box::new(details)), ..Status::new(Reason::TooManyRequests, message) }
    }

    /// 500 for what should not have happened.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        Status::new(Reason::InternalError, format!("Internal error occurred: {why}"))
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Status::new(Reason::ServiceUnavailable, message)
    }

    /// 504.
    pub fn timeout(message: impl Into<String>) -> Self {
        Status::new(Reason::Timeout, message)
    }

    /// Whether this is a 404 about an object.
    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    /// Whether a retry with the latest version may succeed.
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    /// Whether a watch or list must start over.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason, Reason::Expired | Reason::Gone)
    }

    /// The `Status` object on the wire.
    pub fn to_value(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if self.reason != Reason::Unknown {
            out["reason"] = self.reason.as_str().into();
        }
        if let Some(details) = &self.details {
            out["details"] = details.to_value();
        }
        out
    }

    /// Reads a `Status` object from the wire; `code` stands in where the body has none.
    pub fn from_value(body: &Value, code: u16) -> Self {
        let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let details = body.get("details").filter(|d| d.is_object()).map(|d| {
            Box::new(StatusDetails {
                name: text(d, "name"),
                group: text(d, "group"),
                kind: text(d, "kind"),
                uid: text(d, "uid"),
                causes: d
                    .get("causes")
                    .and_then(|c| serde_json::from_value(c.clone()).ok())
                    .unwrap_or_default(),
                retry_after_seconds: d.get("retryAfterSeconds").and_then(Value::as_u64).unwrap_or(0) as u32,
            })
        });
        let code = body.get("code").and_then(Value::as_u64).map_or(code, |c| c as u16);
        Status { code, reason: Reason::parse(&text(body, "reason")), message: text(body, "message"), details }
    }
}

impl StatusDetails {
    fn to_value(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (key, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), json!(self.causes));
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_the_wire() {
        let resource = GroupResource::new("apps", "deployments");
        let status = Status::not_found(&resource, "web");
        assert_eq!(status.message, "deployments.apps \"web\" not found");
        let back = Status::from_value(&status.to_value(), 0);
        assert_eq!(back, status);
    }

    #[test]
    fn invalid_lists_every_field() {
        let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
        let errors = [
            FieldError::required("spec.selector", ""),
            FieldError::invalid("spec.replicas", (-1).into(), "must be greater than or equal to 0"),
        ];
        let status = Status::invalid(&gvk, "web", &errors);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: [spec.selector: Required value, \
             spec.replicas: Invalid value: -1: must be greater than or equal to 0]"
        );
        assert_eq!(status.to_value()["details"]["causes"][1]["reason"], "FieldValueInvalid");
    }
}
