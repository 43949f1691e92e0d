//! What functions do.

pub(crate) mod arith;
pub(crate) mod convert;
mod format;
mod kube;
mod lists;
pub(crate) mod named;
mod strings;
mod times;

use crate::value::{Failure, Meter, Outcome, Value};

/// A function over evaluated arguments, the target first.
pub(crate) type Native = for<'v> fn(&Meter, &[Value<'v>]) -> Outcome<Value<'v>>;

/// The function of a name. Overloads are told apart by the values it gets, since types may be dynamic.
pub(crate) fn find(function: &str) -> Option<Native> {
    arith::find(function)
        .or_else(|| convert::find(function))
        .or_else(|| strings::find(function))
        .or_else(|| lists::find(function))
        .or_else(|| times::find(function))
        .or_else(|| kube::find(function))
}

/// Most bytes of a text that is made.
const LONGEST_TEXT: u64 = 32 << 20;

/// Makes sure that text of a length may be made.
pub(crate) fn room(meter: &Meter, bytes: usize) -> Outcome<()> {
    if bytes as u64 > LONGEST_TEXT {
        return Err(Failure::Limit);
    }
    meter.spend(bytes as u64 / 16 + 1)
}

#[cfg(test)]
mod tests {
    use crate::functions;

    #[test]
    fn every_declared_function_is_there() {
        // These are evaluated where they stand, since they need not evaluate all they have.
        let special =
            ["_?_:_", "_&&_", "_||_", "@not_strictly_false", "_[_]", "_[?_]", "_?._", "or", "orValue"];
        for name in functions::names().filter(|name| !special.contains(name)) {
            assert!(super::find(name).is_some(), "{name}");
        }
    }
}
