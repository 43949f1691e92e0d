//! Processes in the background: started apart from the terminal, known by pid *and* start time, so that a pid the kernel
//! gave to somebody else is never taken for ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Program name, cut to 15 bytes.
    pub name: String,
    /// State letter; `Z` is a process that ended and was not yet waited for.
    pub state: char,
    /// Parent's pid.
    pub parent: i32,
    /// User and system time, in clock ticks.
    pub ticks: u64,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

impl Stat {
    /// Reads `/proc/PID/stat`; `None` when there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may hold any character, so fields are counted from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Stat {
            name,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            ticks: number(11)? + number(12)?,
            started: number(19)?,
        })
    }
}

/// How many threads a process has, one that has ended and is not waited for included.
fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count())
}

impl Process {
    /// The process that has this pid now.
    #[must_use]
    pub fn now(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        // The first thread may have ended while another still waits for the disk; until that one is gone too,
        // ports and locks are held.
        let ended = stat.state == 'Z' && threads(pid) <= 1;
        (!ended).then_some(Process { pid, started: stat.started })
    }

    /// Whether it still runs. One that ended and is our child is waited for, so that it goes away.
    #[must_use]
    pub fn alive(&self) -> bool {
        let alive = Self::now(self.pid) == Some(*self);
        if !alive {
            let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        }
        alive
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits until it has ended; `false` when it has not within `limit`.
    #[must_use]
    pub fn wait_gone(&self, limit: Duration) -> bool {
        until(limit, || !self.alive())
    }

    /// Reads the process a file names; `None` when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold a process.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        match fs::read(file) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{}", file.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}", file.display())),
        }
    }

    /// Writes it to a file for a later [`Process::read`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_vec(self)?).with_context(|| format!("{}", file.display()))
    }
}

/// Asks `done` again and again until it says yes; `false` when it has not within `limit`.
#[must_use]
pub fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts `command` in a session of its own with its output appended to `log`, and leaves it running.
///
/// # Errors
/// When it cannot be started.
pub fn daemon(command: &std::process::Command, log: &Path) -> Result<Process> {
    let out =
        File::options().create(true).append(true).open(log).with_context(|| format!("{}", log.display()))?;
    // setsid(1) keeps the pid: a process just forked leads no group, so it need not fork again.
    let mut apart = crate::run::command("setsid");
    apart.arg(command.get_program());
    let mut apart = crate::run::wrapped(apart, command.get_args(), command);
    let child = apart
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot start {}", crate::run::shown(command)))?;
    let pid = i32::try_from(child.id())?;
    match Process::now(pid) {
        Some(process) => Ok(process),
        None => bail!("{} ended at once: {}", crate::run::shown(command), tail(log, 5)),
    }
}

/// Does something for each item, all at once, a thread each.
///
/// # Errors
/// The first of theirs, once all have ended.
pub fn side_by_side<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|_| bail!("a thread panicked"))).collect()
    });
    results.into_iter().collect()
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Every process by pid.
#[must_use]
pub fn all() -> BTreeMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .collect()
}

/// The command line of a process, word by word.
#[must_use]
pub fn words(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// `roots` and all that descend from them.
#[must_use]
pub fn with_descendants(roots: &BTreeSet<i32>, all: &BTreeMap<i32, Stat>) -> BTreeSet<i32> {
    let mut found = roots.clone();
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, stat)| found.contains(&stat.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let line = "42 (a) S (b) S 7 42 42 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 1 0 12345 1 2";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { name: "a) S (b".into(), state: 'S', parent: 7, ticks: 110, started: 12345 });
        assert_eq!(Stat::parse("garbage"), None);
    }

    #[test]
    fn a_pid_with_another_start_time_is_not_ours() {
        let me = Process::now(std::process::id() as i32).unwrap();
        assert!(me.alive());
        assert!(!Process { started: me.started + 1, ..me }.alive());
    }

    #[test]
    fn a_daemon_logs_and_ends() {
        let log = std::env::temp_dir().join(format!("skep-xtask-daemon-{}", std::process::id()));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo $SAID; exec sleep 60"]).env("SAID", "hello");
        let process = daemon(&command, &log).unwrap();
        assert!(until(Duration::from_secs(10), || tail(&log, 1) == "hello"));
        assert!(process.alive());
        process.signal(Signal::SIGKILL);
        assert!(process.wait_gone(Duration::from_secs(10)));
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn descendants_are_found_over_several_generations() {
        let stat = |parent| Stat { name: String::new(), state: 'S', parent, ticks: 0, started: 0 };
        let all = BTreeMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (4, stat(3)), (5, stat(1))]);
        assert_eq!(with_descendants(&BTreeSet::from([2]), &all), BTreeSet::from([2, 3, 4]));
    }
}
