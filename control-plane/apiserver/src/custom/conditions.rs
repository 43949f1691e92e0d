//! What the status of a CustomResourceDefinition should say, as plain functions of all definitions.

use crate::registry::meta::{instant, text};
use serde_json::{Value, json};
use skep_api::custom::{Names, Structural, rules_of_structure};
use std::collections::BTreeSet;

/// What keeps a definition until its objects are gone.
pub(super) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The annotation that groups of the Kubernetes community must have.
const APPROVED: &str = "api-approved.kubernetes.io";
const MORE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// One entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn condition(kind: &'static str, status: &'static str, reason: &'static str, message: &str) -> Condition {
    Condition { kind, status, reason, message: message.to_owned() }
}

fn find<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = definition.pointer("/status/conditions")?.as_array()?;
    all.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
}

/// Whether a condition is there and true.
pub(super) fn is_true(definition: &Value, kind: &str) -> bool {
    find(definition, kind).is_some_and(|c| c.get("status").and_then(Value::as_str) == Some("True"))
}

/// Whether a definition is being deleted and waits for its objects to go.
pub(super) fn is_finalizing(definition: &Value) -> bool {
    let finalizers = definition.pointer("/metadata/finalizers").and_then(Value::as_array);
    !text(definition, "deletionTimestamp").is_empty()
        && finalizers.is_some_and(|list| list.iter().any(|f| f == FINALIZER))
}

/// Puts a condition into a definition; the time of its last transition stays where its status does.
pub(super) fn set(definition: &mut Value, new: &Condition, now: jiff::Timestamp) {
    let at = |old: Option<&Value>| {
        old.filter(|c| c.get("status").and_then(Value::as_str) == Some(new.status))
            .and_then(|c| c.get("lastTransitionTime"))
            .filter(|time| !time.is_null())
            .cloned()
            .unwrap_or_else(|| instant(now).into())
    };
    let Some(conditions) = conditions(definition) else { return };
    let place = conditions.iter().position(|c| c.get("type").and_then(Value::as_str) == Some(new.kind));
    let entry = |time: Value| {
        json!({
            "type": new.kind, "status": new.status, "reason": new.reason, "message": new.message,
            "lastTransitionTime": time,
        })
    };
    match place.and_then(|place| conditions.get_mut(place)) {
        Some(old) => *old = entry(at(Some(old))),
        None => conditions.push(entry(at(None))),
    }
}

fn conditions(definition: &mut Value) -> Option<&mut Vec<Value>> {
    let status = definition.as_object_mut()?.entry("status").or_insert_with(|| json!({}));
    let list = status.as_object_mut()?.entry("conditions").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut()
}

fn remove(definition: &mut Value, kind: &str) {
    if let Some(list) = conditions(definition) {
        list.retain(|c| c.get("type").and_then(Value::as_str) != Some(kind));
    }
}

/// Names that other definitions of the group have been given.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// The accepted names of those definitions.
    pub(super) fn of<'a>(accepted: impl IntoIterator<Item = &'a Names>) -> Self {
        let mut taken = Taken::default();
        for names in accepted {
            let resources = [&names.plural, &names.singular].into_iter().chain(&names.short_names);
            taken.resources.extend(resources.filter(|name| !name.is_empty()).cloned());
            let kinds = [&names.kind, &names.list_kind].into_iter();
            taken.kinds.extend(kinds.filter(|name| !name.is_empty()).cloned());
        }
        taken
    }
}

