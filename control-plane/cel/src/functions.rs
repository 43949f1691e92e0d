//! What functions there are: one row a function, with its overloads.
//!
//! An overload reads `id (arguments) result`, with a dot before the parenthesis when the first argument is what it
//! is called on. Capital letters are type parameters. The ids are those of the reference implementation, since costs
//! are told apart by them. The set is that of Kubernetes 1.36's base environment without the authorizer.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::types::{Kube, Type};

/// One way to call a function.
#[derive(Clone, Debug)]
pub(crate) struct Overload {
    /// Its name.
    pub(crate) id: &'static str,
    /// Whether the first argument is the target.
    pub(crate) member: bool,
    /// Arguments, the target first.
    pub(crate) args: Vec<Type>,
    /// Result.
    pub(crate) result: Type,
    /// How many type parameters there are.
    pub(crate) params: u32,
}

#[rustfmt::skip]
const FUNCTIONS: &[(&str, &str)] = &[
    // Operators.
    ("_?_:_", "conditional (bool A A) A"),
    ("_&&_", "logical_and (bool bool) bool"),
    ("_||_", "logical_or (bool bool) bool"),
    ("!_", "logical_not (bool) bool"),
    ("@not_strictly_false", "not_strictly_false (bool) bool"),
    ("_==_", "equals (A A) bool"),
    ("_!=_", "not_equals (A A) bool"),
    ("_+_", "add_bytes (bytes bytes) bytes; add_double (double double) double; add_duration_duration (duration duration) duration; add_duration_timestamp (duration timestamp) timestamp; add_timestamp_duration (timestamp duration) timestamp; add_int64 (int int) int; add_list (list<A> list<A>) list<A>; add_string (string string) string; add_uint64 (uint uint) uint"),
    ("_/_", "divide_double (double double) double; divide_int64 (int int) int; divide_uint64 (uint uint) uint"),
    ("_%_", "modulo_int64 (int int) int; modulo_uint64 (uint uint) uint"),
    ("_*_", "multiply_double (double double) double; multiply_int64 (int int) int; multiply_uint64 (uint uint) uint"),
    ("-_", "negate_double (double) double; negate_int64 (int) int"),
    ("_-_", "subtract_double (double double) double; subtract_duration_duration (duration duration) duration; subtract_int64 (int int) int; subtract_timestamp_duration (timestamp duration) timestamp; subtract_timestamp_timestamp (timestamp timestamp) duration; subtract_uint64 (uint uint) uint"),
    ("_<_", "less_bool (bool bool) bool; less_int64 (int int) bool; less_int64_double (int double) bool; less_int64_uint64 (int uint) bool; less_uint64 (uint uint) bool; less_uint64_double (uint double) bool; less_uint64_int64 (uint int) bool; less_double (double double) bool; less_double_int64 (double int) bool; less_double_uint64 (double uint) bool; less_string (string string) bool; less_bytes (bytes bytes) bool; less_timestamp (timestamp timestamp) bool; less_duration (duration duration) bool"),
    ("_<=_", "less_equals_bool (bool bool) bool; less_equals_int64 (int int) bool; less_equals_int64_double (int double) bool; less_equals_int64_uint64 (int uint) bool; less_equals_uint64 (uint uint) bool; less_equals_uint64_double (uint double) bool; less_equals_uint64_int64 (uint int) bool; less_equals_double (double double) bool; less_equals_double_int64 (double int) bool; less_equals_double_uint64 (double uint) bool; less_equals_string (string string) bool; less_equals_bytes (bytes bytes) bool; less_equals_timestamp (timestamp timestamp) bool; less_equals_duration (duration duration) bool"),
    ("_>_", "greater_bool (bool bool) bool; greater_int64 (int int) bool; greater_int64_double (int double) bool; greater_int64_uint64 (int uint) bool; greater_uint64 (uint uint) bool; greater_uint64_double (uint double) bool; greater_uint64_int64 (uint int) bool; greater_double (double double) bool; greater_double_int64 (double int) bool; greater_double_uint64 (double uint) bool; greater_string (string string) bool; greater_bytes (bytes bytes) bool; greater_timestamp (timestamp timestamp) bool; greater_duration (duration duration) bool"),
    ("_>=_", "greater_equals_bool (bool bool) bool; greater_equals_int64 (int int) bool; greater_equals_int64_double (int double) bool; greater_equals_int64_uint64 (int uint) bool; greater_equals_uint64 (uint uint) bool; greater_equals_uint64_double (uint double) bool; greater_equals_uint64_int64 (uint int) bool; greater_equals_double (double double) bool; greater_equals_double_int64 (double int) bool; greater_equals_double_uint64 (double uint) bool; greater_equals_string (string string) bool; greater_equals_bytes (bytes bytes) bool; greater_equals_timestamp (timestamp timestamp) bool; greater_equals_duration (duration duration) bool"),
    ("_[_]", "index_list (list<A> int) A; index_map (map<A,B> A) B; optional_list_index_int (opt<list<B>> int) opt<B>; optional_map_index_value (opt<map<A,B>> A) opt<B>"),
    ("_[?_]", "list_optindex_optional_int (list<B> int) opt<B>; optional_list_optindex_optional_int (opt<list<B>> int) opt<B>; map_optindex_optional_value (map<A,B> A) opt<B>; optional_map_optindex_optional_value (opt<map<A,B>> A) opt<B>"),
    ("@in", "in_list (A list<A>) bool; in_map (A map<A,B>) bool"),
    // Conversions and sizes.
    ("size", "size_bytes (bytes) int; bytes_size .(bytes) int; size_list (list<A>) int; list_size .(list<A>) int; size_map (map<A,B>) int; map_size .(map<A,B>) int; size_string (string) int; string_size .(string) int"),
    ("type", "type (A) type<A>"),
    ("bool", "bool_to_bool (bool) bool; string_to_bool (string) bool"),
    ("bytes", "bytes_to_bytes (bytes) bytes; string_to_bytes (string) bytes"),
    ("double", "double_to_double (double) double; int64_to_double (int) double; string_to_double (string) double; uint64_to_double (uint) double"),
    ("duration", "duration_to_duration (duration) duration; int64_to_duration (int) duration; string_to_duration (string) duration"),
    ("dyn", "to_dyn (A) dyn"),
    ("int", "int64_to_int64 (int) int; double_to_int64 (double) int; duration_to_int64 (duration) int; string_to_int64 (string) int; timestamp_to_int64 (timestamp) int; uint64_to_int64 (uint) int"),
    ("string", "string_to_string (string) string; bool_to_string (bool) string; bytes_to_string (bytes) string; double_to_string (double) string; duration_to_string (duration) string; int64_to_string (int) string; timestamp_to_string (timestamp) string; uint64_to_string (uint) string; ip_to_string (ip) string; cidr_to_string (cidr) string"),
    ("timestamp", "timestamp_to_timestamp (timestamp) timestamp; int64_to_timestamp (int) timestamp; string_to_timestamp (string) timestamp"),
    ("uint", "uint64_to_uint64 (uint) uint; double_to_uint64 (double) uint; int64_to_uint64 (int) uint; string_to_uint64 (string) uint"),
    // Strings.
    ("contains", "contains_string .(string string) bool"),
    ("endsWith", "ends_with_string .(string string) bool"),
    ("startsWith", "starts_with_string .(string string) bool"),
    ("matches", "matches (string string) bool; matches_string .(string string) bool"),
    ("charAt", "string_char_at_int .(string int) string"),
    ("indexOf", "string_index_of_string .(string string) int; string_index_of_string_int .(string string int) int; list_a_index_of_int .(list<A> A) int"),
    ("lastIndexOf", "string_last_index_of_string .(string string) int; string_last_index_of_string_int .(string string int) int; list_a_last_index_of_int .(list<A> A) int"),
    ("lowerAscii", "string_lower_ascii .(string) string"),
    ("upperAscii", "string_upper_ascii .(string) string"),
    ("replace", "string_replace_string_string .(string string string) string; string_replace_string_string_int .(string string string int) string"),
    ("split", "string_split_string .(string string) list<string>; string_split_string_int .(string string int) list<string>"),
    ("substring", "string_substring_int .(string int) string; string_substring_int_int .(string int int) string"),
    ("trim", "string_trim .(string) string"),
    ("join", "list_join .(list<string>) string; list_join_string .(list<string> string) string"),
    ("format", "string_format .(string list<dyn>) string"),
    ("strings.quote", "strings_quote (string) string"),
    ("find", "string_find_string .(string string) string"),
    ("findAll", "string_find_all_string .(string string) list<string>; string_find_all_string_int .(string string int) list<string>"),
    // Times.
    ("getFullYear", "timestamp_to_year .(timestamp) int; timestamp_to_year_with_tz .(timestamp string) int"),
    ("getMonth", "timestamp_to_month .(timestamp) int; timestamp_to_month_with_tz .(timestamp string) int"),
    ("getDayOfYear", "timestamp_to_day_of_year .(timestamp) int; timestamp_to_day_of_year_with_tz .(timestamp string) int"),
    ("getDayOfMonth", "timestamp_to_day_of_month .(timestamp) int; timestamp_to_day_of_month_with_tz .(timestamp string) int"),
    ("getDate", "timestamp_to_day_of_month_1_based .(timestamp) int; timestamp_to_day_of_month_1_based_with_tz .(timestamp string) int"),
    ("getDayOfWeek", "timestamp_to_day_of_week .(timestamp) int; timestamp_to_day_of_week_with_tz .(timestamp string) int"),
    ("getHours", "timestamp_to_hours .(timestamp) int; timestamp_to_hours_with_tz .(timestamp string) int; duration_to_hours .(duration) int"),
    ("getMinutes", "timestamp_to_minutes .(timestamp) int; timestamp_to_minutes_with_tz .(timestamp string) int; duration_to_minutes .(duration) int"),
    ("getSeconds", "timestamp_to_seconds .(timestamp) int; timestamp_to_seconds_tz .(timestamp string) int; duration_to_seconds .(duration) int"),
    ("getMilliseconds", "timestamp_to_milliseconds .(timestamp) int; timestamp_to_milliseconds_with_tz .(timestamp string) int; duration_to_milliseconds .(duration) int"),
    // Optionals.
    ("optional.of", "optional_of (B) opt<B>"),
    ("optional.ofNonZeroValue", "optional_ofNonZeroValue (B) opt<B>"),
    ("optional.none", "optional_none () opt<B>"),
    ("value", "optional_value .(opt<B>) B"),
    ("hasValue", "optional_hasValue .(opt<B>) bool"),
    ("or", "optional_or_optional .(opt<B> opt<B>) opt<B>"),
    ("orValue", "optional_orValue_value .(opt<B> B) B"),
    ("_?._", "select_optional_field (dyn string) opt<B>"),
    ("last", "list_last .(list<B>) opt<B>"),
    ("first", "list_first .(list<B>) opt<B>"),
    ("optional.unwrap", "optional_unwrap (list<opt<B>>) list<B>"),
    ("unwrapOpt", "optional_unwrapOpt .(list<opt<B>>) list<B>"),
    // Lists, sets and maps.
    ("sets.contains", "list_sets_contains_list (list<A> list<A>) bool"),
    ("sets.equivalent", "list_sets_equivalent_list (list<A> list<A>) bool"),
    ("sets.intersects", "list_sets_intersects_list (list<A> list<A>) bool"),
    ("cel.@mapInsert", "@mapInsert_map_key_value (map<A,B> A B) map<A,B>; @mapInsert_map_map (map<A,B> map<A,B>) map<A,B>"),
    ("slice", "list_slice .(list<A> int int) list<A>"),
    ("flatten", "list_flatten .(list<list<A>>) list<A>; list_flatten_int .(list<dyn> int) list<dyn>"),
    ("sort", "list_int_sort .(list<int>) list<int>; list_uint_sort .(list<uint>) list<uint>; list_double_sort .(list<double>) list<double>; list_bool_sort .(list<bool>) list<bool>; list_google.protobuf.Duration_sort .(list<duration>) list<duration>; list_google.protobuf.Timestamp_sort .(list<timestamp>) list<timestamp>; list_string_sort .(list<string>) list<string>; list_bytes_sort .(list<bytes>) list<bytes>"),
    ("@sortByAssociatedKeys", "list_int_sortByAssociatedKeys .(list<A> list<int>) list<A>; list_uint_sortByAssociatedKeys .(list<A> list<uint>) list<A>; list_double_sortByAssociatedKeys .(list<A> list<double>) list<A>; list_bool_sortByAssociatedKeys .(list<A> list<bool>) list<A>; list_google.protobuf.Duration_sortByAssociatedKeys .(list<A> list<duration>) list<A>; list_google.protobuf.Timestamp_sortByAssociatedKeys .(list<A> list<timestamp>) list<A>; list_string_sortByAssociatedKeys .(list<A> list<string>) list<A>; list_bytes_sortByAssociatedKeys .(list<A> list<bytes>) list<A>"),
    ("lists.range", "lists_range (int) list<int>"),
    ("reverse", "list_reverse .(list<A>) list<A>"),
    ("distinct", "list_distinct .(list<A>) list<A>"),
    ("isSorted", "list_int_is_sorted_bool .(list<int>) bool; list_uint_is_sorted_bool .(list<uint>) bool; list_double_is_sorted_bool .(list<double>) bool; list_bool_is_sorted_bool .(list<bool>) bool; list_duration_is_sorted_bool .(list<duration>) bool; list_timestamp_is_sorted_bool .(list<timestamp>) bool; list_string_is_sorted_bool .(list<string>) bool; list_bytes_is_sorted_bool .(list<bytes>) bool"),
    ("sum", "list_int_sum_int .(list<int>) int; list_uint_sum_uint .(list<uint>) uint; list_double_sum_double .(list<double>) double; list_duration_sum_duration .(list<duration>) duration"),
    ("max", "list_int_max_int .(list<int>) int; list_uint_max_uint .(list<uint>) uint; list_double_max_double .(list<double>) double; list_bool_max_bool .(list<bool>) bool; list_duration_max_duration .(list<duration>) duration; list_timestamp_max_timestamp .(list<timestamp>) timestamp; list_string_max_string .(list<string>) string; list_bytes_max_bytes .(list<bytes>) bytes"),
    ("min", "list_int_min_int .(list<int>) int; list_uint_min_uint .(list<uint>) uint; list_double_min_double .(list<double>) double; list_bool_min_bool .(list<bool>) bool; list_duration_min_duration .(list<duration>) duration; list_timestamp_min_timestamp .(list<timestamp>) timestamp; list_string_min_string .(list<string>) string; list_bytes_min_bytes .(list<bytes>) bytes"),
    // Kubernetes.
    ("url", "string_to_url (string) url"),
    ("isURL", "is_url_string (string) bool"),
    ("getScheme", "url_get_scheme .(url) string"),
    ("getHost", "url_get_host .(url) string"),
    ("getHostname", "url_get_hostname .(url) string"),
    ("getPort", "url_get_port .(url) string"),
    ("getEscapedPath", "url_get_escaped_path .(url) string"),
    ("getQuery", "url_get_query .(url) map<string,list<string>>"),
    ("quantity", "string_to_quantity (string) quantity"),
    ("isQuantity", "is_quantity_string (string) bool"),
    ("sign", "quantity_sign .(quantity) int"),
    ("isGreaterThan", "quantity_is_greater_than .(quantity quantity) bool; semver_is_greater_than .(semver semver) bool"),
    ("isLessThan", "quantity_is_less_than .(quantity quantity) bool; semver_is_less_than .(semver semver) bool"),
    ("compareTo", "quantity_compare_to .(quantity quantity) int; semver_compare_to .(semver semver) int"),
    ("asApproximateFloat", "quantity_get_float .(quantity) double"),
    ("asInteger", "quantity_get_int .(quantity) int"),
    ("isInteger", "quantity_is_integer .(quantity) bool"),
    ("add", "quantity_add .(quantity quantity) quantity; quantity_add_int .(quantity int) quantity"),
    ("sub", "quantity_sub .(quantity quantity) quantity; quantity_sub_int .(quantity int) quantity"),
    ("ip", "string_to_ip (string) ip; cidr_ip .(cidr) ip"),
    ("family", "ip_family .(ip) int"),
    ("ip.isCanonical", "ip_is_canonical (string) bool"),
    ("isUnspecified", "ip_is_unspecified .(ip) bool"),
    ("isLoopback", "ip_is_loopback .(ip) bool"),
    ("isLinkLocalMulticast", "ip_is_link_local_multicast .(ip) bool"),
    ("isLinkLocalUnicast", "ip_is_link_local_unicast .(ip) bool"),
    ("isGlobalUnicast", "ip_is_global_unicast .(ip) bool"),
    ("isIP", "is_ip (string) bool"),
    ("cidr", "string_to_cidr (string) cidr"),
    ("containsIP", "cidr_contains_ip_string .(cidr string) bool; cidr_contains_ip_ip .(cidr ip) bool"),
    ("containsCIDR", "cidr_contains_cidr_string .(cidr string) bool; cidr_contains_cidr .(cidr cidr) bool"),
    ("prefixLength", "cidr_prefix_length .(cidr) int"),
    ("masked", "cidr_masked .(cidr) cidr"),
    ("isCIDR", "is_cidr (string) bool"),
    ("format.named", "format-named (string) opt<format>"),
    ("validate", "format-validate .(format string) opt<list<string>>"),
    ("format.dns1123Label", "format.dns1123Label () format"),
    ("format.dns1123Subdomain", "format.dns1123Subdomain () format"),
    ("format.dns1035Label", "format.dns1035Label () format"),
    ("format.qualifiedName", "format.qualifiedName () format"),
    ("format.dns1123LabelPrefix", "format.dns1123LabelPrefix () format"),
    ("format.dns1123SubdomainPrefix", "format.dns1123SubdomainPrefix () format"),
    ("format.dns1035LabelPrefix", "format.dns1035LabelPrefix () format"),
    ("format.labelValue", "format.labelValue () format"),
    ("format.uri", "format.uri () format"),
    ("format.uuid", "format.uuid () format"),
    ("format.byte", "format.byte () format"),
    ("format.date", "format.date () format"),
    ("format.datetime", "format.datetime () format"),
    ("semver", "string_to_semver (string) semver; string_bool_to_semver (string bool) semver"),
    ("isSemver", "is_semver_string (string) bool; is_semver_string_bool (string bool) bool"),
    ("major", "semver_major .(semver) int"),
    ("minor", "semver_minor .(semver) int"),
    ("patch", "semver_patch .(semver) int"),
];

