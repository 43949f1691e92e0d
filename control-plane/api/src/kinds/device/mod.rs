//! Devices and who gets them (`resource.k8s.io`, KEP-4381): claims, templates of claims, classes, and what drivers say there
//! is. Which expressions selectors have is said here; compiling them is for others.

mod claim;
mod class;
mod slice;
mod status;
#[cfg(test)]
mod tests;

pub use claim::{ResourceClaim, ResourceClaimTemplate};
pub use class::DeviceClass;
pub use slice::ResourceSlice;

use crate::expressions::{About, Expression, Wanted};
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::validation::{At, Errors, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// Most requests, constraints, configurations and selectors.
const LIST_MAX: usize = 32;
/// Most bytes of the expression of a selector, and of the parameters for a driver.
const TEXT_MAX: usize = 10 << 10;
/// Most bytes of a domain (as of a driver's name) and of an identifier in it.
const DOMAIN_MAX: usize = 63;
const IDENTIFIER_MAX: usize = 32;
/// Most conditions for binding, and for giving it up.
const BINDING_MAX: usize = 4;
const POOL_MAX: usize = 253;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// Whether a list is short enough; nothing else is said of a longer one.
fn fits(errors: &mut Errors, list: &At<'_, '_>, max: usize) -> bool {
    if list.len() > max {
        errors.push(FieldError::too_many(list.path(), list.len(), max));
    }
    list.len() <= max
}

/// Entries of which each has a key of its own.
fn unique<'v>(errors: &mut Errors, list: &At<'v, '_>, key: impl Fn(&At<'v, '_>) -> String) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let key = key(&item);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(item.path(), key.into()));
        } else {
            seen.insert(key);
        }
    }
}

fn driver_name(errors: &mut Errors, at: &At<'_, '_>) {
    if at.text().len() > DOMAIN_MAX {
        errors.push(FieldError::too_long(at.path(), DOMAIN_MAX));
    }
    errors.required_text(at, |name| dns1123_subdomain(&name.to_lowercase(), false));
}

fn pool_name(errors: &mut Errors, at: &At<'_, '_>) {
    if at.text().len() > POOL_MAX {
        errors.push(FieldError::too_long(at.path(), POOL_MAX));
    }
    errors
        .required_text(at, |name| name.split('/').flat_map(|part| dns1123_subdomain(part, false)).collect());
}

fn label(errors: &mut Errors, at: &At<'_, '_>) {
    errors.text(at, dns1123_label(at.text(), false));
}

