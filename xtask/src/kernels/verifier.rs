//! How much the verifier walks through and how long the programs are, kernel by kernel: recorded in `ebpf/verifier.tsv`,
//! so that growth is seen when it happens and not when a kernel refuses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use skep_dataplane::trial::Trial;

use crate::layout::Layout;

/// The command that records anew.
pub const COMMAND: &str = "cargo xtask test kernels --record";

const HEAD: &str = "# What the verifier says of each program, kernel by kernel: instructions walked, over all paths, and bytes of BPF code.\n\
# Written by `cargo xtask test kernels --record`.\n\
# kernel\tprogram\tinstructions\tbytes\n";

/// What a kernel's verifier says of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Instructions that it walked, over all paths.
    pub instructions: u32,
    /// Bytes of BPF code after its rewriting.
    pub bytes: u32,
}

/// The counts of one kernel, by program.
pub type Counts = BTreeMap<String, Count>;

/// Everything that is recorded, by kernel release.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    kernels: BTreeMap<String, Counts>,
}

fn file(layout: &Layout) -> PathBuf {
    layout.root.join("ebpf/verifier.tsv")
}

/// Major and minor number of a release.
fn series(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl Ledger {
    /// Reads the file of the checkout.
    ///
    /// # Errors
    /// When it is not there, or a line cannot be understood.
    pub fn read(layout: &Layout) -> Result<Self> {
        let file = file(layout);
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut kernels: BTreeMap<String, Counts> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [kernel, program, instructions, bytes] = fields.as_slice() else {
                bail!("{line:?} has not four fields");
            };
            let count = Count { instructions: instructions.parse()?, bytes: bytes.parse()? };
            kernels.entry((*kernel).to_owned()).or_default().insert((*program).to_owned(), count);
        }
        Ok(Self { kernels })
    }

    /// Writes the file of the checkout.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let file = file(layout);
        fs::write(&file, self.render()).with_context(|| format!("{}", file.display()))
    }

    fn render(&self) -> String {
        let mut kernels: Vec<_> = self.kernels.iter().collect();
        kernels.sort_by_key(|(release, _)| (series(release), release.to_owned()));
        let mut text = HEAD.to_owned();
        for (release, counts) in kernels {
            for (program, Count { instructions, bytes }) in counts {
                let _ = writeln!(text, "{release}\t{program}\t{instructions}\t{bytes}");
            }
        }
        text
    }

    /// Puts a kernel's counts in the place of those of its series.
    pub fn record(&mut self, release: &str, counts: Counts) {
        self.kernels.retain(|known, _| series(known) != series(release));
        self.kernels.insert(release.to_owned(), counts);
    }

    /// What is recorded of a kernel, or of one of its series: verifiers change little within one.
    #[must_use]
    pub fn of(&self, release: &str) -> Option<(&str, &Counts)> {
        let like = |known: &&String| series(known) == series(release);
        let exact = self.kernels.get_key_value(release);
        let (known, counts) = exact.or_else(|| self.kernels.iter().find(|(known, _)| like(known)))?;
        Some((known, counts))
    }

    /// Where programs have grown, or are not recorded; nothing for a kernel of whose series nothing is recorded.
    #[must_use]
    pub fn faults(&self, release: &str, counts: &Counts) -> Vec<String> {
        let Some((known, recorded)) = self.of(release) else { return Vec::new() };
        let mut faults = Vec::new();
        for (program, now) in counts {
            let Some(then) = recorded.get(program) else {
                faults.push(format!("{program} is not recorded for {known}"));
                continue;
            };
            for (what, now, then) in [
                ("instructions for the verifier", now.instructions, then.instructions),
                ("bytes of code", now.bytes, then.bytes),
            ] {
                if now > allowed(then) {
                    faults.push(format!("{program} has {now} {what} on {release}, {then} are recorded"));
                }
            }
        }
        for program in recorded.keys().filter(|program| !counts.contains_key(*program)) {
            faults.push(format!("{program} is recorded for {known}, and there is no such program"));
        }
        faults
    }
}

/// How large a number may become before it counts as growth: compilers of different versions differ by less.
fn allowed(recorded: u32) -> u32 {
    recorded + (recorded / 20).max(64)
}

/// What to say where there are faults.
///
/// # Errors
/// When there are any.
pub fn judge(faults: &[String]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nWhere that is meant, `{COMMAND}` records the numbers anew; commit ebpf/verifier.tsv with the change.",
        faults.join("\n")
    );
}

/// What the running kernel's verifier says of the object that was built last.
///
/// # Errors
/// When it refuses a program.
pub fn running(layout: &Layout) -> Result<(String, Counts)> {
    let release = crate::kernel::sysctl("kernel/osrelease")?;
    let trial = Trial::load(&layout.bin().join("skep-ebpf.o"), None)?;
    let counts = trial
        .verified()
        .iter()
        .map(|one| (one.name.clone(), Count { instructions: one.processed, bytes: one.translated_bytes }));
    Ok((release, counts.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: u32, bytes: u32) -> Counts {
        Counts::from([("skep_to_pod".to_owned(), Count { instructions, bytes })])
    }

    #[test]
    fn the_file_survives_being_read_and_written_in_the_order_of_versions() {
        let mut ledger = Ledger::default();
        ledger.record("6.12.117+deb13-cloud-amd64", counts(2000, 700));
        ledger.record("6.1.0-50-cloud-amd64", counts(1000, 700));
        let text = ledger.render();
        assert_eq!(Ledger::parse(&text).unwrap(), ledger);
        assert!(text.find("6.1.0").unwrap() < text.find("6.12").unwrap(), "{text}");
        assert!(Ledger::parse("a\tb\t3\n").is_err());
        ledger.record("6.1.0-51-cloud-amd64", counts(1100, 700));
        assert_eq!(ledger.kernels.len(), 2, "of a series there is one");
    }

    #[test]
    fn growth_is_seen_and_a_little_is_not() {
        let mut ledger = Ledger::default();
        ledger.record("6.1.0-50-cloud-amd64", counts(10_000, 700));
        let faults = |release: &str, counts: &Counts| ledger.faults(release, counts);
        assert!(faults("6.1.0-50-cloud-amd64", &counts(10_500, 764)).is_empty());
        assert_eq!(faults("6.1.0-50-cloud-amd64", &counts(10_501, 765)).len(), 2);
        assert_eq!(faults("6.1.0-52-cloud-amd64", &counts(20_000, 700)).len(), 1, "of the same series");
        assert!(faults("6.10.1", &counts(20_000, 700)).is_empty(), "nothing is known of it");
        assert_eq!(faults("6.1.0-50-cloud-amd64", &Counts::new()).len(), 1, "a program that went");
        let message = judge(&faults("6.1.9", &counts(20_000, 700))).unwrap_err().to_string();
        assert!(message.contains("--record") && message.contains("10000"), "{message}");
    }
}
