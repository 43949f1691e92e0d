//! Numbers as Go's JSON decoder sees them: integers of 64 bits, and floating point numbers for all else.

use serde_json::{Number, Value};

/// A number of a tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Num {
    Int(i64),
    Float(f64),
}

impl Num {
    pub(super) fn of(number: &Number) -> Self {
        match number.as_i64() {
            Some(int) => Num::Int(int),
            None => Num::Float(number.as_f64().unwrap_or(f64::NAN)),
        }
    }

    pub(super) fn float(self) -> f64 {
        match self {
            Num::Int(int) => int as f64,
            Num::Float(float) => float,
        }
    }

    /// As JSON.
    pub(super) fn value(self) -> Value {
        match self {
            Num::Int(int) => int.into(),
            Num::Float(float) => float.into(),
        }
    }
}

/// Whether a floating point number counts as an integer, small errors forgiven.
pub(super) fn is_whole(float: f64) -> bool {
    const MOST: f64 = ((1_i64 << 53) - 1) as f64;
    const EPSILON: f64 = 1e-9;
    if !float.is_finite() || float.abs() > MOST {
        return false;
    }
    if float == float.trunc() {
        return true;
    }
    // Upstream truncates towards zero, and compares with what that leaves.
    let whole = if float < 0.0 { 0.0 } else { float.trunc() };
    if whole == 0.0 {
        return false;
    }
    (float - whole).abs() / (float.abs() + whole.abs()) < EPSILON
}

/// A floating point number as Go's `%v` writes it.
pub(super) fn shown(float: f64) -> String {
    if float == 0.0 {
        return if float.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let exponent = float.abs().log10().floor();
    if (-5.0..21.0).contains(&exponent) && (float.abs() >= 1e-4) {
        return format!("{float}");
    }
    // Rust writes 1e21 where Go writes 1e+21.
    let text = format!("{float:e}");
    match text.split_once('e') {
        Some((mantissa, power)) => match power.strip_prefix('-') {
            Some(power) => format!("{mantissa}e-{power:0>2}"),
            None => format!("{mantissa}e+{power:0>2}"),
        },
        None => text,
    }
}

/// Writes whole numbers as integers, as Go does, so that `1.0` and `1` are the same.
pub(super) fn canonical(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64()
                && float == float.trunc()
                && float.abs() < 1e18
            {
                *value = (float as i64).into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(canonical),
        Value::Object(map) => map.values_mut().for_each(canonical),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (float, text) in [
            (0.5, "0.5"),
            (5.0, "5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (-2.25, "-2.25"),
        ] {
            assert_eq!(shown(float), text);
        }
    }

    #[test]
    fn whole_numbers() {
        for (float, whole) in
            [(1.0, true), (-3.0, true), (1.5, false), (0.1, false), (1e300, false), (3.0000000001, true)]
        {
            assert_eq!(is_whole(float), whole, "{float}");
        }
    }
}
