//! Query parameters and option bodies.

use crate::registry::{Begin, ListQuery, Moment, Selection, Token, WatchQuery};
use crate::request::{RequestInfo, is_true, param, params};
use http::HeaderMap;
use http::header::USER_AGENT;
use serde_json::Value;
use skep_api::schema::FieldValidation;
use skep_api::{FieldError, GroupVersionKind, Resource, Status};
use skep_client::{DeleteOptions, Propagation};
use std::time::Duration;

/// Longest name of a manager, in bytes.
const LONGEST_MANAGER: usize = 128;
const NOT_OLDER: &str = "NotOlderThan";
const EXACT: &str = "Exact";
/// A watch without a timeout of its own lasts so many seconds, and up to as many more.
const WATCH_SECONDS: u64 = 1800;

fn invalid_options(kind: &'static str, errors: &[FieldError]) -> Status {
    Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", kind), "", errors)
}

/// A parameter that is a number.
fn number(query: &str, name: &str) -> Result<Option<i64>, Status> {
    match param(query, name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}

/// What is wrong with a text that is no resource version.
fn no_revision(text: &str) -> String {
    format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
}

/// The resource version of a list.
fn revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| Status::bad_request(format!("invalid resource version: {}", no_revision(text))))
}

/// The resource version of a watch or of a single read: upstream's cache has the last word there, and says it so.
fn cached_revision(text: &str) -> Result<u64, Status> {
    text.parse()
        .map_err(|_| Status { code: 500, ..Status::new(skep_api::Reason::Unknown, no_revision(text)) })
}

fn selection(row: &Resource, query: &str) -> Result<Selection, Status> {
    let text = |name| param(query, name).unwrap_or_default();
    Selection::parse(row, &text("labelSelector"), &text("fieldSelector"))
}

/// The options of a list.
pub(crate) fn list(row: &Resource, info: &RequestInfo, query: &str) -> Result<ListQuery, Status> {
    let text = |name| param(query, name).unwrap_or_default();
    let (version, matching, token) =
        (text("resourceVersion"), text("resourceVersionMatch"), text("continue"));
    let mut errors = Vec::new();
    if !matching.is_empty() {
        let path = "resourceVersionMatch";
        if version.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(path, why));
        }
        if !token.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(path, why));
        }
        if matching != NOT_OLDER && matching != EXACT {
            errors.push(FieldError::not_supported(path, matching.clone().into(), &[EXACT, NOT_OLDER, ""]));
        }
        if matching == EXACT && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(path, why));
        }
    }
    if param(query, "sendInitialEvents").is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
    if !errors.is_empty() {
        return Err(invalid_options("ListOptions", &errors));
    }
    number(query, "timeoutSeconds")?;
    let mut limit = usize::try_from(number(query, "limit")?.unwrap_or(0)).unwrap_or(0);
    let token = if token.is_empty() { None } else { Some(Token::decode(&token)?) };
    if token.is_some() && !matches!(version.as_str(), "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let moment = match (version.as_str(), matching.as_str()) {
        ("", _) => Moment::Latest,
        ("0", _) => {
            // Whatever is at hand is given whole, as upstream's cache does.
            if token.is_none() {
                limit = 0;
            }
            Moment::AtHand
        }
        (text, EXACT) => Moment::Exact(revision(text)?),
        (text, "") if limit > 0 => Moment::Exact(revision(text)?),
        (text, _) => Moment::NotOlderThan(revision(text)?),
    };
    Ok(ListQuery {
        namespace: info.namespace.clone(),
        selection: selection(row, query)?,
        moment,
        limit,
        token,
    })
}

/// How long a watch lasts that does not say: 30 to 60 minutes, so that not all clients come back at once.
pub(crate) fn watch_timeout() -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u64;
    Duration::from_secs(WATCH_SECONDS + random % WATCH_SECONDS)
}

