//! JSON to messages, in one pass over the text.
//!
//! The fields of an object are written as they come, each a piece of the buffer; at the object's end the pieces are put in
//! the order of the wire, with what Go writes of absent fields between them.

use super::decode::ZERO_TIME;
use super::json::Cursor;
use super::plan::{Plan, Step, zero};
use super::table::{Card, Field, Kind, Table};
use super::wire::{put_bytes, put_fixed64, put_head, put_int};
use super::{MAX_DEPTH, ProtobufError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;

type Result<T> = std::result::Result<T, ProtobufError>;

/// A field as it was written.
#[derive(Clone, Copy)]
struct Piece {
    step: u16,
    start: usize,
    end: usize,
}

struct Encoder {
    table: &'static Table,
    out: Vec<u8>,
    pieces: Vec<Piece>,
}

/// The bytes of the message of a JSON object; fields that the message does not have are passed over.
pub(super) fn message(table: &'static Table, message: u16, json: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = Encoder { table, out: Vec::with_capacity(json.len()), pieces: Vec::with_capacity(32) };
    encoder.message(message, None, &mut Cursor::new(json), "", 0)?;
    Ok(encoder.out)
}

fn wrong(field: &'static str, why: &str) -> ProtobufError {
    ProtobufError::Value { field, why: why.to_owned() }
}

/// An error of a text that is no JSON. Objects were read as JSON before.
fn broken(field: &'static str) -> impl Fn() -> ProtobufError {
    move || wrong(field, "not JSON")
}

impl Encoder {
    /// Writes a message, under a number where one is given. Null is a message without fields.
    fn message(
        &mut self,
        message: u16,
        number: Option<u32>,
        from: &mut Cursor<'_>,
        name: &'static str,
        depth: usize,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        let plan = self.table.plan(message);
        let (start, base) = (self.out.len(), self.pieces.len());
        if from.take(b'{') {
            let mut first = true;
            while let Some(key) = from.key(&mut first).ok_or_else(broken(name))? {
                match plan.field(&key) {
                    Some((step, field)) => {
                        let start = self.out.len();
                        self.field(field, from, depth)?;
                        let end = self.out.len();
                        if end > start {
                            self.pieces.push(Piece { step, start, end });
                        }
                    }
                    None => drop(from.raw().ok_or_else(broken(name))?),
                }
            }
        } else if !from.null() {
            return Err(wrong(name, "an object is wanted"));
        }
        // Stable, so that of a key that stands twice the last one counts, as on the wire.
        self.pieces[base..].sort_by_key(|piece| piece.step);
        let written = self.out.len();
        let all = 0..plan.steps.len();
        if let Some(number) = number {
            let size = size(plan, all.clone(), &mut &self.pieces[base..]);
            put_head(&mut self.out, number, size);
        }
        arrange(plan, all, &mut &self.pieces[base..], &mut self.out);
        self.pieces.truncate(base);
        let length = self.out.len() - written;
        self.out.copy_within(written.., start);
        self.out.truncate(start + length);
        Ok(())
    }

    /// Writes what stands under a key. Null is written as if the key were not there.
    fn field(&mut self, field: &Field, from: &mut Cursor<'_>, depth: usize) -> Result<()> {
        if from.null() {
            return Ok(());
        }
        let broken = broken(field.name);
        match field.card {
            Card::One => self.value(field, field.number, from, depth),
            Card::List => {
                if !from.take(b'[') {
                    return Err(wrong(field.name, "a list is wanted"));
                }
                let mut first = true;
                while from.element(&mut first).ok_or_else(&broken)? {
                    self.value(field, field.number, from, depth)?;
                }
                Ok(())
            }
            Card::Map => {
                if !from.take(b'{') {
                    return Err(wrong(field.name, "a map is wanted"));
                }
                let mut first = true;
                while let Some(key) = from.key(&mut first).ok_or_else(&broken)? {
                    let start = self.out.len();
                    put_bytes(&mut self.out, 1, &key);
                    self.value(field, 2, from, depth)?;
                    self.wrap(start, field.number);
                }
                Ok(())
            }
        }
    }

    /// Makes what was written since `start` the content of a field.
    fn wrap(&mut self, start: usize, number: u32) {
        let length = self.out.len() - start;
        put_head(&mut self.out, number, length);
        self.out[start..].rotate_left(length);
    }

    /// Writes one value under `number`; null is the zero value.
    fn value(&mut self, field: &Field, number: u32, from: &mut Cursor<'_>, depth: usize) -> Result<()> {
        let wrong = |why: &str| wrong(field.name, why);
        if let Kind::Message(inner) = field.kind {
            return self.message(inner, Some(number), from, field.name, depth + 1);
        }
        if from.null() {
            zero(self.table.messages(), field.kind, number, &mut self.out);
            return Ok(());
        }
        let out = &mut self.out;
        match field.kind {
            Kind::String => {
                put_bytes(out, number, &from.string().ok_or_else(|| wrong("a string is wanted"))?);
                return Ok(());
            }
            Kind::Bool => {
                let bool = match from.literal() {
                    Some("true") => 1,
                    Some("false") => 0,
                    _ => return Err(wrong("a boolean is wanted")),
                };
                put_int(out, number, bool);
                return Ok(());
            }
            Kind::Int => {
                let int = from.literal().and_then(|text| text.parse::<i64>().ok());
                put_int(out, number, int.ok_or_else(|| wrong("an integer is wanted"))?.cast_unsigned());
                return Ok(());
            }
            Kind::Double => {
                let double = from.literal().and_then(|text| text.parse::<f64>().ok());
                put_fixed64(out, number, double.ok_or_else(|| wrong("a number is wanted"))?.to_bits());
                return Ok(());
            }
            _ => {}
        }
        let start = out.len();
        match field.kind {
            Kind::Bytes => {
                let text = from.string().ok_or_else(|| wrong("a string is wanted"))?;
                STANDARD.decode_vec(&text, out).map_err(|_| wrong("not base64"))?;
            }
            Kind::Quantity => match from.peek() {
                b'"' => match from.string().as_deref() {
                    Some([]) => put_bytes(out, 1, b"0"),
                    Some(text) => put_bytes(out, 1, text),
                    None => return Err(wrong("a quantity is wanted")),
                },
                b'-' | b'0'..=b'9' => put_bytes(out, 1, from.literal().unwrap_or("0").as_bytes()),
                _ => return Err(wrong("a quantity is wanted")),
            },
            Kind::IntOrString => {
                let (kind, number, text) = match from.string() {
                    Some(text) => (1, 0, text),
                    None => {
                        let number = from.literal().and_then(|text| text.parse::<i32>().ok());
                        let number = number.ok_or_else(|| wrong("an int32 or a string is wanted"))?;
                        (0, number, Default::default())
                    }
                };
                put_int(out, 1, kind);
                put_int(out, 2, i64::from(number).cast_unsigned());
                put_bytes(out, 3, &text);
            }
            Kind::Time | Kind::MicroTime => {
                let text = from.string().ok_or_else(|| wrong("a string is wanted"))?;
                let text = std::str::from_utf8(&text).map_err(|_| wrong("not a time"))?;
                time(text, field.kind == Kind::MicroTime, out).ok_or_else(|| wrong("not a time"))?;
            }
            Kind::Raw => put_bytes(out, 1, from.raw().ok_or_else(broken(field.name))?),
            Kind::Strings => self.strings(field, 1, from)?,
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
                self.union(field, from, depth)?;
            }
            Kind::String | Kind::Bool | Kind::Int | Kind::Double | Kind::Message(_) => {}
        }
        self.wrap(start, number);
        Ok(())
    }

    fn strings(&mut self, field: &Field, number: u32, from: &mut Cursor<'_>) -> Result<()> {
        let wrong = || wrong(field.name, "a list of strings is wanted");
        if !from.take(b'[') {
            return Err(wrong());
        }
        let mut first = true;
        while from.element(&mut first).ok_or_else(wrong)? {
            put_bytes(&mut self.out, number, &from.string().ok_or_else(wrong)?);
        }
        Ok(())
    }

    /// A schema, or what may stand in its place.
    fn union(&mut self, field: &Field, from: &mut Cursor<'_>, depth: usize) -> Result<()> {
        let Some(schema) = self.table.json_schema else { return Ok(()) };
        match (field.kind, from.peek()) {
            (Kind::SchemaOrBool, b't' | b'f') => {
                put_int(&mut self.out, 1, (from.literal() == Some("true")).into());
                Ok(())
            }
            (Kind::SchemaOrBool, b'{') => {
                put_int(&mut self.out, 1, 1);
                self.message(schema, Some(2), from, field.name, depth + 1)
            }
            (_, b'{') => self.message(schema, Some(1), from, field.name, depth + 1),
            (Kind::SchemaOrArray, b'[') => {
                from.take(b'[');
                let mut first = true;
                while from.element(&mut first).ok_or_else(broken(field.name))? {
                    self.message(schema, Some(2), from, field.name, depth + 1)?;
                }
                Ok(())
            }
            (Kind::SchemaOrStrings, b'[') => self.strings(field, 2, from),
            _ => Err(wrong(field.name, "a schema or what may stand in its place is wanted")),
        }
    }
}

