//! Writes trees as lines.

use super::text::{self, Style};
use super::{number, order};
use serde_json::{Map, Value};

/// Columns by which what is below is indented.
const STEP: usize = 2;
/// Texts are folded at the first space beyond this column.
const WIDTH: usize = 80;
/// Longer keys, in bytes, are announced by a question mark.
const SIMPLE_KEY: usize = 128;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A document's own, or an item of a list.
    Item,
    /// A value of a mapping.
    Value,
}

pub(super) struct Emitter {
    out: String,
    column: usize,
    /// Whether what was written last separates what comes next.
    blank: bool,
    /// Whether there is nothing but indentation and indicators in the line yet.
    fresh: bool,
}

impl Default for Emitter {
    fn default() -> Self {
        Emitter { out: String::new(), column: 0, blank: true, fresh: true }
    }
}

impl Emitter {
    pub(super) fn root(&mut self, tree: &Value) {
        match tree {
            Value::Object(map) if !map.is_empty() => self.mapping(map, 0),
            Value::Array(items) if !items.is_empty() => items.iter().for_each(|tree| self.item(tree, 0)),
            other => self.node(other, Place::Item, 0),
        }
    }

    /// The last line is ended.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.line(0);
        self.out.into_bytes()
    }

    /// An item of a list at this column.
    pub(super) fn item(&mut self, tree: &Value, indent: usize) {
        self.line(indent);
        self.indicator("-", true, true);
        self.node(tree, Place::Item, indent);
    }

    fn mapping(&mut self, map: &Map<String, Value>, indent: usize) {
        for (key, value) in order::sorted(map) {
            self.line(indent);
            if key.len() <= SIMPLE_KEY && !text::has_breaks(key) {
                self.text(key, true, indent + STEP);
                self.indicator(":", false, false);
            } else {
                self.indicator("?", true, true);
                self.text(key, false, indent + STEP);
                self.line(indent);
                self.indicator(":", true, true);
            }
            self.node(value, Place::Value, indent);
        }
    }

    fn node(&mut self, tree: &Value, place: Place, indent: usize) {
        match tree {
            Value::Null => self.word("null"),
            Value::Bool(true) => self.word("true"),
            Value::Bool(false) => self.word("false"),
            Value::Number(number) => self.word(&number::write(number)),
            Value::String(text) => self.text(text, false, indent + STEP),
            Value::Array(items) if items.is_empty() => self.indicator("[]", true, false),
            Value::Object(map) if map.is_empty() => self.indicator("{}", true, false),
            Value::Array(items) => {
                // The hyphens of a list that is a value are indentation enough.
                let indent = if place == Place::Value && !self.fresh { indent } else { indent + STEP };
                items.iter().for_each(|tree| self.item(tree, indent));
            }
            Value::Object(map) => self.mapping(map, indent + STEP),
        }
    }

    fn text(&mut self, text: &str, key: bool, indent: usize) {
        match text::style(text, key) {
            Style::Plain => self.plain(text, key, indent),
            Style::Single => self.single(text, key, indent),
            Style::Double => self.double(text, key, indent),
            Style::Literal => self.literal(text, indent),
        }
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
    }

    /// Begins a line at this column, or goes on with one that has not reached it.
    fn line(&mut self, indent: usize) {
        if !self.fresh || self.column > indent || (self.column == indent && !self.blank) {
            self.put_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        (self.blank, self.fresh) = (true, true);
    }

    fn indicator(&mut self, indicator: &str, apart: bool, indents: bool) {
        if apart && !self.blank {
            self.put(' ');
        }
        indicator.chars().for_each(|c| self.put(c));
        self.blank = false;
        self.fresh &= indents;
    }

    fn word(&mut self, word: &str) {
        self.indicator(word, true, false);
    }

    /// Whether a text may be folded here.
    fn is_full(&self, key: bool, before: Option<char>) -> bool {
        !key && before != Some(' ') && self.column > WIDTH
    }

    fn plain(&mut self, text: &str, key: bool, indent: usize) {
        self.indicator("", true, false);
        let mut before = None;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == ' ' && self.is_full(key, before) && rest.peek() != Some(&' ') {
                self.line(indent);
            } else {
                self.put(c);
            }
            before = Some(c);
        }
        (self.blank, self.fresh) = (false, false);
    }

    fn single(&mut self, text: &str, key: bool, indent: usize) {
        self.indicator("'", true, false);
        let mut before = None;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == ' ' {
                let inner = before.is_some() && rest.peek().is_some_and(|next| *next != ' ');
                if inner && self.is_full(key, before) {
                    self.line(indent);
                } else {
                    self.put(c);
                }
            } else if text::is_break(c) {
                self.put_break(c);
                self.fresh = true;
            } else {
                if before.is_some_and(text::is_break) {
                    self.line(indent);
                }
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.fresh = false;
            }
            before = Some(c);
        }
        self.indicator("'", false, false);
    }

    fn double(&mut self, text: &str, key: bool, indent: usize) {
        self.indicator("\"", true, false);
        // Of a text that begins with a byte order mark nothing is written as it is.
        let marked = text.starts_with('\u{feff}');
        let mut before = None;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if marked || !text::is_printable(c) || text::is_break(c) || matches!(c, '"' | '\\') {
                text::escape(c).chars().for_each(|c| self.put(c));
                // An escaped space is none.
                before = Some('\\');
                continue;
            }
            let inner = before.is_some() && rest.peek().is_some();
            if c == ' ' && inner && self.is_full(key, before) {
                self.line(indent);
                if rest.peek() == Some(&' ') {
                    self.put('\\');
                }
            } else {
                self.put(c);
            }
            before = Some(c);
        }
        self.indicator("\"", false, false);
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.indicator("|", true, false);
        if text.starts_with(|c| c == ' ' || text::is_break(c)) {
            self.indicator(&STEP.to_string(), false, false);
        }
        let mut last = text.chars().rev();
        match (last.next().is_some_and(text::is_break), last.next().is_none_or(text::is_break)) {
            (false, _) => self.indicator("-", false, false),
            (true, true) => self.indicator("+", false, false),
            (true, false) => {}
        }
        self.put_break('\n');
        (self.blank, self.fresh) = (true, true);
        let mut breaks = true;
        for c in text.chars() {
            if text::is_break(c) {
                self.put_break(c);
                self.fresh = true;
                breaks = true;
            } else {
                if breaks {
                    self.line(indent);
                }
                self.put(c);
                self.fresh = false;
                breaks = false;
            }
        }
    }
}
