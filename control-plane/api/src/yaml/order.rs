//! The order of keys: numbers within names count as numbers, and letters come last.

use serde_json::{Map, Value};
use std::cmp::Ordering;

/// Keys in the order in which they are written. The order is no total one (`a12` < `a1b` < `a2` < `a12`), which sorts of the
/// standard library do not forgive: each key is put where it fits among those before it.
pub(super) fn sorted(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut sorted: Vec<(&str, &Value)> = Vec::with_capacity(map.len());
    for (key, value) in map {
        let at = sorted.partition_point(|(before, _)| compare(before, key).is_lt());
        sorted.insert(at, (key, value));
    }
    sorted
}

/// The number of leading digits, and what they say after `first`; what is beyond 63 bits wraps around, as in Go.
fn digits(text: &str, first: i64) -> (usize, i64) {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold((0, first), |(count, number), digit| {
        (count + 1, number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')))
    })
}

fn compare(left: &str, right: &str) -> Ordering {
    let mut number = false;
    for ((at, l), r) in left.char_indices().zip(right.chars()) {
        if l == r {
            // Within a number that is not zero so far, a zero is as good as any digit.
            number = l.is_ascii_digit() && (number || l != '0');
            continue;
        }
        if l.is_alphabetic() && r.is_alphabetic() {
            return l.cmp(&r);
        }
        if l.is_alphabetic() || r.is_alphabetic() {
            return l.is_alphabetic().cmp(&r.is_alphabetic());
        }
        // What came before is a common leading digit of both.
        let first = i64::from(number && (l == '0' || r == '0'));
        let ((long_l, number_l), (long_r, number_r)) =
            (digits(&left[at..], first), digits(&right[at..], first));
        return number_l.cmp(&number_r).then(long_l.cmp(&long_r)).then(l.cmp(&r));
    }
    left.len().cmp(&right.len())
}
