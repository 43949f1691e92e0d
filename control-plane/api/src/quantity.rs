//! Quantities of resources (`k8s.io/apimachinery/pkg/api/resource.Quantity`): exact, never floating point.

use std::fmt;
use std::str::FromStr;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QuantityFormat {
    /// `1500m`, `2k`, `3M`.
    #[default]
    DecimalSi,
    /// `64Mi`.
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// A quantity: a decimal number of at most nine places, and how it was written.
///
/// Compares by amount alone: `1` equals `1000m`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    /// Billionths.
    nanos: i128,
    format: QuantityFormat,
}

/// Why text is no quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Amounts are held to this many billionths on either side of zero.
const LIMIT: i128 = 10i128.pow(38);
/// The most that a binary quantity may be when it is parsed, as upstream caps it.
const BINARY_MAX: i128 = (i64::MAX as i128) * NANO;

/// One row a suffix: text, base, exponent.
const SUFFIXES: &[(&str, u32, i32)] = &[
    ("n", 10, -9),
    ("u", 10, -6),
    ("m", 10, -3),
    ("", 10, 0),
    ("k", 10, 3),
    ("M", 10, 6),
    ("G", 10, 9),
    ("T", 10, 12),
    ("P", 10, 15),
    ("E", 10, 18),
    ("Ki", 2, 10),
    ("Mi", 2, 20),
    ("Gi", 2, 30),
    ("Ti", 2, 40),
    ("Pi", 2, 50),
    ("Ei", 2, 60),
];

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: QuantityFormat::DecimalSi };

    /// A whole number in the given form.
    pub fn new(value: i64, format: QuantityFormat) -> Self {
        Quantity { nanos: i128::from(value) * NANO, format }
    }

    /// Thousandths, as processors are counted.
    pub fn from_milli(value: i64) -> Self {
        Quantity { nanos: i128::from(value) * (NANO / 1000), format: QuantityFormat::DecimalSi }
    }

    /// Parses what people write. What is finer than a billionth is rounded away from zero; amounts beyond
    /// what is held become the most that is.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || !suffix_shape(suffix) {
            return Err(QuantityError::Format);
        }
        let (base, exponent, mut format) = suffix_of(suffix).ok_or(QuantityError::Suffix)?;
        let decimal = if base == 10 { exponent } else { 0 };
        let mut nanos = to_nanos(whole, fraction, decimal);
        if base == 2 {
            nanos = to_nanos_binary(whole, fraction, exponent).min(BINARY_MAX);
            if nanos > 0 && nanos < NANO {
                format = QuantityFormat::DecimalSi;
            }
        }
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// How it was written.
    pub fn format(&self) -> QuantityFormat {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whole units, rounded up; the most an `i64` holds where it is more.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded up; the most an `i64` holds where it is more.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// As floating point, for ratios.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Both together, in the form of the first that is not nothing.
    pub fn add(&self, other: &Quantity) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_add(other.nanos).clamp(-LIMIT, LIMIT), format }
    }

    /// The first less the second, in the form of the first that is not nothing.
    pub fn sub(&self, other: &Quantity) -> Self {
        self.add(&Quantity { nanos: -other.nanos, format: other.format })
    }

    fn scaled(&self, unit: i128) -> i64 {
        let (quotient, rest) = (self.nanos / unit, self.nanos % unit);
        // Up means away from zero, as upstream rounds.
        let rounded = quotient + rest.signum();
        rounded.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// Letters of any suffix, then a sign, then digits: what upstream's scanner lets through.
fn suffix_shape(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

fn suffix_of(suffix: &str) -> Option<(u32, i32, QuantityFormat)> {
    if let Some(&(_, base, exponent)) = SUFFIXES.iter().find(|s| s.0 == suffix) {
        let format = if base == 2 { QuantityFormat::BinarySi } else { QuantityFormat::DecimalSi };
        return Some((base, exponent, format));
    }
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let exponent: i64 = digits.parse().ok()?;
    let exponent = exponent.clamp(-1000, 1000) as i32;
    Some((10, exponent, QuantityFormat::DecimalExponent))
}

/// `whole.fraction * 10^exponent` in billionths, rounded up, at most [`LIMIT`].
fn to_nanos(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // Where the decimal point lands among the digits once everything is in billionths.
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX / 2) + i64::from(exponent) + 9;
    let mut nanos: i128 = 0;
    let mut at: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit - b'0');
        if at < point {
            nanos = nanos.saturating_mul(10).saturating_add(digit).min(LIMIT);
        } else if digit != 0 {
            return nanos.saturating_add(1).min(LIMIT);
        }
        at += 1;
    }
    if nanos == 0 {
        return 0;
    }
    while at < point && nanos < LIMIT {
        nanos = nanos.saturating_mul(10).min(LIMIT);
        at += 1;
    }
    nanos
}

