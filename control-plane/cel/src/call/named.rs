//! Named formats: what `format.dns1123Label()` and its like check.

use skep_api::names;
use skep_api::validation::text as rules;

use crate::value::{time, url};

/// A named format.
#[derive(Debug)]
pub struct Format {
    /// What `format.named()` calls it.
    pub name: &'static str,
    /// What is wrong with a text.
    pub check: fn(&str) -> Vec<String>,
    /// Length of its pattern, or of one like it; costs are by that.
    pub pattern: u64,
}

/// All formats.
static FORMATS: &[Format] = &[
    Format { name: "dns1123Label", check: |text| names::dns1123_label(text, false), pattern: 30 },
    Format { name: "dns1123Subdomain", check: |text| names::dns1123_subdomain(text, false), pattern: 60 },
    Format { name: "dns1035Label", check: |text| names::dns1035_label(text, false), pattern: 30 },
    Format { name: "qualifiedName", check: rules::qualified_name, pattern: 60 },
    Format { name: "dns1123LabelPrefix", check: |text| names::dns1123_label(text, true), pattern: 30 },
    Format {
        name: "dns1123SubdomainPrefix",
        check: |text| names::dns1123_subdomain(text, true),
        pattern: 60,
    },
    Format { name: "dns1035LabelPrefix", check: |text| names::dns1035_label(text, true), pattern: 30 },
    Format { name: "labelValue", check: rules::label_value, pattern: 40 },
    Format { name: "uri", check: |text| url::check(text).err().into_iter().collect(), pattern: 1103 },
    Format { name: "uuid", check: uuid, pattern: 70 },
    Format { name: "byte", check: byte, pattern: 84 },
    Format {
        name: "date",
        check: |text| unless(time::parse_date(text).is_some(), "invalid date"),
        pattern: 71,
    },
    Format {
        name: "datetime",
        check: |text| unless(time::parse_date_time(text).is_some(), "invalid datetime"),
        pattern: 71,
    },
];

/// The format of a name.
pub(crate) fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

fn unless(fine: bool, why: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![why.to_owned()] }
}

fn uuid(text: &str) -> Vec<String> {
    // Dashes are optional, each by itself.
    let mut rest = text;
    let mut fine = true;
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let hex = rest.get(..length).is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        fine = fine && hex;
        rest = rest.get(length..).unwrap_or("");
    }
    unless(fine && rest.is_empty(), "does not match the UUID format")
}

fn byte(text: &str) -> Vec<String> {
    use base64::Engine;
    unless(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64")
}
