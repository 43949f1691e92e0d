//! What came of a run: ginkgo's JSON report, and the tables made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::ui::Table;

/// How many of the slowest tests are shown.
const SLOWEST: usize = 10;
/// Longest message shown of a failed test, in characters.
const MESSAGE: usize = 300;

/// A test that ran, or (of a dry run) would have.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Full name, as the suite lists it.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Why it failed.
    pub message: String,
}

/// All tests that ran.
#[derive(Debug, Default)]
pub struct Report {
    /// Sorted by name.
    pub outcomes: Vec<Outcome>,
    /// What went wrong before or after the tests, once each.
    pub around: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    run_time: f64,
    failure: Option<Failure>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
}

impl Report {
    /// Reads ginkgo's report.
    ///
    /// # Errors
    /// When there is none or it is not one.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("{}", file.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} is no report of ginkgo", file.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let runs: Vec<Run> = serde_json::from_slice(bytes)?;
        let specs = runs.into_iter().flat_map(|run| run.spec_reports.unwrap_or_default());
        let (tests, others): (Vec<Spec>, Vec<Spec>) = specs.partition(|spec| spec.leaf_node_type == "It");
        let around =
            others.into_iter().filter_map(|spec| spec.failure).map(|failure| failure.message).collect();
        let mut outcomes: Vec<Outcome> = tests
            .into_iter()
            .filter(|spec| !matches!(&*spec.state, "skipped" | "pending" | ""))
            .map(|spec| Outcome {
                name: spec
                    .container_hierarchy_texts
                    .unwrap_or_default()
                    .into_iter()
                    .chain([spec.leaf_node_text])
                    .collect::<Vec<_>>()
                    .join(" "),
                passed: spec.state == "passed",
                seconds: spec.run_time / 1e9,
                message: spec.failure.unwrap_or_default().message,
            })
            .collect();
        outcomes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Report { outcomes, around })
    }

    /// The names of all tests.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.outcomes.iter().map(|outcome| outcome.name.clone()).collect()
    }

    /// How many tests failed, and steps around them.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| !outcome.passed).count() + self.around.len()
    }

    /// A table a SIG, the slowest tests, and those that failed.
    #[must_use]
    pub fn render(&self) -> String {
        let mut sigs: BTreeMap<&str, (usize, usize, f64)> = BTreeMap::new();
        for outcome in &self.outcomes {
            let (passed, failed, seconds) = sigs.entry(sig(&outcome.name)).or_default();
            *if outcome.passed { passed } else { failed } += 1;
            *seconds += outcome.seconds;
        }
        let mut table = Table::new(&["SIG", "PASSED", "FAILED", "SECONDS"]);
        for (sig, (passed, failed, seconds)) in &sigs {
            table.row([(*sig).to_owned(), passed.to_string(), failed.to_string(), format!("{seconds:.0}")]);
        }
        let mut text = table.render();
        let mut slowest: Vec<&Outcome> = self.outcomes.iter().collect();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let mut table = Table::new(&["SECONDS", "SLOWEST"]);
        for outcome in slowest.iter().take(SLOWEST) {
            table.row([format!("{:.1}", outcome.seconds), outcome.name.clone()]);
        }
        text.push('\n');
        text.push_str(&table.render());
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.passed) {
            let message: String = outcome
                .message
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(MESSAGE)
                .collect();
            text.push_str(&format!("\nFAILED {}\n  {message}\n", outcome.name));
        }
        for message in &self.around {
            text.push_str(&format!("\nFAILED before or after the tests: {message}\n"));
        }
        text
    }
}

/// `sig-node` of `[sig-node] Pods …`.
fn sig(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[{"SpecReports": [
        {"ContainerHierarchyTexts": null, "LeafNodeType": "BeforeSuite", "LeafNodeText": "", "State": "passed", "RunTime": 5},
        {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "run [Conformance]",
         "State": "passed", "RunTime": 1500000000},
        {"ContainerHierarchyTexts": ["[sig-auth] A"], "LeafNodeType": "It", "LeafNodeText": "b [Conformance]",
         "State": "failed", "RunTime": 2000000000, "Failure": {"Message": "expected\n\t1"}},
        {"ContainerHierarchyTexts": ["[sig-auth] A"], "LeafNodeType": "It", "LeafNodeText": "c", "State": "skipped", "RunTime": 0},
        {"LeafNodeType": "AfterSuite", "LeafNodeText": "", "State": "failed", "RunTime": 0, "Failure": {"Message": "no node"}}
    ]}]"#;

    #[test]
    fn tests_that_ran_are_counted_by_sig() {
        let report = Report::parse(REPORT.as_bytes()).unwrap();
        assert_eq!(report.outcomes.len(), 2);
        assert_eq!(report.failed(), 2);
        let shown = report.render();
        assert!(shown.contains("sig-auth        0        1         2"), "{shown}");
        assert!(shown.contains("FAILED [sig-auth] A b [Conformance]\n  expected 1\n"), "{shown}");
        assert!(shown.ends_with("FAILED before or after the tests: no node\n"), "{shown}");
        assert!(shown.contains("1.5   [sig-node] Pods run [Conformance]"), "{shown}");
    }
}
