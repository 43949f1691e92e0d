//! Rules for names (`k8s.io/apimachinery/pkg/util/validation`): each returns what is wrong, for people.

use std::borrow::Cow;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;

/// Words that CEL's definition reserves, so that they name no variable or function.
pub const CEL_RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a word is no identifier in CEL: one of its literals, its operator `in`, or [reserved](CEL_RESERVED).
pub fn is_cel_keyword(word: &str) -> bool {
    matches!(word, "true" | "false" | "null" | "in") || CEL_RESERVED.contains(&word)
}

fn alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// A name that ends in `-` may be a prefix that a suffix is put behind (`generateName`).
fn unprefixed(name: &str, prefix: bool) -> Cow<'_, str> {
    // The last two characters count as one letter: upstream takes `a.-` for a name too.
    match name.strip_suffix('-').and_then(|rest| rest.get(..rest.len().checked_sub(1)?)) {
        Some(rest) if prefix => format!("{rest}a").into(),
        _ => name.into(),
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&b)) if alnum(a) && alnum(b))
        && bytes.iter().all(|&b| alnum(b) || b == b'-')
}

/// DNS-1123 label: at most 63 of `[a-z0-9-]`, alphanumeric at both ends.
pub fn dns1123_label(name: &str, prefix: bool) -> Vec<String> {
    let name = unprefixed(name, prefix);
    let name = &*name;
    let mut errors = Vec::new();
    if name.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} characters"));
    }
    if !is_label(name) {
        errors.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
             and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// DNS-1123 subdomain: labels joined by dots, at most 253 bytes.
pub fn dns1123_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = unprefixed(name, prefix);
    let name = &*name;
    let mut errors = Vec::new();
    if name.len() > SUBDOMAIN_MAX {
        errors.push(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    if !name.split('.').all(is_label) {
        errors.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    errors
}

/// DNS-1035 label: as DNS-1123, but starting with a letter.
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = unprefixed(name, prefix);
    let name = &*name;
    let mut errors = Vec::new();
    if name.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} characters"));
    }
    if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        errors.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// A name that may be one segment of a URL path: not `.` or `..`, no `/` or `%` (RBAC names).
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    let mut errors = Vec::new();
    if !prefix && matches!(name, "." | "..") {
        errors.push(format!("may not be '{name}'"));
    }
    for illegal in ["/", "%"] {
        if name.contains(illegal) {
            errors.push(format!("may not contain '{illegal}'"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        assert!(dns1123_label("my-name", false).is_empty());
        assert!(dns1123_subdomain("a.b-c.d0", false).is_empty());
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".a"] {
            assert!(!dns1123_subdomain(bad, false).is_empty(), "{bad}");
        }
        assert!(!dns1123_label("a.b", false).is_empty());
        assert!(dns1123_subdomain("web-", true).is_empty());
        assert!(dns1123_subdomain("web.-", true).is_empty() && !dns1123_subdomain("-", true).is_empty());
        assert!(!dns1123_label(&"a".repeat(64), false).is_empty());
        assert!(!dns1035_label("1a", false).is_empty());
        assert!(path_segment("system:node", false).is_empty());
        assert!(!path_segment("a/b", false).is_empty());
    }
}
