//! Paths in messages, put together from the inside out.

/// Puts a part in front of the paths that were noted since there were `known` of them.
pub(super) fn prefix(paths: &mut [String], known: usize, part: impl Fn() -> String) {
    for path in paths.iter_mut().skip(known) {
        let joint = if path.starts_with('[') { "" } else { "." };
        *path = format!("{}{joint}{path}", part());
    }
}

/// What Go calls the type of a structure: `v1.PodSpec` for `io.k8s.api.core.v1.PodSpec`.
pub(super) fn go_name(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.');
    match (dots.next(), dots.next()) {
        (Some(_), Some((at, _))) => name.get(at + 1..).unwrap_or(name),
        _ => name,
    }
}

/// The last part of a type's name.
pub(super) fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
