//! Rules of probes and of lifecycle hooks.

use crate::field::FieldError;
use crate::validation::{At, Errors, port_number_or_name, text};

/// The three probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Liveness, Kind::Readiness, Kind::Startup];

    pub(super) fn field(self) -> &'static str {
        match self {
            Kind::Liveness => "livenessProbe",
            Kind::Readiness => "readinessProbe",
            Kind::Startup => "startupProbe",
        }
    }
}

pub(super) fn probe(errors: &mut Errors, at: &At<'_, '_>, kind: Kind, grace: Option<i64>) {
    if !at.present() {
        return;
    }
    handler(errors, at, &["exec", "httpGet", "tcpSocket", "grpc"], grace);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        errors.not_negative(&at.get(field));
    }
    let own_grace = at.get("terminationGracePeriodSeconds");
    if own_grace.int().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&own_grace, "must be greater than 0");
    }
    let successes = at.get("successThreshold");
    if kind == Kind::Readiness {
        if own_grace.present() {
            errors.invalid(&own_grace, "must not be set for readinessProbes");
        }
    } else if successes.int() != Some(1) {
        errors.push(FieldError::invalid(successes.path(), successes.int().unwrap_or(0).into(), "must be 1"));
    }
}

/// Exactly one of the ways to probe or to call a hook.
pub(super) fn handler(errors: &mut Errors, at: &At<'_, '_>, ways: &[&str], grace: Option<i64>) {
    let mut found = 0;
    for way in ways {
        let action = at.get(way);
        if !action.present() {
            continue;
        }
        found += 1;
        if found > 1 {
            errors.forbidden(&action, "may not specify more than 1 handler type");
            continue;
        }
        match *way {
            "exec" => {
                let command = action.get("command");
                if command.is_empty() {
                    errors.required(&command, "");
                }
            }
            "httpGet" => http_get(errors, &action),
            "sleep" => sleep(errors, &action, grace),
            _ => port_number_or_name(errors, &action.get("port")),
        }
    }
    if found == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(errors: &mut Errors, at: &At<'_, '_>) {
    let path = at.get("path");
    if path.text().is_empty() {
        errors.required(&path, "");
    }
    port_number_or_name(errors, &at.get("port"));
    let scheme = at.get("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        errors.not_supported(&scheme, &["HTTP", "HTTPS"]);
    }
    let headers = at.get("httpHeaders");
    for header in headers.items() {
        let name = header.get("name").text();
        for message in text::header_name(name) {
            errors.push(FieldError::invalid(headers.path(), name.into(), message));
        }
    }
}

fn sleep(errors: &mut Errors, at: &At<'_, '_>, grace: Option<i64>) {
    let seconds = at.get("seconds").int().unwrap_or(0);
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(at.path(), seconds.into(), why));
    }
}