/// Which names a definition gets, and whether those are all that it asks for. A name is refused that somebody else has;
/// the one it had before then stays.
pub(super) fn accept(asked: &Names, had: &Names, taken: &Taken) -> (Names, Condition) {
    let mut given = had.clone();
    let mut refusal = None;
    let mut settle = |asked: &String, had: &mut String, taken: &BTreeSet<String>, reason: &'static str| {
        if asked != had && taken.contains(asked) {
            refusal = Some(condition("NamesAccepted", "False", reason, &in_use(asked)));
        } else {
            had.clone_from(asked);
        }
    };
    settle(&asked.plural, &mut given.plural, &taken.resources, "PluralConflict");
    settle(&asked.singular, &mut given.singular, &taken.resources, "SingularConflict");
    let refused: BTreeSet<String> = asked
        .short_names
        .iter()
        .filter(|name| !had.short_names.contains(name) && taken.resources.contains(*name))
        .map(|name| in_use(name))
        .collect();
    if refused.is_empty() {
        given.short_names.clone_from(&asked.short_names);
    } else {
        let refused: Vec<String> = refused.into_iter().collect();
        let message = match refused.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        refusal = Some(condition("NamesAccepted", "False", "ShortNamesConflict", &message));
    }
    let mut settle = |asked: &String, had: &mut String, reason: &'static str| {
        if asked != had && taken.kinds.contains(asked) {
            refusal = Some(condition("NamesAccepted", "False", reason, &in_use(asked)));
        } else {
            had.clone_from(asked);
        }
    };
    settle(&asked.kind, &mut given.kind, "KindConflict");
    settle(&asked.list_kind, &mut given.list_kind, "ListKindConflict");
    given.categories.clone_from(&asked.categories);
    let good = || condition("NamesAccepted", "True", "NoConflicts", "no conflicts found");
    (given, refusal.unwrap_or_else(good))
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

/// Whether a group belongs to the Kubernetes community.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|owner| group.strip_suffix(owner).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Whether the definition of a protected group has been approved of.
fn approval(definition: &Value) -> Option<Condition> {
    const KIND: &str = "KubernetesAPIApprovalPolicyConformant";
    let group = definition.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default();
    if !is_protected(group) {
        return None;
    }
    let annotation = definition
        .pointer("/metadata/annotations")
        .and_then(|a| a.get(APPROVED))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let is_url = annotation.parse::<http::Uri>().is_ok_and(|u| u.scheme().is_some() && u.host().is_some());
    let must = format!("protected groups must have approval annotation {APPROVED:?}");
    Some(if annotation.is_empty() {
        condition(KIND, "False", "MissingAnnotation", &format!("{must}, {MORE}"))
    } else if annotation.starts_with("unapproved") {
        condition(KIND, "False", "UnapprovedAnnotation", &format!("not approved: {annotation:?}"))
    } else if is_url {
        condition(KIND, "True", "ApprovedAnnotation", &format!("approved in {annotation}"))
    } else {
        let why = format!("{must} with either a URL or a reason starting with \"unapproved\", {MORE}");
        condition(KIND, "False", "InvalidAnnotation", &why)
    })
}

/// What is not structural in the schemas of a definition; none where all is well.
fn non_structural(definition: &Value) -> Option<Condition> {
    const KIND: &str = "NonStructuralSchema";
    let spec = definition.get("spec")?;
    let mut errors = Vec::new();
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) {
        errors.push("spec.preserveUnknownFields: Invalid value: true: must be false".to_owned());
    }
    let versions = spec.get("versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, version) in versions.iter().enumerate() {
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else { continue };
        match Structural::parse(schema) {
            Err(why) => {
                let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
                let message = format!("failed to check validation schema for version {name}: {why}");
                return Some(condition(KIND, "Unknown", "StructuralError", &message));
            }
            Ok(schema) => {
                let path = format!("spec.versions[{at}].schema.openAPIV3Schema");
                let path = skep_api::Path::new(path.as_str());
                errors.extend(rules_of_structure(&path, &schema).iter().map(ToString::to_string));
            }
        }
    }
    let message = match errors.as_slice() {
        [] => return None,
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Some(condition(KIND, "True", "Violations", &message))
}

/// Whether what a conversion webhook is to be verified by is no list of certificates.
fn has_bad_authority(definition: &Value) -> bool {
    use base64::Engine;
    use rustls_pki_types::pem::PemObject;
    let bundle = definition
        .pointer("/spec/conversion/webhook/clientConfig/caBundle")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Ok(pem) = base64::engine::general_purpose::STANDARD.decode(bundle) else { return true };
    if pem.trim_ascii().is_empty() {
        return false;
    }
    let mut certificates = rustls_pki_types::CertificateDer::pem_slice_iter(&pem).peekable();
    certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err())
}

