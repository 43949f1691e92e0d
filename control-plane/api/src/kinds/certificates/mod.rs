//! CertificateSigningRequests: who wants which certificate, whether it was approved, and the certificate.
//!
//! Who asks, and when conditions changed, is not for the client to say: admission fills it in.

mod request;
pub mod signers;
#[cfg(test)]
mod tests;

pub use request::{Request, RequestError, ends};

use super::columns::{age, name};
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain, path_segment};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// CertificateSigningRequests.
#[derive(Debug, Default)]
pub struct CertificateSigningRequest;

/// What a key may be used for, sorted as they are listed.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Fields of the spec that say who asked; the client's own words for them are dropped.
pub const ASKED_BY: [&str; 4] = ["username", "uid", "groups", "extra"];
/// Conditions that are set through `approval` alone.
const DECIDED: [&str; 2] = ["Approved", "Denied"];
/// Conditions that can only be true, and never go away.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];
/// The least seconds that may be asked for.
const LEAST_SECONDS: i64 = 600;
/// Longest domain of a signer, and what its path may add to that.
const DOMAIN_MAX: usize = 253;
const PATH_MAX: usize = DOMAIN_MAX + 63 + 1;

/// What an update may change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Approval,
    Status,
}

fn conditions<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    list.into_iter().flatten().filter(|condition| condition["type"] == kind).collect()
}

fn request(errors: &mut Errors, spec: &At<'_, '_>) {
    let at = spec.get("request");
    match Request::from_base64(at.text()) {
        Ok(request) if request.signed => {}
        Ok(_) => errors.invalid(&at, "x509: the signature is not that of the key"),
        Err(why) => errors.invalid(&at, why.to_string()),
    }
    let usages = spec.get("usages");
    if usages.is_empty() {
        errors.required(&usages, "");
    }
    let mut seen = BTreeSet::new();
    for usage in usages.items() {
        if !USAGES.contains(&usage.text()) {
            errors.not_supported(&usage, &USAGES);
        }
        if !seen.insert(usage.text()) {
            errors.duplicate(&usage);
        }
    }
    signer(errors, &spec.get("signerName"));
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < LEAST_SECONDS) {
        errors.invalid(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
    }
}

/// `example.com/signer-name`.
fn signer(errors: &mut Errors, at: &At<'_, '_>) {
    let text = at.text();
    if text == signers::LEGACY {
        return errors.invalid(at, "the legacy signerName is not allowed via this API version");
    }
    if text.is_empty() {
        return errors.required(at, "");
    }
    let segments: Vec<&str> = text.split('/').collect();
    let [domain, path] = segments[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(at, why);
    };
    let mut invalid =
        |value: &str, why: String| errors.push(FieldError::invalid(at.path(), value.into(), why));
    let label = |rule: fn(&str, bool) -> Vec<String>, text: &str| -> Option<String> {
        let wrong =
            text.split('.').find_map(|label| rule(label, false).into_iter().next().map(|why| (label, why)));
        wrong.map(|(label, why)| format!("validating label {label:?}: {why}"))
    };
    if let Some(why) = label(dns1123_label, domain) {
        invalid(domain, why);
    }
    if !domain.contains('.') {
        invalid(domain, "should be a domain with at least two segments separated by dots".into());
    }
    if let Some(why) = label(dns1123_subdomain, path) {
        invalid(path, why);
    }
    for (text, max) in [(domain, DOMAIN_MAX), (path, PATH_MAX)] {
        if text.len() > max {
            errors.push(FieldError::too_long(at.path(), max));
        }
    }
}

