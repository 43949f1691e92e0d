//! Questions that are answered and not stored: who am I, is this token good, may I do this.

use crate::auth::{Authn, jwt};
use crate::authz::{Rbac, node, rbac::Wish};
use crate::hooks::{Action, ActionRequest, Handlers};
use crate::request::UserInfo;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use skep_api::Status;
use std::collections::BTreeMap;
use std::sync::Arc;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Registers all reviews.
pub fn register(handlers: &mut Handlers, authn: &Arc<Authn>, rbac: &Arc<Rbac>) {
    let review = |kind| Arc::new(Review { kind, authn: authn.clone(), rbac: rbac.clone() });
    for (group, resource, kind) in [
        (AUTHENTICATION, "tokenreviews", Kind::Token),
        (AUTHENTICATION, "selfsubjectreviews", Kind::SelfSubject),
        (AUTHORIZATION, "subjectaccessreviews", Kind::Access),
        (AUTHORIZATION, "localsubjectaccessreviews", Kind::LocalAccess),
        (AUTHORIZATION, "selfsubjectaccessreviews", Kind::SelfAccess),
        (AUTHORIZATION, "selfsubjectrulesreviews", Kind::SelfRules),
    ] {
        handlers.action(group, resource, "", review(kind));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Token,
    SelfSubject,
    Access,
    LocalAccess,
    SelfAccess,
    SelfRules,
}

struct Review {
    kind: Kind,
    authn: Arc<Authn>,
    rbac: Arc<Rbac>,
}

#[async_trait]
impl Action for Review {
    async fn perform(&self, request: ActionRequest<'_>) -> Result<Value, Status> {
        let mut body = request.body;
        let status = match self.kind {
            Kind::Token => self.token(&body)?,
            Kind::SelfSubject => {
                let now = skep_api::kinds::rfc3339(jiff::Timestamp::now());
                body["metadata"]["creationTimestamp"] = now.into();
                json!({"userInfo": user_value(request.user)})
            }
            Kind::SelfRules => {
                let namespace = text(&body, "/spec/namespace");
                if namespace.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                self.rules(request.user, namespace)
            }
            Kind::SelfAccess | Kind::Access | Kind::LocalAccess => {
                if self.kind == Kind::LocalAccess && text(&body, "/metadata/namespace").is_empty() {
                    body["metadata"]["namespace"] = request.info.namespace.as_str().into();
                }
                let errors = request.resource.strategy.validate(&body);
                if !errors.is_empty() {
                    return Err(Status::invalid(&request.resource.gvk, "", &errors));
                }
                match self.kind {
                    Kind::SelfAccess => self.access(&body, request.user)?,
                    _ => self.access(&body, &asked_user(&body))?,
                }
            }
        };
        body["status"] = status;
        Ok(body)
    }
}

impl Review {
    fn token(&self, body: &Value) -> Result<Value, Status> {
        let token = text(body, "/spec/token");
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let mut audiences = strings(body, "/spec/audiences");
        let asked = !audiences.is_empty();
        if !asked {
            audiences.push(jwt::ISSUER.to_owned());
        }
        Ok(match self.authn.token_user(token, &audiences) {
            Ok((user, good_for)) => {
                json!({"authenticated": true, "user": user_value(&user), "audiences": good_for})
            }
            Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
        })
    }

    fn access(&self, body: &Value, user: &UserInfo) -> Result<Value, Status> {
        let fields = field_selector(body);
        let wish = wish(body, &fields).ok_or_else(|| Status::bad_request("nothing is asked about"))?;
        Ok(match self.rbac.decide(user, &wish) {
            Ok(reason) if reason.is_empty() => json!({"allowed": true}),
            Ok(reason) => json!({"allowed": true, "reason": reason}),
            Err(why) if why.is_empty() => json!({"allowed": false}),
            Err(why) => json!({"allowed": false, "reason": why}),
        })
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Value {
        let (rules, mut errors) = self.rbac.rules_for(user, namespace);
        if node::name_of(user).is_some() {
            errors.insert(0, "node authorizer does not support user rule resolution".into());
        }
        let list = |texts: &[Box<str>]| -> Value { texts.iter().map(|t| Value::from(&**t)).collect() };
        let (mut resource, mut path) = (Vec::new(), Vec::new());
        for rule in rules {
            let mut out = Map::new();
            out.insert("verbs".into(), list(&rule.verbs));
            if rule.resources.is_empty() {
                out.insert("nonResourceURLs".into(), list(&rule.non_resource_urls));
                path.push(Value::Object(out));
                continue;
            }
            out.insert("apiGroups".into(), list(&rule.api_groups));
            out.insert("resources".into(), list(&rule.resources));
            if !rule.resource_names.is_empty() {
                out.insert("resourceNames".into(), list(&rule.resource_names));
            }
            resource.push(Value::Object(out));
        }
        let mut status =
            json!({"resourceRules": resource, "nonResourceRules": path, "incomplete": !errors.is_empty()});
        if !errors.is_empty() {
            status["evaluationError"] = errors.join(", ").into();
        }
        status
    }
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn strings(tree: &Value, pointer: &str) -> Vec<String> {
    let list = tree.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The field selector an access review asks about, as text. What cannot be said in it asks for nothing in particular.
fn field_selector(body: &Value) -> String {
    let selector = body.pointer("/spec/resourceAttributes/fieldSelector").unwrap_or(&Value::Null);
    let raw = text(selector, "/rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let list = selector.get("requirements").and_then(Value::as_array).into_iter().flatten();
    let shown = list.filter_map(|requirement| {
        let values = requirement.get("values")?.as_array()?;
        let [Value::String(value)] = values.as_slice() else { return None };
        let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let sign = match text(requirement, "/operator") {
            "In" => "=",
            "NotIn" => "!=",
            _ => return None,
        };
        Some(format!("{}{sign}{value}", text(requirement, "/key")))
    });
    shown.collect::<Vec<_>>().join(",")
}

/// What an access review asks about: a resource or a path. Validation sees to it that it is exactly one.
fn wish<'a>(body: &'a Value, fields: &'a str) -> Option<Wish<'a>> {
    let part = |key: &str| body.pointer(&format!("/spec/{key}")).filter(|v| v.is_object());
    if let Some(r) = part("resourceAttributes") {
        return Some(Wish::Resource {
            verb: text(r, "/verb"),
            group: text(r, "/group"),
            resource: text(r, "/resource"),
            subresource: text(r, "/subresource"),
            namespace: text(r, "/namespace"),
            name: text(r, "/name"),
            fields,
        });
    }
    part("nonResourceAttributes").map(|p| Wish::Path { verb: text(p, "/verb"), path: text(p, "/path") })
}

/// Whom an access review asks about.
fn asked_user(body: &Value) -> UserInfo {
    let (name, groups) = (text(body, "/spec/user"), strings(body, "/spec/groups"));
    let extra: BTreeMap<String, Vec<String>> = body
        .pointer("/spec/extra")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, _)| {
            (
                key.clone(),
                strings(body, &format!("/spec/extra/{}", key.replace('~', "~0").replace('/', "~1"))),
            )
        })
        .collect();
    UserInfo { name: name.to_owned(), uid: text(body, "/spec/uid").to_owned(), groups, extra }
}

fn user_value(user: &UserInfo) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_asks_about_exactly_one_thing() {
        let resource =
            json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "d"}}});
        let want = Wish::Resource {
            verb: "get",
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "d",
            name: "",
            fields: "",
        };
        assert_eq!(wish(&resource, "").unwrap(), want);
        let path = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}});
        assert_eq!(wish(&path, "").unwrap(), Wish::Path { verb: "get", path: "/metrics" });
        assert_eq!(wish(&json!({"spec": {}}), ""), None);
    }

    #[test]
    fn a_review_names_a_user_or_a_group() {
        let user = asked_user(&json!({"spec": {"groups": ["g"], "extra": {"a/b": ["x"]}}}));
        assert_eq!((user.groups, user.extra["a/b"].clone()), (vec!["g".to_owned()], vec!["x".to_owned()]));
    }
}