/// `id` or `domain/id`.
fn qualified_name(errors: &mut Errors, at: &At<'_, '_>, name: &str, full: bool) {
    let mut say = |value: &str, why: String| errors.push(FieldError::invalid(at.path(), value.into(), why));
    let id = match name.split('/').collect::<Vec<_>>()[..] {
        [id] => id,
        ["", id] => {
            say("", "the domain must not be empty".into());
            id
        }
        [domain, id] => {
            dns1123_subdomain(&domain.to_lowercase(), false).into_iter().for_each(|why| say(domain, why));
            id
        }
        _ => return,
    };
    if name.contains('/') && id.is_empty() {
        say("", "the name must not be empty".into());
    } else if !is_identifier(id) {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                   characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
                   '[A-Za-z_][A-Za-z0-9_]*')";
        say(id, why.into());
    }
    if full && !name.contains('/') {
        say(name, "a fully qualified name must be a domain and a name separated by a slash".into());
    }
    let domain = name.split_once('/').map_or(0, |(domain, _)| domain.len());
    for (length, max) in [(domain, DOMAIN_MAX), (id.len(), IDENTIFIER_MAX)] {
        if length > max {
            errors.push(FieldError::too_long(at.path(), max));
        }
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn selectors(errors: &mut Errors, list: &At<'_, '_>) {
    if !fits(errors, list, LIST_MAX) {
        return;
    }
    for selector in list.items() {
        let cel = selector.get("cel");
        let expression = cel.get("expression");
        if !cel.present() {
            errors.required(&cel, "");
        } else if expression.text().len() > TEXT_MAX {
            errors.push(FieldError::too_long(expression.path(), TEXT_MAX));
        }
    }
}

/// The expressions of selectors, blank ones too: those have no meaning either.
fn expressions(list: &At<'_, '_>) -> Vec<Expression> {
    let text = |at: &At<'_, '_>| at.text().to_owned();
    let each = list.items().filter_map(|selector| {
        let cel = selector.get("cel");
        let at = cel.get("expression");
        let fits = cel.present() && at.text().len() <= TEXT_MAX;
        fits.then(|| Expression {
            path: at.path(),
            text: text(&at),
            about: About::Device,
            wanted: Wanted::Bool,
        })
    });
    each.collect()
}

fn configuration(errors: &mut Errors, at: &At<'_, '_>) {
    let opaque = at.get("opaque");
    if !opaque.present() {
        return errors.required(&opaque, "");
    }
    driver_name(errors, &opaque.get("driver"));
    raw(errors, &opaque.get("parameters"), TEXT_MAX);
}

/// An object of a form that only its reader knows.
fn raw(errors: &mut Errors, at: &At<'_, '_>, max: usize) {
    match at.value() {
        None => errors.required(at, ""),
        Some(value) if value.to_string().len() > max => errors.push(FieldError::too_long(at.path(), max)),
        Some(Value::Object(_)) => {}
        Some(_) => {
            let why = "must be a valid JSON object";
            errors.push(FieldError::invalid(at.path(), "<value omitted>".into(), why));
        }
    }
}

fn toleration(errors: &mut Errors, at: &At<'_, '_>) {
    let (operator, value, effect) = (at.get("operator"), at.get("value"), at.get("effect"));
    errors.optional_text(&at.get("key"), text::qualified_name);
    match operator.text() {
        "Exists" if !value.text().is_empty() => errors.invalid(&value, "must be empty for operator `Exists`"),
        "Equal" => errors.text(&value, text::label_value(value.text())),
        _ => errors.one_of(&operator, &["Equal", "Exists"]),
    }
    if !effect.text().is_empty() {
        errors.optional_one_of(&effect, EFFECTS);
    }
}

fn taint(errors: &mut Errors, at: &At<'_, '_>) {
    let (key, value) = (at.get("key"), at.get("value"));
    errors.text(&key, text::qualified_name(key.text()));
    errors.text(&value, text::label_value(value.text()));
    errors.one_of(&at.get("effect"), EFFECTS);
}

fn binding_conditions(errors: &mut Errors, at: &At<'_, '_>) {
    let (wait, give_up) = (at.get("bindingConditions"), at.get("bindingFailureConditions"));
    for list in [&wait, &give_up] {
        if fits(errors, list, BINDING_MAX) {
            list.items().for_each(|item| errors.text(&item, text::qualified_name(item.text())));
        }
        unique(errors, list, |item| item.text().to_owned());
    }
    for item in give_up.items().filter(|item| wait.texts().any(|text| text == item.text())) {
        errors.invalid(&item, "bindingFailureConditions must not overlap with bindingConditions");
    }
    if wait.is_empty() && !give_up.is_empty() {
        errors.invalid(&wait, "bindingConditions are required to use bindingFailureConditions");
    }
    if give_up.is_empty() && !wait.is_empty() {
        errors.invalid(&give_up, "bindingFailureConditions are required to use bindingConditions");
    }
}

/// An identity in the usual form.
fn uid(errors: &mut Errors, at: &At<'_, '_>) {
    let form = |(i, b): (usize, u8)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
    };
    if at.text().len() != 36 || !at.text().bytes().enumerate().all(form) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                   hexadecimal characters";
        errors.invalid(at, why);
    }
}
