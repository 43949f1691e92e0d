//! What a write does to the quotas of its namespace.

use super::scope::scopes_match;
use super::usage::{is_ignored, tracks, unsaid, usage};
use crate::kinds::pod::amounts::{Amounts, add, amounts};
use crate::quantity::Quantity;
use crate::resource::GroupResource;
use serde_json::{Map, Value};

/// A write.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// What kind of object.
    pub resource: &'a GroupResource,
    /// What is written below the object, or empty.
    pub subresource: &'a str,
    /// As it was; none for a new object.
    pub old: Option<&'a Value>,
    /// As it will be; none for one that goes.
    pub new: Option<&'a Value>,
    /// When.
    pub now: jiff::Timestamp,
}

/// A quota with other usage than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Charged {
    /// Which of the quotas.
    pub index: usize,
    /// The quota as it will be.
    pub quota: Value,
}

/// Why a write may not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A container does not say what the quota counts.
    #[error("failed quota: {quota}: must specify {what}")]
    Unsaid {
        /// Name of the quota.
        quota: String,
        /// Resources, each with its containers.
        what: String,
    },
    /// The quota has not been counted yet.
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    Unknown {
        /// Name of the quota.
        quota: String,
        /// Names, separated by commas.
        resources: String,
    },
    /// More than the quota allows.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        /// Name of the quota.
        quota: String,
        /// What is too much of it.
        requested: String,
        /// What is used already.
        used: String,
        /// What may be used.
        limited: String,
    },
}

fn text<'a>(quota: &'a Value, pointer: &str) -> &'a str {
    quota.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Names in the status that are about the resource.
fn tracked(quota: &Value, resource: &GroupResource) -> Vec<String> {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object);
    hard.into_iter().flat_map(Map::keys).filter(|name| tracks(resource, name)).cloned().collect()
}

impl Change<'_> {
    /// Whether the write can make the quota's usage larger: what upstream's evaluators handle. What makes it smaller is always
    /// taken into account.
    fn may_refuse(&self) -> bool {
        let core = if self.resource.group.is_empty() { self.resource.resource.as_ref() } else { "" };
        match (self.old, self.new) {
            (_, None) => false,
            (None, Some(_)) => self.subresource.is_empty(),
            (Some(old), Some(new)) => match (core, self.subresource) {
                ("pods", "") => {
                    let deadline = |pod: &Value| {
                        pod.pointer("/spec/activeDeadlineSeconds").is_some_and(|d| !d.is_null())
                    };
                    deadline(old) != deadline(new)
                }
                ("pods", "resize") => true,
                ("services" | "persistentvolumeclaims", "") => true,
                _ => false,
            },
        }
    }
}

/// What a write does to quotas: those whose usage changes, or why it may not be. Each quota is a stored object.
pub fn charge(quotas: &[Value], change: &Change<'_>) -> Result<Vec<Charged>, Refusal> {
    let mut charged = Vec::new();
    if is_ignored(change.resource) {
        return Ok(charged);
    }
    let strict = change.may_refuse();
    for (index, quota) in quotas.iter().enumerate() {
        let names = tracked(quota, change.resource);
        let about = |object: &&Value| scopes_match(quota, change.resource, object);
        let (old, new) = (change.old.filter(about), change.new.filter(about));
        if names.is_empty() || (old.is_none() && new.is_none()) {
            continue;
        }
        if let Some(new) = new.filter(|_| strict) {
            said_and_counted(quota, &names, change, new)?;
        }
        let of = |object: Option<&Value>| {
            object.map(|o| usage(change.resource, o, change.now)).unwrap_or_default()
        };
        if let Some(quota) = apply(quota, &names, &of(old), &of(new), strict)? {
            charged.push(Charged { index, quota });
        }
    }
    Ok(charged)
}

