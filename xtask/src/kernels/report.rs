//! What a kernel said on its console, in the words of `xtask/guest`, and whether that is as it should be.

use std::collections::BTreeMap;

use super::table::Kernel;
use super::verifier::Count;

/// What is known after a kernel has run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What `uname -r` said.
    pub release: String,
    /// What the verifier said of each program.
    pub programs: BTreeMap<String, Count>,
    /// Each test with whether it passed.
    pub tests: BTreeMap<String, bool>,
    /// Test programs with their exit codes.
    pub ended: BTreeMap<String, i32>,
    /// What failed apart from tests, in the words it was told.
    pub failures: Vec<String>,
    /// Whether it came to its end.
    pub complete: bool,
}

/// Reads a console.
#[must_use]
pub fn parse(console: &str) -> Report {
    let mut report = Report::default();
    let mut in_failure = false;
    let mut running: Option<String> = None;
    for line in console.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(more) = line.strip_prefix("@skep-more ") {
            if let (true, Some(last)) = (in_failure, report.failures.last_mut()) {
                last.push('\n');
                last.push_str(more);
            }
            continue;
        }
        if let Some(fact) = line.strip_prefix("@skep ") {
            in_failure = fact.starts_with("failed ");
            learn(&mut report, fact);
            continue;
        }
        let mut result = line;
        if let Some((name, rest)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            // Until it says otherwise: it may be the kernel that ends here.
            report.tests.insert(name.to_owned(), false);
            running = Some(name.to_owned());
            result = rest;
        }
        // Something else may have been printed before the result.
        if (result.ends_with("ok") || result.ends_with("FAILED"))
            && let Some(name) = running.take()
        {
            report.tests.insert(name, result.ends_with("ok"));
        }
    }
    report
}

fn learn(report: &mut Report, fact: &str) {
    let words: Vec<&str> = fact.split(' ').collect();
    match words.as_slice() {
        ["kernel", release] => report.release = (*release).to_owned(),
        ["program", name, instructions, bytes] => {
            if let (Ok(instructions), Ok(bytes)) = (instructions.parse(), bytes.parse()) {
                report.programs.insert((*name).to_owned(), Count { instructions, bytes });
            }
        }
        ["done", name, code] => {
            report.ended.insert((*name).to_owned(), code.parse().unwrap_or(-1));
        }
        ["failed", ..] => report.failures.push(fact.trim_start_matches("failed ").to_owned()),
        ["end"] => report.complete = true,
        _ => {}
    }
}

/// What is not as it should be; `programs` are the test programs that ran.
#[must_use]
pub fn faults(kernel: &Kernel, report: &Report, programs: &[String]) -> Vec<String> {
    let mut faults = report.failures.clone();
    if !report.complete {
        faults.push("it did not come to its end".to_owned());
    }
    if report.programs.is_empty() {
        faults.push("it took no program".to_owned());
    }
    for program in programs {
        match report.ended.get(program) {
            None => faults.push(format!("the tests of {program} did not end")),
            // A program whose tests failed ends with 101, and its tests tell which.
            Some(0 | 101) => {}
            Some(code) => faults.push(format!("the tests of {program} ended with {code}")),
        }
    }
    for (test, passed) in &report.tests {
        let lacking = kernel.lacking.iter().find(|(name, _)| name == test);
        match (passed, lacking) {
            (false, None) => faults.push(format!("{test} failed")),
            (true, Some((_, why))) => {
                faults.push(format!("{test} passed, though {why}: take it off the list"));
            }
            _ => {}
        }
    }
    for (name, _) in kernel.lacking.iter().filter(|(name, _)| !report.tests.contains_key(*name)) {
        faults.push(format!("there is no test {name}: take it off the list"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "SeaBIOS\r\n\r\n@skep kernel 6.1.0-50-cloud-amd64\r\n@skep program skep_to_pod 2574 6840\r\n\
        @skep begin packets\r\ntest one ... ok\r\ntest two ... maps: 3 KiB\r\nok\r\n\
        test three ... FAILED\r\n@skep done packets 101\r\n@skep failed load skep_x: refused\r\n@skep-more R1 !read_ok\r\n@skep end\r\n";

    #[test]
    fn a_console_is_read() {
        let report = parse(CONSOLE);
        assert_eq!(report.release, "6.1.0-50-cloud-amd64");
        assert_eq!(report.programs["skep_to_pod"], Count { instructions: 2574, bytes: 6840 });
        let tests: Vec<bool> = ["one", "two", "three"].map(|name| report.tests[name]).into();
        assert_eq!(tests, [true, true, false]);
        assert_eq!(report.failures, ["load skep_x: refused\nR1 !read_ok"]);
        assert!(report.complete);
        assert_eq!(report.ended["packets"], 101);
    }

    #[test]
    fn what_is_known_to_be_lacking_is_no_fault_and_what_passes_after_all_is() {
        let kernel = |lacking| Kernel { suite: "x", series: None, lacking };
        let mut report = parse(CONSOLE);
        report.failures.clear();
        let ran = ["packets".to_owned()];
        assert_eq!(faults(&kernel(&[("three", "it is old")]), &report, &ran), Vec::<String>::new());
        assert_eq!(faults(&kernel(&[]), &report, &ran), ["three failed"]);
        assert_eq!(faults(&kernel(&[("one", "it is old"), ("three", "")]), &report, &ran).len(), 1);
        let more = ["packets".to_owned(), "sockets".to_owned()];
        assert_eq!(faults(&kernel(&[("three", "")]), &report, &more), ["the tests of sockets did not end"]);
        let cut = parse("@skep kernel 1\n");
        assert_eq!(faults(&kernel(&[]), &cut, &[]).len(), 2, "no end, no programs");
    }
}
