//! Quantities as resource amounts: parsed to whole units, rounding up as the API does.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Parses a quantity into thousandths, rounding up. `None` when malformed.
pub fn milli(q: &Quantity) -> Option<i64> {
    parse(&q.0, 1000)
}

/// Parses a quantity into whole units (bytes, cores, counts), rounding up. `None` when malformed.
pub fn units(q: &Quantity) -> Option<i64> {
    parse(&q.0, 1)
}

fn parse(s: &str, scale: i128) -> Option<i64> {
    let s = s.trim();
    let end = s.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(s.len());
    let (num, suffix) = s.split_at(end);
    let (negative, num) = match num.strip_prefix('-') {
        Some(n) => (true, n),
        None => (false, num.strip_prefix('+').unwrap_or(num)),
    };
    let (whole, frac) = num.split_once('.').unwrap_or((num, ""));
    let digits_only = whole.bytes().chain(frac.bytes()).all(|b| b.is_ascii_digit());
    if whole.is_empty() && frac.is_empty() || frac.len() > 18 || whole.len() > 20 || !digits_only {
        return None;
    }
    let digits: i128 = format!("{whole}{frac}").parse().ok()?;
    // value = digits * mult_num / mult_den / 10^frac
    let (mul, div): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        e if e.starts_with(['e', 'E']) => {
            let x: i32 = e.get(1..)?.parse().ok()?;
            if !(-18..=18).contains(&x) {
                return None;
            }
            let p = 10i128.pow(x.unsigned_abs());
            if x < 0 { (1, p) } else { (p, 1) }
        }
        _ => return None,
    };
    let den = div.checked_mul(10i128.pow(frac.len() as u32))?;
    let n = digits.checked_mul(mul)?.checked_mul(scale)?;
    let v = n / den + i128::from(n % den != 0);
    let v = if negative { -v } else { v };
    Some(i64::try_from(v).unwrap_or(if v < 0 { i64::MIN } else { i64::MAX }))
}
