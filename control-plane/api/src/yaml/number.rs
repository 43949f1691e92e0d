//! Numbers: whole ones in digits, others as Go's `strconv.FormatFloat(f, 'g', -1, 64)` writes them.

use serde_json::Number;

/// Beyond it JSON in Go has an exponent, and what has one is no whole number to YAML.
const WHOLE: f64 = 1e21;

pub(super) fn write(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => of_float(float),
        _ => number.to_string(),
    }
}

fn of_float(float: f64) -> String {
    // A whole number has no point in JSON, and is read as an integer where it fits one.
    if float.fract() == 0.0 && float.abs() < WHOLE {
        let whole = float as i128;
        if i64::try_from(whole).is_ok() || u64::try_from(whole).is_ok() {
            return whole.to_string();
        }
    }
    let shortest = format!("{float:e}");
    let Some((mantissa, exponent)) = shortest.split_once('e') else { return shortest };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => float.to_string(),
    }
}
