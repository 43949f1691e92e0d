//! `docs/conformance.json`: every conformance test with its state. A test that passes never leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::report::Report;
use crate::tidy::Fault;

/// Where it lies in the repository.
pub const FILE: &str = "docs/conformance.json";

/// The state of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Passed when it last ran, and must go on doing so.
    Passed,
    /// Failed when it last ran.
    Failed,
    /// Not run yet.
    Unrun,
}

/// What is known of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What came of it.
    pub state: State,
    /// What is missing for it to pass, in a person's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
}

/// All conformance tests of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Version of the suite.
    pub suite: String,
    /// By name.
    pub tests: BTreeMap<String, Entry>,
}

impl Ledger {
    /// Reads it; an empty one where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(file: &Path) -> Result<Self> {
        match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ledger::default()),
            Err(error) => Err(error).with_context(|| format!("{}", file.display())),
        }
    }

    /// Writes it, one line an entry's field, so that a change reads well.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("{}", file.display()))
    }

    /// Takes over what a run showed of the tests that are `known`. A test that stands as passed stays so; those that
    /// failed now are given back.
    pub fn record(&mut self, version: &str, known: &BTreeSet<String>, report: &Report) -> BTreeSet<String> {
        self.suite = version.to_owned();
        for name in known {
            self.tests.entry(name.clone()).or_insert(Entry { state: State::Unrun, missing: String::new() });
        }
        let mut lost = BTreeSet::new();
        for outcome in &report.outcomes {
            let Some(entry) = self.tests.get_mut(&outcome.name) else { continue };
            match (entry.state, outcome.passed) {
                (_, true) => *entry = Entry { state: State::Passed, missing: String::new() },
                (State::Passed, false) => {
                    lost.insert(outcome.name.clone());
                }
                (_, false) => entry.state = State::Failed,
            }
        }
        lost
    }

    /// How many tests pass.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.tests.values().filter(|entry| entry.state == State::Passed).count()
    }

    /// What is wrong with it, seen against what it was before.
    #[must_use]
    pub fn faults(&self, earlier: &[Ledger]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |what: String| faults.push(Fault { at: FILE.to_owned(), what });
        for (name, entry) in &self.tests {
            if entry.state == State::Failed && entry.missing.is_empty() {
                fault(format!("{name:?} fails and nothing says what is missing"));
            }
        }
        let passed = |ledger: &Ledger| -> BTreeSet<String> {
            let names = ledger.tests.iter().filter(|(_, entry)| entry.state == State::Passed);
            names.map(|(name, _)| name.clone()).collect()
        };
        let now = passed(self);
        for name in earlier.iter().flat_map(passed).collect::<BTreeSet<_>>().difference(&now) {
            fault(format!("{name:?} passed before"));
        }
        faults
    }
}

/// Checks the ledger of a checkout against all its earlier versions, as far as the history is there.
///
/// # Errors
/// When it cannot be read.
pub fn check(root: &Path) -> Result<Vec<Fault>> {
    let git = |args: &[&str]| crate::run::text(crate::run::command("git").arg("-C").arg(root).args(args));
    let commits = git(&["log", "--format=%H", "--", FILE]).unwrap_or_default();
    let earlier: Vec<Ledger> = commits
        .lines()
        .filter_map(|commit| git(&["show", &format!("{commit}:{FILE}")]).ok())
        .filter_map(|text| serde_json::from_str(&text).ok())
        .collect();
    Ok(Ledger::read(&root.join(FILE))?.faults(&earlier))
}

#[cfg(test)]
mod tests {
    use super::super::report::Outcome;
    use super::*;

    fn report(outcomes: &[(&str, bool)]) -> Report {
        let outcome = |(name, passed): &(&str, bool)| Outcome {
            name: (*name).to_owned(),
            passed: *passed,
            seconds: 1.0,
            message: String::new(),
        };
        Report { outcomes: outcomes.iter().map(outcome).collect(), ..Report::default() }
    }

    #[test]
    fn what_passed_stays() {
        let known = BTreeSet::from(["a", "b", "c"].map(str::to_owned));
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.record("v1", &known, &report(&[("a", true), ("b", false), ("x", true)])),
            BTreeSet::new()
        );
        assert_eq!(ledger.passed(), 1);
        assert_eq!(ledger.tests.len(), 3);
        let before = ledger.clone();
        let lost = ledger.record("v1", &known, &report(&[("a", false), ("b", true)]));
        assert_eq!(lost, BTreeSet::from(["a".to_owned()]));
        assert_eq!(ledger.passed(), 2);
        assert_eq!(ledger.faults(&[before]), []);
    }

    #[test]
    fn a_ledger_that_forgets_is_at_fault() {
        let known = BTreeSet::from(["a".to_owned()]);
        let mut before = Ledger::default();
        before.record("v1", &known, &report(&[("a", true)]));
        let mut now = Ledger::default();
        now.record("v1", &known, &report(&[("a", false)]));
        let faults: Vec<String> = now.faults(&[before]).into_iter().map(|fault| fault.what).collect();
        assert_eq!(faults, ["\"a\" fails and nothing says what is missing", "\"a\" passed before"]);
        now.tests.insert("a".into(), Entry { state: State::Failed, missing: "webhooks".into() });
        assert_eq!(now.faults(&[]), []);
    }
}