/// The options of a watch.
pub(crate) fn watch(row: &Resource, info: &RequestInfo, query: &str) -> Result<WatchQuery, Status> {
    let text = |name| param(query, name).unwrap_or_default();
    let (version, matching) = (text("resourceVersion"), text("resourceVersionMatch"));
    let initial = param(query, "sendInitialEvents").map(|v| is_true(&v));
    let bookmarks = param(query, "allowWatchBookmarks").is_some_and(|v| is_true(&v));
    let path = "resourceVersionMatch";
    let mut errors = Vec::new();
    if initial.is_some() && matching != NOT_OLDER {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(path, why));
    }
    if !matching.is_empty() {
        if initial.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(path, why));
        }
        if matching != NOT_OLDER {
            errors.push(FieldError::not_supported(path, matching.clone().into(), &[NOT_OLDER]));
        }
        if !text("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(path, why));
        }
    }
    if !errors.is_empty() {
        return Err(invalid_options("ListOptions", &errors));
    }
    let begin = match (version.as_str(), initial) {
        ("" | "0", Some(false)) => Begin::Now,
        ("", _) => Begin::Latest,
        ("0", _) => Begin::AtHand,
        (text, Some(true)) => Begin::NotOlderThan(cached_revision(text)?),
        (text, _) => Begin::After(cached_revision(text)?),
    };
    number(query, "limit")?;
    let timeout = match u64::try_from(number(query, "timeoutSeconds")?.unwrap_or(0)) {
        Ok(0) | Err(_) => watch_timeout(),
        Ok(seconds) => Duration::from_secs(seconds.min(24 * 3600)),
    };
    let mut selection = selection(row, query)?;
    // The old form `/watch/…/NAME` names one object by its path.
    if !info.name.is_empty() {
        selection = selection.named(&info.name);
    }
    Ok(WatchQuery {
        namespace: info.namespace.clone(),
        selection,
        begin,
        mark_initial_end: initial == Some(true) && bookmarks,
        bookmarks,
        timeout,
    })
}

/// Which moment a single object is read of.
pub(crate) fn moment(query: &str) -> Result<Moment, Status> {
    match param(query, "resourceVersion").unwrap_or_default().as_str() {
        "" => Ok(Moment::Latest),
        "0" => Ok(Moment::AtHand),
        text => Ok(Moment::NotOlderThan(cached_revision(text)?)),
    }
}

/// Whether a write is only tried; `kind` is that of the options, for messages.
pub(crate) fn dry_run(query: &str, kind: &'static str) -> Result<bool, Status> {
    check_dry_run(&params(query, "dryRun"), kind)
}

fn check_dry_run(values: &[String], kind: &'static str) -> Result<bool, Status> {
    match values.iter().find(|v| *v != "All" && !v.is_empty()) {
        Some(_) => {
            let error = FieldError::not_supported("dryRun", values.into(), &["All"]);
            Err(invalid_options(kind, &[error]))
        }
        None => Ok(values.iter().any(|v| v == "All")),
    }
}

/// The name that a writer gives itself for `managedFields`, or else what its user agent begins with.
pub(crate) fn manager(query: &str, headers: &HeaderMap, kind: &'static str) -> Result<String, Status> {
    let given = param(query, "fieldManager").unwrap_or_default();
    if given.is_empty() {
        let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        return Ok(name.chars().filter(|c| !c.is_control()).take(LONGEST_MANAGER).collect());
    }
    if given.len() > LONGEST_MANAGER {
        return Err(invalid_options(kind, &[FieldError::too_long("fieldManager", LONGEST_MANAGER)]));
    }
    match given.chars().enumerate().find(|(_, c)| c.is_control()) {
        Some((at, c)) => {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            Err(invalid_options(kind, &[FieldError::invalid("fieldManager", given.into(), why)]))
        }
        None => Ok(given),
    }
}

