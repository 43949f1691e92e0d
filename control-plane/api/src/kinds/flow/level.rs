//! PriorityLevelConfigurations: how many requests of a level are served at a time, and what becomes of the rest.

use super::conditions;
use super::fixed::fixed_spec;
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same};
use serde_json::Value;

/// PriorityLevelConfigurations.
#[derive(Debug, Default)]
pub struct PriorityLevelConfiguration;

/// Was used to keep a zero through an older version.
const ROUNDTRIP: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of a hash that choose a flow's queues.
const HASH_BITS: u32 = 60;

impl Strategy for PriorityLevelConfiguration {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        let name = metadata.get("name").text();
        let annotations = metadata.get("annotations");
        if annotations.get(ROUNDTRIP).present() {
            errors.forbidden(&annotations, format!("annotation '{ROUNDTRIP}' is forbidden"));
        }
        check_spec(&mut errors, &spec, name);
        if let Some(mut fixed) = fixed_spec("PriorityLevelConfiguration", name) {
            let except = name == "exempt";
            if except {
                // Of this one the contents of `exempt` may be changed.
                fixed["exempt"] = spec.get("exempt").json();
            }
            if !same(spec.value(), Some(&fixed)) {
                let except = if except { " except the 'spec.exempt' field" } else { "" };
                errors.invalid(&spec, format!("spec of '{name}'{except} must equal the fixed value"));
            }
        }
        conditions(&mut errors, &root.get("status"));
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        conditions(&mut errors, &At::root(new).get("status"));
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Type", "string", "Exempt or Limited."),
            column("NominalConcurrencyShares", "string", "Its share of the server."),
            column("Queues", "string", "How many queues it has."),
            column("HandSize", "string", "How many queues a flow may use."),
            column("QueueLengthLimit", "string", "How many requests may wait in a queue."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let spec = root.get("spec");
        let limited = spec.get("limited");
        let response = limited.get("limitResponse");
        let queuing = response.get("queuing");
        let number = |parent: &At<'_, '_>, field: &'static str| {
            if parent.present() { parent.get(field).int().unwrap_or(0).into() } else { Value::from("<none>") }
        };
        vec![
            table::name(object),
            spec.get("type").text().into(),
            number(&limited, "nominalConcurrencyShares"),
            number(&queuing, "queues"),
            number(&queuing, "handSize"),
            number(&queuing, "queueLengthLimit"),
            table::age(object, now),
        ]
    }
}

fn check_spec(errors: &mut Errors, spec: &At<'_, '_>, name: &str) {
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (name == "exempt") != (kind.text() == "Exempt") {
        errors.invalid(&kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.text() {
        "Exempt" => {
            if limited.present() {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            shares(errors, &exempt);
        }
        "Limited" => {
            if exempt.present() {
                errors.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if !limited.present() {
                return errors.required(&limited, "must not be empty when type is Limited");
            }
            shares(errors, &limited);
            response(errors, &limited.get("limitResponse"));
            let borrow = limited.get("borrowingLimitPercent");
            if borrow.int().is_some_and(|percent| percent < 0) {
                errors.invalid(&borrow, "if specified, must be a non-negative integer");
            }
        }
        _ => errors.not_supported(&kind, &["Exempt", "Limited"]),
    }
}

fn shares(errors: &mut Errors, at: &At<'_, '_>) {
    let shares = at.get("nominalConcurrencyShares");
    if shares.int().is_some_and(|n| n < 0) {
        errors.invalid(&shares, "must be a non-negative integer");
    }
    errors.in_range(&at.get("lendablePercent"), 0, 100);
}

fn response(errors: &mut Errors, at: &At<'_, '_>) {
    let (kind, queuing) = (at.get("type"), at.get("queuing"));
    match kind.text() {
        "Reject" if queuing.present() => {
            errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if !queuing.present() => {
            errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => check_queues(errors, &queuing),
        _ => errors.not_supported(&kind, &["Queue", "Reject"]),
    }
}

fn check_queues(errors: &mut Errors, at: &At<'_, '_>) {
    let (length, queues, hand) = (at.get("queueLengthLimit"), at.get("queues"), at.get("handSize"));
    let number = |at: &At<'_, '_>| at.int().unwrap_or(0);
    if number(&length) <= 0 {
        errors.invalid(&length, "must be positive");
    }
    let (deck, dealt) = (number(&queues), number(&hand));
    if deck <= 0 {
        errors.invalid(&queues, "must be positive");
    } else if deck > QUEUES_MAX {
        errors.invalid(&queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    if dealt <= 0 {
        errors.invalid(&hand, "must be positive");
    } else if dealt > deck {
        errors.invalid(&hand, format!("should not be greater than queues ({deck})"));
    } else if entropy(deck, dealt) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {deck} and handSize {dealt} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&hand, why);
    }
}

/// Bits that choosing a hand of queues from all of them needs.
fn entropy(deck: i64, hand: i64) -> u32 {
    ((deck as f64).log2() * hand as f64).ceil() as u32
}
