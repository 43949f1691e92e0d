//! Pod Security Standards (KEP-2579) as plain functions: which policy the labels of a namespace ask for, and in what a pod
//! breaks it.
//!
//! A check is a row of [`checks::TABLE`]: its level, and one function for each range of policy versions. A level
//! includes those below it, less the checks that one of its own replaces.

mod checks;
#[cfg(test)]
mod tests;

use crate::field::{FieldError, Path};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How much a policy forbids; the later, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Privileged,
    /// Known ways out of a container.
    Baseline,
    /// Whatever a hardened pod does without.
    Restricted,
}

/// As of which minor version of Kubernetes the checks of a level are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `v1.N`.
    Minor(u32),
    /// `latest`.
    Latest,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

impl Level {
    fn parse(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl Version {
    fn parse(text: &str) -> Result<Version, &'static str> {
        const WRONG: &str = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(WRONG)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        digits.parse().ok().filter(|_| plain).map(Version::Minor).ok_or(WRONG)
    }
}

/// A level as of a version: `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    /// How much is forbidden.
    pub level: Level,
    /// As of when.
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

const FREE: LevelVersion = LevelVersion { level: Level::Privileged, version: Version::Latest };

/// What a namespace asks for, one level a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What breaks this is refused.
    pub enforce: LevelVersion,
    /// What breaks this is noted.
    pub audit: LevelVersion,
    /// Who breaks this is warned.
    pub warn: LevelVersion,
}

/// Prefix of the labels; the modes and their versions follow.
const PREFIX: &str = "pod-security.kubernetes.io/";

impl Policy {
    /// Whether nothing is forbidden in any mode.
    pub fn is_free(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }

    /// The policy of a namespace with these labels. Labels that cannot be read are errors; the policy is then the
    /// strictest to enforce, and none to audit or warn.
    pub fn of_labels(labels: &BTreeMap<Box<str>, Box<str>>) -> (Policy, Vec<FieldError>) {
        let mut policy = Policy { enforce: FREE, audit: FREE, warn: FREE };
        if !labels.keys().any(|key| key.starts_with(PREFIX)) {
            return (policy, Vec::new());
        }
        let mut errors = Vec::new();
        let mut explicit = false;
        let mut seen = BTreeSet::new();
        for (mode, at, broken) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            let version = format!("{mode}-version");
            let mut refuse = |key: &str, value: &str, why: &str| {
                let path = Path::new("metadata").child("labels").key(&format!("{PREFIX}{key}"));
                errors.push(FieldError::invalid(path, value.into(), why));
            };
            if let Some(text) = labels.get(&*format!("{PREFIX}{mode}")) {
                seen.insert(mode.to_owned());
                let parsed = Level::parse(text);
                explicit |= mode == "enforce" && parsed.is_ok();
                at.level = parsed.unwrap_or(broken);
                if let Err(why) = parsed {
                    refuse(mode, text, why);
                }
            }
            if let Some(text) = labels.get(&*format!("{PREFIX}{version}")) {
                let parsed = Version::parse(text);
                at.version = parsed.unwrap_or(Version::Latest);
                if let Err(why) = parsed {
                    refuse(&version, text, why);
                }
                seen.insert(version);
            }
        }
        // Whoever says what to enforce and not what to warn about is warned of that.
        if explicit && !seen.contains("warn") && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !seen.contains("warn-version") {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

/// In what a pod breaks a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In few words: `host namespaces`.
    pub reason: &'static str,
    /// With names and values: `hostNetwork=true`; may be empty.
    pub detail: String,
}

/// What a pod, or the template of one, breaks of a level; baseline checks first, in the order of their names. `annotations`
/// are those of its metadata.
pub fn violations(policy: LevelVersion, annotations: Option<&Value>, spec: &Value) -> Vec<Violation> {
    if policy.level == Level::Privileged {
        return Vec::new();
    }
    let minor = match policy.version {
        Version::Minor(minor) => minor,
        Version::Latest => u32::MAX,
    };
    let due: Vec<(&checks::Check, &checks::Versioned)> = checks::TABLE
        .iter()
        .filter(|check| check.level <= policy.level)
        .filter_map(|check| Some((check, check.versions.iter().rev().find(|v| v.from <= minor)?)))
        .collect();
    let pod = checks::Pod::new(annotations, spec);
    let replaced = |id: &str| due.iter().any(|(check, _)| check.replaces == Some((id, policy.level)));
    let stand = due.iter().filter(|(check, _)| !replaced(check.id));
    stand.filter_map(|(_, versioned)| (versioned.check)(&pod)).collect()
}

/// The violations with their details, as one line.
pub fn detailed(violations: &[Violation]) -> String {
    let one = |v: &Violation| match v.detail.as_str() {
        "" => v.reason.to_owned(),
        detail => format!("{} ({detail})", v.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The reasons alone, as one line.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason).collect::<Vec<_>>().join(", ")
}

/// Whether a change of a pod's spec may change what it breaks: other containers, or other images.
pub fn matters(new: &Value, old: &Value) -> bool {
    let list = |spec: &'_ Value, key: &str| -> Vec<(String, String)> {
        let text =
            |c: &Value, field: &str| c.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let all = spec.get(key).and_then(Value::as_array).into_iter().flatten();
        all.map(|c| (text(c, "name"), text(c, "image"))).collect()
    };
    let differ = |key: &str| {
        let (new, old) = (list(new, key), list(old, key));
        new.len() != old.len() || new.iter().zip(&old).any(|(new, old)| new.1 != old.1)
    };
    let before = list(old, "ephemeralContainers");
    differ("containers")
        || differ("initContainers")
        || list(new, "ephemeralContainers").iter().any(|container| !before.contains(container))
}