/// The definition with the status it should have, given the names that others of its group have; none where it has that
/// already. `ready`: its resources are served by the names it has been given.
pub(super) fn settle(definition: &Value, taken: &Taken, ready: bool, now: jiff::Timestamp) -> Option<Value> {
    let names = |pointer: &str| Names::read(definition.pointer(pointer).unwrap_or(&Value::Null));
    let (asked, had) = (names("/spec/names"), names("/status/acceptedNames"));
    let mut new = definition.clone();
    if asked != had || find(definition, "NamesAccepted").is_none() {
        let (given, accepted) = accept(&asked, &had, taken);
        set(&mut new, &accepted, now);
        new["status"]["acceptedNames"] = given.to_value();
        if !is_true(&new, "Established") {
            let established = if accepted.status == "True" {
                condition("Established", "False", "Installing", "the initial names have been accepted")
            } else {
                condition("Established", "False", "NotAccepted", "not all names are accepted")
            };
            if accepted.status == "True" || find(&new, "Established").is_none() {
                set(&mut new, &established, now);
            }
        }
    } else if ready && is_true(definition, "NamesAccepted") && !is_true(definition, "Established") {
        let established = if has_bad_authority(definition) {
            let why = "The conversion webhook CABundle is invalid";
            condition("Established", "False", "InvalidCABundle", why)
        } else {
            let why = "the initial names have been accepted";
            condition("Established", "True", "InitialNamesAccepted", why)
        };
        set(&mut new, &established, now);
    }
    if let Some(approval) = approval(definition) {
        set(&mut new, &approval, now);
    }
    match non_structural(definition) {
        Some(violations) => set(&mut new, &violations, now),
        None if find(definition, "NonStructuralSchema").is_some() => remove(&mut new, "NonStructuralSchema"),
        None => {}
    }
    (new != *definition).then_some(new)
}

/// What the status says while and after the objects of a definition that goes are deleted.
pub(super) enum Cleanup {
    /// They are being deleted.
    Running,
    /// They cannot be.
    Failed(String),
    /// Some would not go.
    Left(String),
}