fn status(errors: &mut Errors, root: &At<'_, '_>) {
    let status = root.get("status");
    let list = status.get("conditions");
    let (mut seen, mut decided) = (BTreeSet::new(), BTreeSet::new());
    for condition in list.items() {
        let (kind, value) = (condition.get("type"), condition.get("status"));
        if kind.text().is_empty() {
            errors.required(&kind, "");
        }
        let known: &[&str] =
            if FINAL.contains(&kind.text()) { &["True"] } else { &["False", "True", "Unknown"] };
        errors.one_of(&value, known);
        if DECIDED.contains(&kind.text()) {
            decided.insert(kind.text());
            if decided.len() == DECIDED.len() {
                let why = "Approved and Denied conditions are mutually exclusive";
                errors.push(FieldError::invalid(list.path(), kind.text().into(), why));
            }
        }
        if !seen.insert(kind.text()) {
            errors.duplicate(&kind);
        }
    }
    let certificate = status.get("certificate");
    let pem = STANDARD.decode(certificate.text()).unwrap_or_default();
    if let Some(why) = request::chain_fault(&pem) {
        errors.push(FieldError::invalid(certificate.path(), "<certificate data>".into(), why));
    }
}

fn update(new: &Value, old: &Value, part: Part) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(new);
    let status = root.get("status");
    let (list, certificate) = (status.get("conditions"), status.get("certificate"));
    for kind in FINAL {
        if conditions(new, kind).len() < conditions(old, kind).len() {
            errors.forbidden(&list, format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in DECIDED.iter().filter(|_| part != Part::Approval) {
        let (now, before) = (conditions(new, kind), conditions(old, kind));
        if now.len() > before.len() {
            errors.forbidden(&list, format!("updates may not add a condition of type {kind:?}"));
        } else if now.len() == before.len() && now.iter().zip(&before).any(|(a, b)| !same(Some(a), Some(b))) {
            errors.forbidden(&list, format!("updates may not modify a condition of type {kind:?}"));
        }
    }
    let before = old.pointer("/status/certificate");
    if !same(certificate.value(), before) {
        let had = before.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if part != Part::Status {
            errors.forbidden(&certificate, "updates may not set certificate content");
        } else if had {
            errors.forbidden(&certificate, "updates may not modify existing certificate content");
        }
    }
    errors.done()
}

/// Puts a field of `old` into `new`, or takes it out.
fn keep(new: &mut Value, old: &Value, key: &str) {
    super::keep(new, old, &[key]);
}

impl Strategy for CertificateSigningRequest {
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|key, _| !ASKED_BY.contains(&key.as_str()));
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("status".into(), json!({}));
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    /// What was decided stays as it is written: who signs may not touch it.
    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        for kind in DECIDED {
            let before: Vec<Value> = conditions(old, kind).into_iter().cloned().collect();
            let list = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
            let now: Vec<&mut Value> =
                list.into_iter().flatten().filter(|condition| condition["type"] == kind).collect();
            if now.len() == before.len() {
                now.into_iter().zip(before).for_each(|(now, before)| *now = before);
            }
        }
    }

    /// Through `approval` conditions alone change.
    fn prepare_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        let conditions = new.pointer("/status/conditions").cloned();
        keep(new, old, "status");
        if let Some(conditions) = conditions {
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            new["status"]["conditions"] = conditions;
        } else if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
            status.remove("conditions");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        request(&mut errors, &root.get("spec"));
        status(&mut errors, &root);
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        update(new, old, Part::Main)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        errors.extend(update(new, old, Part::Status));
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        errors.extend(update(new, old, Part::Approval));
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            age(),
            column("SignerName", "string", "Who is to sign."),
            column("Requestor", "string", "Who asked."),
            column("RequestedDuration", "string", "How long the certificate is to last."),
            column("Condition", "string", "What became of it."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let spec = root.get("spec");
        let signer = spec.get("signerName").text();
        let seconds = spec.get("expirationSeconds").int();
        vec![
            table::name(object),
            table::age(object, now),
            if signer.is_empty() { "<none>" } else { signer }.into(),
            spec.get("username").text().into(),
            seconds.map_or_else(|| "<none>".into(), table::human_duration).into(),
            condition(object).into(),
        ]
    }
}

/// What became of a request, in a word or two: `Approved,Issued`.
fn condition(object: &Value) -> String {
    let has = |kind: &str| !conditions(object, kind).is_empty();
    let mut words = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !At::root(object).get("status").get("certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}
