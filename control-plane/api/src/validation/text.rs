//! Rules for texts beyond names of objects (`k8s.io/apimachinery/pkg/util/validation`): each returns what is
//! wrong, for people.

use crate::names::dns1123_subdomain;
use std::net::IpAddr;

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other \
    than '='";
const HEADER_NAME: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
    'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
    '93%', regex used for validation is '[0-9]+%')";
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Bytes that a part of a qualified name, a label value and a DNS label may have at most.
const PART_MAX: usize = 63;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// What is wrong with the prefix of a qualified name; upstream counts bytes there.
fn prefix_part(message: String) -> String {
    format!("prefix part {}", message.replace(" characters", " bytes"))
}

/// `name` or `prefix/name`: label keys, annotation keys, finalizers, condition types, resource names.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".into());
            } else {
                errors.extend(dns1123_subdomain(prefix, false).into_iter().map(prefix_part));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > PART_MAX {
        errors.push(format!("name part {}", too_long(PART_MAX)));
    }
    if !is_part(name) {
        errors.push(format!("name part {QUALIFIED}"));
    }
    errors
}

/// What a label may say.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > PART_MAX {
        errors.push(too_long(PART_MAX));
    }
    if !text.is_empty() && !is_part(text) {
        errors.push(LABEL_VALUE.into());
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push("must be no more than 253 characters".into());
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    {
        errors.push(CONFIG_KEY.into());
    }
    match text {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
    errors
}

/// Name of an environment variable (relaxed since Kubernetes 1.34: KEP-4369).
pub fn env_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() {
        errors.push("environment variable name must be non-empty".into());
    }
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        errors.push(ENV_NAME.into());
    }
    errors
}

/// Name of a container port or a probe's port (an IANA service name).
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push("must be no more than 15 characters".into());
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// A header of an HTTP probe.
pub fn header_name(text: &str) -> Vec<String> {
    let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fine { Vec::new() } else { vec![HEADER_NAME.into()] }
}

/// `25%`.
pub fn percent(text: &str) -> Vec<String> {
    match text.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Vec::new(),
        _ => vec![PERCENT.into()],
    }
}

/// An IP address without leading zeros, of either family; no IPv4-mapped IPv6 address.
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".into()]
        }
        Ok(_) => Vec::new(),
        Err(_) => vec![IP.into()],
    }
}

/// An address and a prefix length, with no bit set behind the prefix.
pub fn cidr(text: &str) -> Vec<String> {
    let Some((address, bits)) = text.split_once('/') else { return vec![CIDR.into()] };
    let plain = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let (Ok(address), Ok(bits), true) = (address.parse::<IpAddr>(), bits.parse::<u32>(), plain) else {
        return vec![CIDR.into()];
    };
    let (number, width) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    if bits > width {
        return vec![CIDR.into()];
    }
    if bits < 128 && number << bits != 0 {
        return vec!["must not have bits set beyond the prefix length".into()];
    }
    Vec::new()
}

/// A relative path that stays below its directory and does not begin with `..`.
pub fn local_path(text: &str) -> Vec<String> {
    let mut errors = descending_path(text);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push("must not start with '..'".into());
    }
    errors
}

/// A relative path that stays below its directory.
pub fn descending_path(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.starts_with('/') {
        errors.push("must be a relative path".into());
    }
    errors.extend(no_backsteps(text));
    errors
}

/// A path that never goes up.
pub fn no_backsteps(text: &str) -> Vec<String> {
    if text.split('/').any(|part| part == "..") { vec!["must not contain '..'".into()] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> Vec<String>;

    #[test]
    fn each_rule_takes_the_good_and_names_the_bad() {
        let long = "a".repeat(64);
        let rows: &[(&str, Rule, &[&str], &[&str])] = &[
            (
                "qualified",
                qualified_name,
                &["a", "A.b_c-1", "example.com/x"],
                &["", "/a", "a/", "a/b/c", "-a", &long, "A B", "Ex/x"],
            ),
            ("label", label_value, &["", "a", "A_b.c-1"], &["-a", "a-", "a b", &long]),
            (
                "config key",
                config_key,
                &["a", ".a", "A_b-c.d", "a..b"],
                &["", ".", "..", "..a", "a/b", "a b"],
            ),
            ("env", env_name, &["A", "a.b-c", "1", "with space"], &["", "a=b", "é", "a\n"]),
            (
                "port",
                port_name,
                &["http", "a-1"],
                &["", "80", "a--b", "-a", "a-", "HTTP", "sixteen-letters-"],
            ),
            ("header", header_name, &["X-A"], &["", "a_b", "a b"]),
            ("percent", percent, &["0%", "25%"], &["", "%", "25", "a%", "-1%"]),
            (
                "ip",
                ip,
                &["10.0.0.1", "::1", "2001:db8::1"],
                &["", "10.0.0", "010.0.0.1", "::ffff:1.2.3.4", "a"],
            ),
            (
                "cidr",
                cidr,
                &["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "10.0.0.1/32"],
                &["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/08", "a/8"],
            ),
            ("local path", local_path, &["a", "a/b", "a..b"], &["/a", "..", "../a", "a/../b", "..a"]),
        ];
        for (name, rule, good, bad) in rows {
            for text in *good {
                assert_eq!(rule(text), Vec::<String>::new(), "{name}: {text}");
            }
            for text in *bad {
                assert!(!rule(text).is_empty(), "{name}: {text}");
            }
        }
    }
}
