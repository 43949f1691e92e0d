//! Regular expressions as Go's `regexp` package reads them, on the engine of the `regex` crate.

use regex::{Regex, RegexBuilder};
use std::fmt;
use std::sync::Arc;

/// Most bytes a compiled expression may take. Go's limit is one on repetitions; both keep a schema from using up
/// the server.
const SIZE: usize = 10 << 20;

/// What this engine says, and what Go says of the same.
const WORDS: &[(&str, &str)] = &[
    ("unclosed group", "missing closing )"),
    ("unopened group", "unexpected )"),
    ("unclosed character class", "missing closing ]"),
    ("repetition operator missing expression", "missing argument to repetition operator"),
    (
        "look-around, including look-ahead and look-behind, is not supported",
        "invalid or unsupported Perl syntax",
    ),
];

/// A regular expression of a schema.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Result<Arc<Regex>, String>,
}

impl Pattern {
    /// Reads an expression; [`Pattern::error`] tells of one that is none.
    pub fn new(text: &str) -> Self {
        let built =
            RegexBuilder::new(&translate(text)).size_limit(SIZE).dfa_size_limit(SIZE).nest_limit(100).build();
        let compiled = built.map(Arc::new).map_err(|error| {
            // The last line says what is wrong, those before show where.
            let shown = error.to_string();
            let why = shown.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let why = WORDS.iter().find(|row| row.0 == why).map_or(why, |row| row.1);
            format!("error parsing regexp: {why}: `{text}`")
        });
        Pattern { text: text.to_owned(), compiled }
    }

    /// As the schema has it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Why it is no regular expression.
    pub fn error(&self) -> Option<&str> {
        self.compiled.as_ref().err().map(String::as_str)
    }

    /// Whether a part of the text matches. What is no expression matches nothing.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.as_ref().is_ok_and(|regex| regex.is_match(text))
    }

    /// The first part of the text that matches.
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.compiled.as_ref().ok()?.find(text).map(|found| found.as_str())
    }

    /// The parts of the text that match, at most so many.
    pub fn find_all<'t>(&self, text: &'t str, most: usize) -> Vec<&'t str> {
        let Ok(regex) = &self.compiled else { return Vec::new() };
        regex.find_iter(text).take(most).map(|found| found.as_str()).collect()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// Go's classes are those of ASCII, a brace that repeats nothing is itself, and there are no set operations.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut class = false;
    let mut first = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let opening = std::mem::take(&mut first);
        rest = after;
        match c {
            '\\' => {
                let Some(escaped) = after.chars().next() else {
                    out.push('\\');
                    continue;
                };
                rest = &after[escaped.len_utf8()..];
                match escaped {
                    'd' => out.push_str("[0-9]"),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str("[0-9A-Za-z_]"),
                    'W' => out.push_str("[^0-9A-Za-z_]"),
                    's' => out.push_str("[\\t\\n\\x0c\\r ]"),
                    'S' => out.push_str("[^\\t\\n\\x0c\\r ]"),
                    'b' if !class => out.push_str("(?-u:\\b)"),
                    'Q' if !class => {
                        let (quoted, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
                        out.push_str(&regex::escape(quoted));
                        rest = behind;
                    }
                    other => {
                        out.push('\\');
                        out.push(other);
                    }
                }
            }
            '[' if class => {
                match after.strip_prefix(':').and_then(|name| name.find(":]")) {
                    // A named class.
                    Some(end) => {
                        out.push('[');
                        out.push_str(&after[..end + 3]);
                        rest = &after[end + 3..];
                    }
                    None => out.push_str("\\["),
                }
            }
            '[' => {
                class = true;
                first = true;
                out.push('[');
                if let Some(behind) = after.strip_prefix('^') {
                    out.push('^');
                    rest = behind;
                }
            }
            // The first one stands for itself.
            ']' if class && opening => out.push_str("\\]"),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '{' if !class && !repeats(after) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    out
}

/// Whether what stands behind a brace is a repetition.
fn repeats(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match inside.split_once(',') {
        Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
        None => digits(inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_go_means_by_them() {
        for (pattern, text, expected) in [
            ("^[a-z]+$", "abc", true),
            ("^[a-z]+$", "abc\n", false),
            (r"^\d+$", "12", true),
            // Arabic digits are none in Go.
            (r"^\d+$", "\u{0661}", false),
            (r"^\w$", "é", false),
            (r"^[\w.-]+$", "a.b-c", true),
            (r"^{x}$", "{x}", true),
            (r"^a{2}$", "aa", true),
            (r"^a{2,}$", "aaa", true),
            (r"^[[a]+$", "[a", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]+$", "bc", true),
            (r"^[a&&b]$", "&", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"\Qa.b\E", "xa.by", true),
            (r"\Qa.b\E", "xaxby", false),
            (r"^(/[^/]+)*$", "/a/b", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^.$", "é", true),
            (r"^(?P<x>a)$", "a", true),
            (r"^https?:\/\/", "http://x", true),
        ] {
            let read = Pattern::new(pattern);
            assert_eq!(read.error(), None, "{pattern}");
            assert_eq!(read.matches(text), expected, "{pattern} {text}");
        }
        for pattern in ["[a", "(a", "*", r"\8", "(?!a)", "a{1000000}{1000}"] {
            let read = Pattern::new(pattern);
            assert!(read.error().is_some() && !read.matches("a"), "{pattern}");
        }
    }
}
