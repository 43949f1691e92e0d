//! The suite as a program: what tests it has, and how it is run.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::report::Report;
use crate::run::{captured, command, text, which};
use crate::ui::Step;

/// What every conformance test bears in its name.
const MARK: &str = r"\[Conformance\]";

/// The suite and the programs it is run with.
pub struct Suite {
    program: PathBuf,
    ginkgo: Option<PathBuf>,
    kubectl: PathBuf,
}

/// Which conformance tests to run.
pub struct Selection<'a> {
    /// Only those whose name matches.
    pub focus: Option<&'a str>,
    /// Not those whose name matches.
    pub skip: Option<&'a str>,
    /// Only these.
    pub names: Option<&'a BTreeSet<String>>,
}

impl Suite {
    /// Looks for the suite and for what must be beside it.
    ///
    /// # Errors
    /// When the suite or kubectl is missing.
    pub fn find(program: &Path) -> Result<Self> {
        let program = fs::canonicalize(program)
            .with_context(|| format!("no suite at {}: --suite names an `e2e.test`", program.display()))?;
        let beside = |name: &str| program.parent().map(|dir| dir.join(name)).filter(|file| file.is_file());
        let Some(kubectl) = beside("kubectl").or_else(|| which("kubectl")) else {
            bail!("the suite needs a kubectl: put one beside it or on PATH");
        };
        let ginkgo = beside("ginkgo").or_else(|| which("ginkgo"));
        Ok(Suite { ginkgo, kubectl, program })
    }

    /// Its version: `v1.36.2`.
    ///
    /// # Errors
    /// When it does not say.
    pub fn version(&self) -> Result<String> {
        Ok(text(command(&self.program).arg("--version"))?.trim().to_owned())
    }

    /// The names of all conformance tests. Nothing is run.
    ///
    /// # Errors
    /// When the suite fails.
    pub fn names(&self, reports: &Path) -> Result<BTreeSet<String>> {
        let file = reports.join("names.json");
        let mut dry = self.environment(command(&self.program));
        dry.args([
            "--ginkgo.dry-run",
            "--ginkgo.silence-skips",
            "--ginkgo.focus",
            MARK,
            "--provider=skeleton",
        ]);
        dry.arg("--ginkgo.json-report").arg(&file).arg("--kubeconfig=/nonexistent");
        captured(&mut dry)?;
        Ok(Report::read(&file)?.names())
    }

    /// Runs a selection against a cluster.
    ///
    /// # Errors
    /// When the suite cannot be started or leaves no report; failed tests are no error.
    pub fn run(
        &self,
        kubeconfig: &Path,
        reports: &Path,
        selection: &Selection<'_>,
        procs: u32,
        minutes: u32,
    ) -> Result<Report> {
        let (log, file) = (reports.join("e2e.log"), reports.join("report.json"));
        let _ = fs::remove_file(&file);
        let mut run = self.environment(match &self.ginkgo {
            Some(ginkgo) => command(ginkgo),
            None => command(&self.program),
        });
        let own = if self.ginkgo.is_some() { "--" } else { "--ginkgo." };
        if let Some(ginkgo) = &self.ginkgo {
            eprintln!("{procs} processes by {}", ginkgo.display());
            run.arg("run").arg(format!("--procs={procs}")).arg(format!("--output-dir={}", reports.display()));
            run.arg("--json-report=report.json");
        } else {
            eprintln!("there is no ginkgo beside the suite or on PATH: one test at a time");
            run.arg(format!("--ginkgo.json-report={}", file.display()));
        }
        run.args([
            format!("{own}no-color"),
            format!("{own}silence-skips"),
            format!("{own}timeout={minutes}m"),
        ]);
        run.arg(format!("{own}focus={}", selection.focus()));
        if let Some(skip) = selection.skip {
            run.arg(format!("{own}skip={skip}"));
        }
        if self.ginkgo.is_some() {
            run.arg(&self.program).arg("--");
        }
        run.arg(format!("--kubeconfig={}", kubeconfig.display()));
        run.arg(format!("--kubectl-path={}", self.kubectl.display()));
        run.arg(format!("--report-dir={}", reports.display()));
        run.args(["--provider=skeleton", "--disable-log-dump", "--allowed-not-ready-nodes=0"]);
        self.watch(run, &log)?;
        Report::read(&file).with_context(|| format!("the suite did not finish; see {}", log.display()))
    }

    /// Runs it to its end and shows how far it is.
    fn watch(&self, mut run: Command, log: &Path) -> Result<()> {
        let out = File::create(log).with_context(|| format!("{}", log.display()))?;
        let step = Step::begin(format!("running the suite; its log is {}", log.display()));
        let mut child = run
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut said = String::new();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            let now = progress(&fs::read_to_string(log).unwrap_or_default());
            if now != said {
                step.note(&now);
                said = now;
            }
            std::thread::sleep(Duration::from_secs(1));
        };
        step.done(&format!("{}, {status}", progress(&fs::read_to_string(log).unwrap_or_default())));
        Ok(())
    }

    fn environment(&self, mut run: Command) -> Command {
        run.env("KUBERNETES_CONFORMANCE_TEST", "y").env("NO_PROXY", "*").env("no_proxy", "*");
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            run.env_remove(proxy);
        }
        run
    }
}

impl Selection<'_> {
    /// One regular expression for all of it; ginkgo matches it against the whole name.
    fn focus(&self) -> String {
        match (self.names, self.focus) {
            (Some(names), _) => names.iter().map(|name| escape(name)).collect::<Vec<_>>().join("|"),
            // The mark stands at the end of a name, most of the time; what is looked for may be before or after.
            (None, Some(focus)) => format!("(?:{focus}).*{MARK}|{MARK}.*(?:{focus})"),
            (None, None) => MARK.to_owned(),
        }
    }
}

/// A text as a regular expression that matches just it.
fn escape(text: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// How many tests have ended, by the marks that ginkgo writes as they do.
fn progress(log: &str) -> String {
    let ended = log.matches('•').count();
    let failed = log.matches("• [FAILED]").count() + log.matches("• [PANICKED]").count();
    format!("{} passed, {failed} failed", ended - failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_itself_alone() {
        assert_eq!(escape("[sig-x] a (b) c."), r"\[sig-x\] a \(b\) c\.");
        let names = BTreeSet::from(["[a] x".to_owned(), "[b] y".to_owned()]);
        let selection = Selection { focus: None, skip: None, names: Some(&names) };
        assert_eq!(selection.focus(), r"\[a\] x|\[b\] y");
    }

    #[test]
    fn progress_counts_marks() {
        assert_eq!(progress("••\n• [FAILED] [1 s]\n•"), "3 passed, 1 failed");
    }
}