/// `whole.fraction * 2^exponent` in billionths, rounded up, at most [`LIMIT`].
fn to_nanos_binary(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let factor = 1i128.checked_shl(exponent.unsigned_abs()).unwrap_or(i128::MAX);
    let mut total = to_nanos(whole, "", 0).saturating_mul(factor);
    // The fraction's digits beyond 18 cannot move the result by a billionth of a byte that matters.
    let mut unit = 1i128;
    let mut digits = 0i128;
    for digit in fraction.bytes().take(18) {
        digits = digits * 10 + i128::from(digit - b'0');
        unit *= 10;
    }
    // digits < 10^18, factor <= 2^60 and NANO < 2^30: the product may pass 2^127, so divide first.
    let scaled = digits.saturating_mul(factor);
    let (quotient, rest) = (scaled / unit, scaled % unit);
    let rest = rest.saturating_mul(NANO);
    let part = quotient.saturating_mul(NANO).saturating_add(rest / unit + i128::from(rest % unit != 0));
    total = total.saturating_add(part);
    total.min(LIMIT)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, and the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == QuantityFormat::BinarySi && !small && self.nanos % NANO == 0 {
            let mut value = self.nanos / NANO;
            let mut exponent = 0;
            while value % 1024 == 0 && exponent < 60 {
                value /= 1024;
                exponent += 10;
            }
            let suffix = SUFFIXES.iter().find(|s| s.1 == 2 && s.2 == exponent).map_or("", |s| s.0);
            return write!(f, "{value}{suffix}");
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        let top = if self.format == QuantityFormat::DecimalExponent { 27 } else { 18 };
        while value % 1000 == 0 && exponent < top {
            value /= 1000;
            exponent += 3;
        }
        if self.format == QuantityFormat::DecimalExponent {
            return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
        }
        let suffix = SUFFIXES.iter().find(|s| s.1 == 10 && s.2 == exponent).map_or("", |s| s.0);
        write!(f, "{value}{suffix}")
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Quantity::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("0.0", "0"),
            ("1", "1"),
            ("1000", "1k"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("100m", "100m"),
            ("0.1m", "100u"),
            ("1k", "1k"),
            ("1000k", "1M"),
            ("12e6", "12e6"),
            ("12E6", "12e6"),
            ("1E", "1E"),
            ("1e0", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("128Mi", "128Mi"),
            ("1000Ki", "1000Ki"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            (".5", "500m"),
            ("5.", "5"),
            ("-1.5", "-1500m"),
            ("-1Gi", "-1Gi"),
            ("+3", "3"),
            ("007", "7"),
            ("0.0000000001", "1n"),
            ("8Ei", "9223372036854775807"),
            ("7Ei", "7Ei"),
        ] {
            let parsed = Quantity::parse(text).unwrap();
            let shown = parsed.to_string();
            assert_eq!(shown, canonical, "{text}");
            assert_eq!(Quantity::parse(&shown).unwrap(), parsed, "{text} again");
        }
        assert_eq!(Quantity::parse("8Ei").unwrap().value(), i64::MAX);
    }

    #[test]
    fn what_is_no_quantity() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("1.1.1", QuantityError::Format),
            ("1Mib", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("++1", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1mm", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn random_text_never_panics() {
        let mut random = 11u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push(char::from(b"0123456789.+-eEKMGimn"[(random >> 33) as usize % 21]));
            }
            if let Ok(quantity) = Quantity::parse(&text) {
                let again = Quantity::parse(&quantity.to_string()).unwrap();
                assert_eq!(again, quantity, "{text}");
                assert_eq!(again.to_string(), quantity.to_string(), "{text}");
            }
        }
    }

    #[test]
    fn amounts() {
        let q = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!(q("1"), q("1000m"));
        assert!(q("1Gi") > q("1G"));
        assert!(q("-1") < q("0"));
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("100m").milli_value(), 100);
        assert_eq!(q("0.1m").milli_value(), 1);
        assert_eq!(q("1Mi").value(), 1 << 20);
        assert_eq!(q("100m").add(&q("1")).to_string(), "1100m");
        assert_eq!(Quantity::ZERO.add(&q("64Mi")).to_string(), "64Mi");
        assert_eq!(q("1Gi").sub(&q("512Mi")).to_string(), "512Mi");
        assert_eq!(q("1e999").add(&q("1e999")).value(), i64::MAX);
        assert_eq!(q("-1e999").value(), i64::MIN);
        assert_eq!(q("1e-999").to_string(), "1e-9");
        // Upstream reads a number without digits as nothing.
        assert!(q("Mi").is_zero() && q("-").is_zero() && q(".").is_zero());
    }
}