/// Whether an apply takes over what others own; refused for other patches. An apply must name its manager.
pub(crate) fn force(query: &str, applies: bool) -> Result<bool, Status> {
    let force = param(query, "force");
    if applies && param(query, "fieldManager").is_none_or(|name| name.is_empty()) {
        return Err(no_manager());
    }
    if !applies && force.is_some() {
        let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
        return Err(invalid_options("PatchOptions", &[error]));
    }
    Ok(force.is_some_and(|v| is_true(&v)))
}

/// The answer to an apply without a manager.
pub(crate) fn no_manager() -> Status {
    let error = FieldError::required("fieldManager", "is required for apply patch");
    invalid_options("PatchOptions", &[error])
}

/// What to do with unknown fields.
pub(crate) fn field_validation(query: &str, kind: &'static str) -> Result<FieldValidation, Status> {
    let text = param(query, "fieldValidation").unwrap_or_default();
    FieldValidation::parse(&text).ok_or_else(|| {
        let known = ["", "Ignore", "Strict", "Warn"];
        let error = FieldError::not_supported("fieldValidation", text.clone().into(), &known);
        invalid_options(kind, &[error])
    })
}

/// The options of a deletion: from the body, or from the query where there is none.
pub(crate) fn delete(query: &str, body: Option<&Value>) -> Result<DeleteOptions, Status> {
    let mut options = DeleteOptions::default();
    let mut policy = param(query, "propagationPolicy").unwrap_or_default();
    let mut orphan = param(query, "orphanDependents").map(|v| is_true(&v));
    options.grace_period_seconds = number(query, "gracePeriodSeconds")?;
    options.dry_run = dry_run(query, "DeleteOptions")?;
    if let Some(body) = body {
        let wrong = |field: &str| {
            Status::bad_request(format!(
                "DeleteOptions in version \"v1\" cannot be handled: {field} has the wrong type"
            ))
        };
        let map = body.as_object().ok_or_else(|| wrong("the body"))?;
        if !matches!(map.get("kind").and_then(Value::as_str), None | Some("" | "DeleteOptions")) {
            return Err(Status::bad_request("the body of a deletion must be a DeleteOptions object"));
        }
        let get = |key: &str| map.get(key).filter(|v| !v.is_null());
        if let Some(grace) = get("gracePeriodSeconds") {
            options.grace_period_seconds = Some(grace.as_i64().ok_or_else(|| wrong("gracePeriodSeconds"))?);
        }
        if let Some(value) = get("propagationPolicy") {
            policy = value.as_str().ok_or_else(|| wrong("propagationPolicy"))?.to_owned();
        }
        if let Some(value) = get("orphanDependents") {
            orphan = Some(value.as_bool().ok_or_else(|| wrong("orphanDependents"))?);
        }
        if let Some(conditions) = get("preconditions") {
            let text = |key: &str| match conditions.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(_) => Err(wrong("preconditions")),
            };
            options.uid = text("uid")?;
            options.revision = text("resourceVersion")?.map(|v| revision(&v)).transpose()?;
        }
        if let Some(values) = get("dryRun") {
            let list = values.as_array().ok_or_else(|| wrong("dryRun"))?;
            let texts: Vec<String> = list.iter().map(|v| v.as_str().unwrap_or("?").to_owned()).collect();
            options.dry_run |= check_dry_run(&texts, "DeleteOptions")?;
        }
    }
    if !policy.is_empty() && orphan.is_some() {
        let error = FieldError::invalid(
            "propagationPolicy",
            policy.into(),
            "orphanDependents and deletionPropagation cannot be both set",
        );
        return Err(invalid_options("DeleteOptions", &[error]));
    }
    options.propagation = match (policy.as_str(), orphan) {
        ("", None) => None,
        ("", Some(true)) => Some(Propagation::Orphan),
        ("", Some(false)) => Some(Propagation::Background),
        (text, _) => Some(Propagation::parse(text).ok_or_else(|| {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            let error = FieldError::not_supported("propagationPolicy", text.into(), &known);
            invalid_options("DeleteOptions", &[error])
        })?),
    };
    Ok(options)
}