impl Cleanup {
    /// As a condition.
    pub(super) fn condition(&self) -> Condition {
        let terminating = |reason, why: &str| condition("Terminating", "True", reason, why);
        match self {
            Cleanup::Running => {
                terminating("InstanceDeletionInProgress", "CustomResource deletion is in progress")
            }
            Cleanup::Failed(why) => {
                terminating("InstanceDeletionFailed", &format!("could not issue all deletes: {why}"))
            }
            Cleanup::Left(why) => terminating(
                "InstanceDeletionCheck",
                &format!("could not confirm zero CustomResources remaining: {why}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {
                "group": "example.com",
                "names": {
                    "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                    "listKind": format!("{kind}List"), "shortNames": short,
                },
                "versions": [{"name": "v1", "served": true, "storage": true,
                              "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
        })
    }

    fn shown(definition: &Value, kind: &str) -> String {
        let c = find(definition, kind).unwrap();
        format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())
    }

    fn accepted(definition: &Value) -> Names {
        Names::read(&definition["status"]["acceptedNames"])
    }

    #[test]
    fn a_definition_is_accepted_and_then_established() {
        let fresh = definition("noxus", "Noxu", &["nx"]);
        let first = settle(&fresh, &Taken::default(), false, now()).unwrap();
        assert_eq!(shown(&first, "NamesAccepted"), "True NoConflicts");
        assert_eq!(shown(&first, "Established"), "False Installing");
        assert_eq!(first["status"]["acceptedNames"], first["spec"]["names"]);
        assert_eq!(settle(&first, &Taken::default(), false, now()), None);
        let second = settle(&first, &Taken::default(), true, now()).unwrap();
        assert_eq!(shown(&second, "Established"), "True InitialNamesAccepted");
        assert_eq!(settle(&second, &Taken::default(), true, now()), None);
    }

    #[test]
    fn names_that_others_have_are_refused_one_by_one() {
        let first = settle(&definition("noxus", "Noxu", &["nx"]), &Taken::default(), false, now()).unwrap();
        let taken = Taken::of([&accepted(&first)]);
        let other = settle(&definition("others", "Noxu", &["nx", "ot"]), &taken, false, now()).unwrap();
        assert_eq!(shown(&other, "NamesAccepted"), "False ListKindConflict");
        assert_eq!(shown(&other, "Established"), "False NotAccepted");
        let given = accepted(&other);
        assert_eq!((given.plural.as_str(), given.kind.as_str(), given.short_names.len()), ("others", "", 0));
        // When they are free again they are given.
        let later = settle(&other, &Taken::default(), false, now()).unwrap();
        assert_eq!(shown(&later, "NamesAccepted"), "True NoConflicts");
        assert_eq!(accepted(&later).short_names, ["nx", "ot"]);
    }

    #[test]
    fn an_established_definition_stays_so_when_a_new_name_is_refused() {
        let first = settle(&definition("noxus", "Noxu", &[]), &Taken::default(), false, now()).unwrap();
        let mut live = settle(&first, &Taken::default(), true, now()).unwrap();
        live["spec"]["names"]["kind"] = "Other".into();
        let taken = Taken { kinds: BTreeSet::from(["Other".into()]), ..Taken::default() };
        let refused = settle(&live, &taken, true, now()).unwrap();
        assert_eq!(shown(&refused, "NamesAccepted"), "False KindConflict");
        assert_eq!(shown(&refused, "Established"), "True InitialNamesAccepted");
        assert_eq!(accepted(&refused).kind, "Noxu");
    }

    #[test]
    fn protected_groups_need_approval() {
        for (group, annotation, want) in [
            ("example.com", "", None),
            ("notk8s.io", "", None),
            ("k8s.io", "", Some("False MissingAnnotation")),
            ("x.kubernetes.io", "unapproved, because", Some("False UnapprovedAnnotation")),
            ("x.k8s.io", "https://github.com/kubernetes/kubernetes/pull/1", Some("True ApprovedAnnotation")),
            ("x.k8s.io", "bad value", Some("False InvalidAnnotation")),
        ] {
            let mut it = definition("noxus", "Noxu", &[]);
            it["spec"]["group"] = group.into();
            it["metadata"]["annotations"] = json!({APPROVED: annotation});
            let got = approval(&it).map(|c| format!("{} {}", c.status, c.reason));
            assert_eq!(got.as_deref(), want, "{group} {annotation}");
        }
    }

    #[test]
    fn what_is_not_structural_is_told() {
        let mut it = definition("noxus", "Noxu", &[]);
        assert_eq!(non_structural(&it), None);
        it["spec"]["preserveUnknownFields"] = true.into();
        let told = non_structural(&it).unwrap();
        assert_eq!(told.message, "spec.preserveUnknownFields: Invalid value: true: must be false");
        it["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"properties": {"a": {}}});
        assert!(non_structural(&it).unwrap().message.starts_with('['));
    }

    #[test]
    fn a_transition_has_its_time() {
        let mut it = definition("noxus", "Noxu", &[]);
        let bad = condition("Established", "False", "Installing", "");
        set(&mut it, &bad, now());
        let later = now() + jiff::SignedDuration::from_secs(5);
        set(&mut it, &Condition { reason: "NotAccepted", ..bad.clone() }, later);
        assert_eq!(find(&it, "Established").unwrap()["lastTransitionTime"], "2026-05-01T12:00:00Z");
        set(&mut it, &Condition { status: "True", ..bad }, later);
        assert_eq!(find(&it, "Established").unwrap()["lastTransitionTime"], "2026-05-01T12:00:05Z");
    }

    #[test]
    fn a_webhook_needs_certificates_that_are_some() {
        let bundle =
            |text: &str| json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": text}}}}});
        assert!(!has_bad_authority(&json!({})));
        assert!(!has_bad_authority(&bundle("IAo=")));
        assert!(has_bad_authority(&bundle("aGFsbG8=")));
        assert!(has_bad_authority(&bundle("%")));
    }
}
