//! Custom resources: everything that is decided by a schema that a client gave.
//!
//! A [`Definition`] is a CustomResourceDefinition in typed form, a [`Structural`] one of its schemas. [`Custom`] is a
//! version of it made ready: the [`Schemas`](crate::schema::Schemas) set of its resource, by which the generic code
//! checks, prunes, defaults and applies objects (see [`Guide`]), and the [`Strategy`](crate::Strategy) of its kind.
//! Rules of `x-kubernetes-validations` are compiled by a [`rules::Compiler`] that the caller brings along.

mod check_defaults;
mod correlate;
mod defaults;
mod definition;
mod evaluate;
mod formats;
mod guide;
mod jsonpath;
mod lists;
mod meta;
mod nodes;
mod numbers;
mod path;
mod pattern;
mod prune;
pub mod rules;
mod scale;
mod strategy;
mod structural;
mod structure;
#[cfg(test)]
mod tests;
mod values;

pub use check_defaults::validate_defaults;
pub use defaults::{apply_defaults, drop_nulls};
pub use definition::{Conversion, Definition, Names, PrinterColumn, Scale, Version};
pub use evaluate::{Rules, Verdict};
pub use formats::is_known as is_known_format;
pub use guide::{Custom, Guide, pruned_defaults, type_name};
pub use jsonpath::JsonPath;
pub use lists::validate_lists;
pub use meta::{Malformed, coerce_embedded, coerce_metadata, validate_embedded};
pub use path::{Found, PathError, dotted_path, field_path};
pub use pattern::Pattern;
pub use prune::prune;
pub use scale::ScaleError;
pub use strategy::CustomStrategy;
pub use structural::{Additional, Kind, Limits, List, MapType, Rule, Structural, Unsupported};
pub use structure::rules_of_structure;
pub use values::validate_value;

/// The order of versions of an API: `v2` before `v1`, `v1` before `v1beta2`, that before `v1alpha1`, and names of
/// another form last, by their letters. The greater the key, the earlier the version.
pub fn precedence(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let last = (0, 0, 0, std::cmp::Reverse(version.to_owned()));
    let Some(rest) = version.strip_prefix('v') else { return last };
    let number = |text: &str| if text.starts_with('0') { None } else { text.parse::<u64>().ok() };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let Some(major) = number(major) else { return last };
    let (level, minor) = match rest {
        "" => (3, Some(0)),
        rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (2, number(minor)),
            (_, Some(minor)) => (1, number(minor)),
            _ => return last,
        },
    };
    minor.map_or(last, |minor| (level, major, minor, std::cmp::Reverse(String::new())))
}
