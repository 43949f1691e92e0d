//! Regular expressions.

use skep_api::custom::Pattern;

/// Compiles a regular expression.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(text: &str) -> Result<Pattern, String> {
    let pattern = Pattern::new(text);
    match pattern.error() {
        None => Ok(pattern),
        Some(why) => Err(why.to_owned()),
    }
}
