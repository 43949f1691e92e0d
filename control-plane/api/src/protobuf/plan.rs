//! In what order a message is written, and what stands there for fields that are absent.

use super::table::{Card, Field, Kind, Presence};
use super::wire::{put_bytes, put_fixed64, put_int};

/// How a message is written.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of the wire.
    pub(super) steps: Vec<Step>,
    /// By JSON name, with the step of each.
    names: Vec<(&'static str, u16, Field)>,
}

/// A part of a message.
#[derive(Debug)]
pub(super) enum Step {
    /// A field, and what Go writes of it while it is absent: nothing of pointers, lists and maps, zero of values.
    Field(Box<[u8]>),
    /// A message of this number that lies flat in the JSON: the steps that follow, up to `end`, are of its fields.
    Open {
        number: u32,
        /// The step behind the last of its own.
        end: usize,
    },
}

impl Plan {
    /// The plan of what has no fields.
    pub(super) const fn none() -> Self {
        Plan { steps: Vec::new(), names: Vec::new() }
    }

    /// The plan of a message among `messages`.
    pub(super) fn new(messages: &[Vec<Field>], message: u16) -> Self {
        let mut plan = Plan::none();
        plan.add(messages, message);
        plan.names.sort_unstable_by_key(|row| row.0);
        plan
    }

    fn add(&mut self, messages: &[Vec<Field>], message: u16) {
        for field in messages.get(usize::from(message)).into_iter().flatten() {
            let at = self.steps.len();
            if let (Presence::Inline, Kind::Message(inner)) = (field.presence, field.kind) {
                self.steps.push(Step::Open { number: field.number, end: 0 });
                self.add(messages, inner);
                let behind = self.steps.len();
                if let Some(Step::Open { end, .. }) = self.steps.get_mut(at) {
                    *end = behind;
                }
                continue;
            }
            let mut absent = Vec::new();
            if field.presence != Presence::Pointer
                && field.card == Card::One
                && !matches!(field.kind, Kind::Bytes | Kind::Strings)
            {
                zero(messages, field.kind, field.number, &mut absent);
            }
            self.steps.push(Step::Field(absent.into()));
            self.names.push((field.name, at as u16, *field));
        }
    }

    /// The field of a JSON name, and its step.
    pub(super) fn field(&self, name: &[u8]) -> Option<(u16, &Field)> {
        let at = self.names.binary_search_by(|row| row.0.as_bytes().cmp(name)).ok()?;
        self.names.get(at).map(|row| (row.1, &row.2))
    }
}

/// Writes the zero value of a type under `number`.
pub(super) fn zero(messages: &[Vec<Field>], kind: Kind, number: u32, out: &mut Vec<u8>) {
    let mut nested = Vec::new();
    match kind {
        Kind::String | Kind::Bytes => {}
        Kind::Bool | Kind::Int => return put_int(out, number, 0),
        Kind::Double => return put_fixed64(out, number, 0),
        Kind::Quantity => put_bytes(&mut nested, 1, b"0"),
        Kind::IntOrString => {
            put_int(&mut nested, 1, 0);
            put_int(&mut nested, 2, 0);
            put_bytes(&mut nested, 3, b"");
        }
        Kind::Time | Kind::MicroTime | Kind::Raw | Kind::Strings => {}
        Kind::SchemaOrArray | Kind::SchemaOrStrings => {}
        Kind::SchemaOrBool => put_int(&mut nested, 1, 0),
        Kind::Message(inner) => empty(messages, inner, &mut nested),
    }
    put_bytes(out, number, &nested);
}

/// Writes the fields of a message that has none.
fn empty(messages: &[Vec<Field>], message: u16, out: &mut Vec<u8>) {
    for field in messages.get(usize::from(message)).into_iter().flatten() {
        if field.presence != Presence::Pointer
            && field.card == Card::One
            && !matches!(field.kind, Kind::Bytes | Kind::Strings)
        {
            zero(messages, field.kind, field.number, out);
        }
    }
}
