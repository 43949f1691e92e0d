//! How a text is written: what its characters allow, and the style that follows.

use super::resolve;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// What the characters of a text allow.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    plain: bool,
    single: bool,
    literal: bool,
}

/// Ends of lines, of which only the first is one in JSON's own sense.
pub(super) fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character may stand outside of double quotes.
pub(super) fn is_printable(c: char) -> bool {
    match c {
        '\u{feff}' => false,
        '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' => true,
        _ => false,
    }
}

pub(super) fn has_breaks(text: &str) -> bool {
    text.contains(is_break)
}

fn allowed(text: &str) -> Allowed {
    if text.is_empty() {
        return Allowed { plain: true, single: true, literal: false };
    }
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut special, mut space_before_break, mut space_after_break) = (false, false, false);
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let ends = rest.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
        let begins = before.is_none_or(|before| matches!(before, ' ' | '\t' | '\0') || is_break(before));
        indicators |= match (before, c) {
            (None, '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>') => true,
            (None, '\'' | '"' | '%' | '@' | '`') => true,
            (None, '?' | '-') | (_, ':') => ends,
            (_, '#') => begins,
            _ => false,
        };
        special |= !is_printable(c);
        space_after_break |= c == ' ' && before.is_some_and(is_break);
        space_before_break |= is_break(c) && before == Some(' ');
        before = Some(c);
    }
    let edge = |c: char| c == ' ' || is_break(c);
    let plain =
        !(indicators || special || has_breaks(text) || text.starts_with(edge) || text.ends_with(edge));
    let quotable = !special && !space_before_break;
    Allowed { plain, single: quotable && !space_after_break, literal: quotable && !text.ends_with(' ') }
}

/// The style of a text; a key that stands before its colon is kept on one line.
pub(super) fn style(text: &str, key: bool) -> Style {
    let allowed = allowed(text);
    if text.contains('\n') {
        return if allowed.literal && !key { Style::Literal } else { Style::Double };
    }
    if resolve::is_special(text) || (key && has_breaks(text)) {
        return Style::Double;
    }
    match allowed {
        Allowed { plain: true, .. } => Style::Plain,
        Allowed { single: true, .. } => Style::Single,
        _ => Style::Double,
    }
}

/// The escape of a character within double quotes.
pub(super) fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            return match u32::from(c) {
                code @ ..=0xff => format!("\\x{code:02X}"),
                code @ ..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}