static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    FUNCTIONS
        .iter()
        .map(|(name, rows)| (*name, rows.split(';').filter_map(|row| overload(row.trim())).collect()))
        .collect()
});

/// The overloads of a function, if there is such a one.
pub(crate) fn lookup(name: &str) -> Option<&'static [Overload]> {
    TABLE.get(name).map(Vec::as_slice)
}

/// The names of all functions.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}

fn overload(row: &'static str) -> Option<Overload> {
    let (id, rest) = row.split_once(' ')?;
    let member = rest.starts_with('.');
    let (args, result) = rest.trim_start_matches('.').strip_prefix('(')?.rsplit_once(") ")?;
    let mut params = 0;
    let args = args.split_whitespace().map(|arg| read(arg, &mut params)).collect::<Option<Vec<_>>>()?;
    let result = read(result, &mut params)?;
    Some(Overload { id, member, args, result, params })
}

fn read(text: &str, params: &mut u32) -> Option<Type> {
    if let Some((outer, inner)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        return Some(match outer {
            "list" => Type::list(read(inner, params)?),
            "opt" => Type::optional(read(inner, params)?),
            "type" => Type::Type(Arc::new(read(inner, params)?)),
            "map" => {
                let (key, value) = inner.split_once(',')?;
                Type::map(read(key, params)?, read(value, params)?)
            }
            _ => return None,
        });
    }
    Some(match text {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "quantity" => Type::Kube(Kube::Quantity),
        "url" => Type::Kube(Kube::Url),
        "ip" => Type::Kube(Kube::Ip),
        "cidr" => Type::Kube(Kube::Cidr),
        "format" => Type::Kube(Kube::Format),
        "semver" => Type::Kube(Kube::Semver),
        "A" | "B" => {
            let number = u32::from(text == "B");
            *params = (*params).max(number + 1);
            Type::Param(number)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read() {
        for (name, rows) in FUNCTIONS {
            let read = lookup(name).map(<[Overload]>::len);
            assert_eq!(read, Some(rows.split(';').count()), "{name}");
        }
        assert_eq!(TABLE.len(), FUNCTIONS.len());
    }
}
