//! Paths to fields: the simple JSON paths of definitions, and those of printer columns.

use super::structural::{Additional, Structural};
use crate::field::Path;

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// As errors show it.
    pub path: Path,
    /// Its first step.
    pub first: String,
    /// The schema there; none for the root.
    pub schema: Option<&'a Structural>,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing behind a point or bracket.
    #[error("unexpected end of JSON path")]
    End,
    /// Brackets where only points may be.
    #[error("array notation is not allowed")]
    Brackets,
    /// A bracket without a quoted name.
    #[error("expected single quoted string but got {0}")]
    Unquoted(String),
    /// A quoted name with an escape that is none.
    #[error("invalid string literal: invalid escape char {0}")]
    Escape(String),
    /// A bracket that is not closed.
    #[error("expected ] but got {0}")]
    Unclosed(String),
    /// Neither point nor bracket.
    #[error("expected [ or . but got: {0}")]
    Step(String),
    /// The schema has no such field.
    #[error("does not refer to a valid field")]
    Unknown,
}

/// Follows a path (`.spec.names['a b']`) through a schema. An empty one leads to the root.
pub fn field_path<'a>(path: &str, schema: &'a Structural) -> Result<Found<'a>, PathError> {
    follow(path, schema, true)
}

/// The same for a path of points alone.
pub fn dotted_path<'a>(path: &str, schema: &'a Structural) -> Result<Found<'a>, PathError> {
    follow(path, schema, false)
}

fn follow<'a>(path: &str, schema: &'a Structural, brackets: bool) -> Result<Found<'a>, PathError> {
    let mut found = Found { path: Path::default(), first: String::new(), schema: None };
    let mut here = schema;
    let mut tokens = Tokens(path);
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !brackets => return Err(PathError::Brackets),
            "[" => {
                let quoted = tokens.next().ok_or(PathError::End)?;
                let inside = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = unescape(inside.ok_or_else(|| PathError::Unquoted(quoted.to_owned()))?)?;
                match tokens.next() {
                    Some("]") => name,
                    Some(other) => return Err(PathError::Unclosed(other.to_owned())),
                    None => return Err(PathError::End),
                }
            }
            "." => tokens.next().ok_or(PathError::End)?.to_owned(),
            other => return Err(PathError::Step(other.to_owned())),
        };
        let (next, path) = if !here.properties.is_empty() {
            (here.properties.get(&name), found.path.child(&name))
        } else {
            (here.additional.as_ref().and_then(Additional::schema), found.path.key(&name))
        };
        here = next.ok_or(PathError::Unknown)?;
        if found.first.is_empty() {
            found.first = name;
        }
        found.path = path;
        found.schema = Some(here);
    }
    Ok(found)
}

/// Points and brackets, and what stands between them; what is quoted is whole.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0;
        let first = text.chars().next()?;
        let end = if matches!(first, '.' | '[' | ']') {
            1
        } else if first == '\'' {
            let bytes = text.as_bytes();
            let closing = (1..bytes.len()).find(|&i| bytes[i] == b'\'' && bytes[i - 1] != b'\\');
            closing.map_or(text.len(), |at| at + 1)
        } else {
            text.find(['.', '[', ']']).unwrap_or(text.len())
        };
        let (token, rest) = text.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some('\'') => '\'',
            Some('\\') => '\\',
            Some(other) => return Err(PathError::Escape(format!("\\{other}"))),
            None => '\\',
        });
    }
    Ok(out)
}
