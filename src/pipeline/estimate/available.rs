//! The memory that a job may take where nobody says how much.

use std::fs;
use std::path::Path;

/// Three quarters of the memory that is free, in the machine and in the control groups of the process,
/// where the system tells; else 8 GiB.
pub(in super::super) fn available() -> u64 {
    let kilobytes = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
    };
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(kilobytes);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| groups(Path::new("/sys/fs/cgroup"), &text));
    machine.into_iter().chain(group).min().map_or(8 << 30, |bytes| bytes / 4 * 3)
}

/// What the limits on the control group in `own`, as /proc/self/cgroup tells it, and on those around it
/// leave; files that are only cached count as free. Version 2 of control groups.
fn groups(root: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let left = |group: &Path| {
        let read = |name| fs::read_to_string(group.join(name)).ok();
        let limit: u64 = read("memory.max")?.trim().parse().ok()?;
        let used: u64 = read("memory.current")?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
        let cached = cached.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    };
    let inner = root.join(path);
    inner.ancestors().take_while(|group| group.starts_with(root)).filter_map(left).min()
}

#[cfg(test)]
mod tests;
