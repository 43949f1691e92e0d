//! Names of properties as identifiers: `__dot__`, `__dash__`, `__slash__`, `__underscores__` and `__keyword__`.

use skep_api::names::is_cel_keyword;

const ESCAPES: &[(&str, &str)] =
    &[("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The identifier of a property, if it can have one.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_cel_keyword(name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((plain, identifier)) = ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            escaped.push_str(identifier);
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(escaped)
}

/// The property an identifier stands for, unless it has an escape that means nothing.
pub fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(start) = rest.find("__") {
        let inner = &rest[start + 2..];
        let end = inner.find('_').unwrap_or(inner.len());
        if end == 0 || !inner[end..].starts_with("__") {
            // No escape begins at the first underscore; one may begin at the next.
            plain.push_str(&rest[..=start]);
            rest = &rest[start + 1..];
            continue;
        }
        let (word, whole) = (&inner[..end], end + 4);
        plain.push_str(&rest[..start]);
        let escape = format!("__{word}__");
        if let Some((property, _)) = ESCAPES.iter().find(|(_, identifier)| *identifier == escape) {
            plain.push_str(property);
        } else if is_cel_keyword(word) && name.len() == whole {
            plain.push_str(word);
        } else {
            return None;
        }
        rest = &rest[start + whole..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        let cases = [
            ("a", Some("a")),
            ("namespace", Some("__namespace__")),
            ("a.b-c/d", Some("a__dot__b__dash__c__slash__d")),
            ("a__b", Some("a__underscores__b")),
            ("_a_", Some("_a_")),
            ("a$", None),
            ("1a", None),
            ("", None),
            ("é", None),
        ];
        for (name, wanted) in cases {
            assert_eq!(escape(name).as_deref(), wanted, "{name}");
            if let Some(escaped) = wanted {
                assert_eq!(unescape(escaped).as_deref(), Some(name));
            }
        }
        assert_eq!(unescape("a__nothing__"), None);
        assert_eq!(unescape("a__if__"), None);
        assert_eq!(unescape("a__b"), Some("a__b".to_owned()));
    }
}
