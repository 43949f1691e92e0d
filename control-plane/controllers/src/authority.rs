//! What controllers need the cluster's own keys for; they never hold them.

use serde_json::Value;
use skep_api::kinds::certificates::Request;
use std::fmt;

/// Whom a token that is kept in a Secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountToken<'a> {
    /// Namespace of Secret and account.
    pub namespace: &'a str,
    /// Name of the Secret.
    pub secret: &'a str,
    /// Name of the account.
    pub account: &'a str,
    /// Uid of the account.
    pub uid: &'a str,
}

/// Signs with the cluster's keys. Errors are for people.
pub trait Authority: fmt::Debug + Send + Sync {
    /// A token of a service account that has no end.
    fn token(&self, of: &AccountToken<'_>) -> Result<String, String>;

    /// A certificate, in PEM, for the subject, names and key of a request. It lasts as many seconds as are asked for, at most
    /// a year.
    fn certificate(&self, request: &Request, usages: &[&str], seconds: Option<i64>)
    -> Result<String, String>;
}

/// The strings of a list.
pub(crate) fn texts<'a>(tree: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = tree.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}
