//! What the node itself uses: of the whole machine where the node is all of it, else of the node's cgroup.

use crate::cgroup::Cgroups;

/// Use of a node at one moment, since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of all cores together.
    pub cpu_nanos: u64,
    /// Bytes in use, caches included.
    pub memory: u64,
    /// Bytes in use that could not be given back at once.
    pub working_set: u64,
}

/// Nanoseconds of a tick in which `/proc/stat` counts.
const TICK: u64 = 10_000_000;

/// The number after a name, in a file of such lines.
fn number(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        })
        .unwrap_or(0)
}

/// The machine, of `/proc/stat` and `/proc/meminfo`.
fn machine(stat: &str, meminfo: &str) -> Usage {
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted as users already.
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    let busy: u64 =
        ticks.iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4) && *i < 8).map(|(_, t)| t).sum();
    let kib = |name: &str| number(meminfo, name) * 1024;
    let memory = kib("MemTotal").saturating_sub(kib("MemFree"));
    Usage { cpu_nanos: busy * TICK, memory, working_set: memory.saturating_sub(kib("Inactive(file)")) }
}

/// When the machine began, in seconds since the epoch.
pub fn booted() -> i64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    i64::try_from(number(&stat, "btime ")).unwrap_or(0)
}

/// Reads what a node's cgroup uses; that of the machine for the root.
pub fn read(cgroups: &Cgroups, path: &str) -> Usage {
    if path.trim_matches('/').is_empty() {
        let file = |at: &str| std::fs::read_to_string(at).unwrap_or_default();
        return machine(&file("/proc/stat"), &file("/proc/meminfo"));
    }
    let file = |controller: &str, name: &str| cgroups.read(controller, path, name).unwrap_or_default();
    let whole = |text: String| text.trim().parse::<u64>().unwrap_or(0);
    let (cpu_nanos, memory, inactive) = if cgroups.pure_v2() {
        let cpu = number(&file("cpu", "cpu.stat"), "usage_usec ") * 1000;
        let inactive = number(&file("memory", "memory.stat"), "inactive_file ");
        (cpu, whole(file("memory", "memory.current")), inactive)
    } else {
        let inactive = number(&file("memory", "memory.stat"), "total_inactive_file ");
        (whole(file("cpuacct", "cpuacct.usage")), whole(file("memory", "memory.usage_in_bytes")), inactive)
    };
    Usage { cpu_nanos, memory, working_set: memory.saturating_sub(inactive) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_machine() {
        let stat = "cpu  10 1 5 1000 99 2 3 4 50 0\ncpu0 1 1 1 1\n";
        let meminfo =
            "MemTotal:    1000 kB\nMemFree:      400 kB\nInactive:   500 kB\nInactive(file):  100 kB\n";
        let want = Usage { cpu_nanos: 25 * TICK, memory: 600 * 1024, working_set: 500 * 1024 };
        assert_eq!(machine(stat, meminfo), want);
        assert_eq!(machine("", ""), Usage::default());
    }

    #[test]
    fn lines_with_numbers() {
        assert_eq!(number("usage_usec 12\nuser_usec 3\n", "usage_usec "), 12);
        assert_eq!(number("inactive_file 5\ntotal_inactive_file 7\n", "total_inactive_file "), 7);
        assert_eq!(number("x", "usage_usec "), 0);
    }

    #[test]
    fn this_machine_is_used() {
        assert!(booted() > 0);
        let used = read(&Cgroups::default(), "/");
        assert!(used.cpu_nanos > 0 && used.memory > used.working_set && used.working_set > 0, "{used:?}");
    }
}