fn said_and_counted(
    quota: &Value,
    names: &[String],
    change: &Change<'_>,
    new: &Value,
) -> Result<(), Refusal> {
    let name = || text(quota, "/metadata/name").to_owned();
    if change.resource.group.is_empty() && change.resource.resource == "pods" {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let missing = unsaid(new, &names);
        if !missing.is_empty() {
            let each =
                |(name, containers): &(String, Vec<String>)| format!("{name} for: {}", containers.join(","));
            let what = missing.iter().map(each).collect::<Vec<_>>().join("; ");
            return Err(Refusal::Unsaid { quota: name(), what });
        }
    }
    let used = quota.pointer("/status/used").and_then(Value::as_object);
    if names.iter().any(|name| !used.is_some_and(|used| used.contains_key(name))) {
        return Err(Refusal::Unknown { quota: name(), resources: names.join(",") });
    }
    Ok(())
}

/// The quota with the difference between two usages; none where there is none.
fn apply(
    quota: &Value,
    names: &[String],
    before: &Amounts,
    after: &Amounts,
    strict: bool,
) -> Result<Option<Value>, Refusal> {
    let hard = amounts(quota.pointer("/status/hard"));
    let used = amounts(quota.pointer("/status/used"));
    let mut new_used = used.clone();
    let (mut changed, mut wrong) = (false, Vec::new());
    for name in names {
        let had = before.get(name).copied().unwrap_or(Quantity::ZERO);
        let has = after.get(name).copied().unwrap_or(Quantity::ZERO);
        if had == has {
            continue;
        }
        let now_used = used.get(name).copied().unwrap_or(Quantity::ZERO);
        let (more, sum) = if has > had {
            let more = has.sub(&had);
            (Some(more), now_used.add(&more))
        } else {
            // What was never counted is not given back.
            (None, now_used.sub(&had.sub(&has)).max(Quantity::ZERO))
        };
        let most = hard.get(name).copied().unwrap_or(Quantity::ZERO);
        if let Some(more) = more.filter(|_| strict && sum > most) {
            wrong.push((name, more, now_used, most));
        }
        changed |= sum != now_used || !used.contains_key(name);
        new_used.insert(name.clone(), sum);
    }
    if !wrong.is_empty() {
        let list = |amount: fn(&(&String, Quantity, Quantity, Quantity)) -> Quantity| {
            wrong.iter().map(|row| format!("{}={}", row.0, amount(row))).collect::<Vec<_>>().join(",")
        };
        return Err(Refusal::Exceeded {
            quota: text(quota, "/metadata/name").to_owned(),
            requested: list(|row| row.1),
            used: list(|row| row.2),
            limited: list(|row| row.3),
        });
    }
    if !changed {
        return Ok(None);
    }
    let mut quota = quota.clone();
    quota["status"]["used"] = tree(&new_used);
    Ok(Some(quota))
}

fn tree(amounts: &Amounts) -> Value {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_string().into()))
        .collect::<Map<_, _>>()
        .into()
}

/// The status a quota should have, given all objects of its namespace: `hard` as its spec says, and of that `used` which is
/// about one of the `known` resources.
pub fn recount<'a>(
    quota: &Value,
    known: &[GroupResource],
    objects: impl IntoIterator<Item = (&'a GroupResource, &'a Value)>,
    now: jiff::Timestamp,
) -> Value {
    let hard = amounts(quota.pointer("/spec/hard"));
    let mut sum = Amounts::new();
    for (resource, object) in objects {
        if !is_ignored(resource) && scopes_match(quota, resource, object) {
            add(&mut sum, &usage(resource, object, now));
        }
    }
    let counted =
        |name: &&String| known.iter().any(|resource| !is_ignored(resource) && tracks(resource, name));
    let used = hard
        .keys()
        .filter(counted)
        .map(|name| (name.clone(), sum.get(name).copied().unwrap_or(Quantity::ZERO)));
    serde_json::json!({"hard": tree(&hard), "used": tree(&used.collect())})
}