/// Writes an instant; none where the text is not one. Go's zero time is written as nothing.
fn time(text: &str, micro: bool, out: &mut Vec<u8>) -> Option<()> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    // Go counts seconds downwards from a fraction before 1970, jiff towards zero.
    let seconds = instant.as_nanosecond().div_euclid(1_000_000_000) as i64;
    let nanos = instant.as_nanosecond().rem_euclid(1_000_000_000) as i32;
    let micros = if micro { nanos / 1000 * 1000 } else { 0 };
    if (seconds, nanos) != (ZERO_TIME, 0) {
        put_int(out, 1, seconds.cast_unsigned());
        put_int(out, 2, i64::from(micros).cast_unsigned());
    }
    Some(())
}

/// How long steps are on the wire. Takes their pieces off the front.
fn size(plan: &Plan, steps: Range<usize>, pieces: &mut &[Piece]) -> usize {
    let mut total = 0;
    let mut at = steps.start;
    while at < steps.end {
        match &plan.steps[at] {
            Step::Field(absent) => {
                let own = own(at, pieces);
                total += match own {
                    [] => absent.len(),
                    own => own.iter().map(|piece| piece.end - piece.start).sum(),
                };
                at += 1;
            }
            Step::Open { number, end } => {
                let inner = size(plan, at + 1..*end, pieces);
                let mut head = Vec::new();
                put_head(&mut head, *number, inner);
                total += head.len() + inner;
                at = *end;
            }
        }
    }
    total
}

/// Appends steps in the order of the wire. Takes their pieces off the front.
fn arrange(plan: &Plan, steps: Range<usize>, pieces: &mut &[Piece], out: &mut Vec<u8>) {
    let mut at = steps.start;
    while at < steps.end {
        match &plan.steps[at] {
            Step::Field(absent) => {
                match own(at, pieces) {
                    [] => out.extend_from_slice(absent),
                    own => own.iter().for_each(|piece| out.extend_from_within(piece.start..piece.end)),
                }
                at += 1;
            }
            Step::Open { number, end } => {
                let inner = at + 1..*end;
                put_head(out, *number, size(plan, inner.clone(), &mut &**pieces));
                arrange(plan, inner, pieces, out);
                at = *end;
            }
        }
    }
}

/// The pieces of a step, taken off the front.
fn own<'a>(step: usize, pieces: &mut &'a [Piece]) -> &'a [Piece] {
    let count = pieces.iter().take_while(|piece| usize::from(piece.step) == step).count();
    let (own, rest) = pieces.split_at(count);
    *pieces = rest;
    own
}
