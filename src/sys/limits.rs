//! Bounds that the kernel keeps for this process: memory for data and CPU time.

#[cfg(target_os = "linux")]
use super::host::Host;
use crate::units::Bytes;
use crate::{Error, Result};
#[cfg(target_os = "linux")]
use std::path::Path;
use std::time::Duration;

/// The machine's memory, or what the control groups around this process leave of it (a container's limit); nothing where the system
/// does not tell.
#[cfg(target_os = "linux")]
pub fn total_memory() -> Option<Bytes> {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).checked_mul(u64::from(info.mem_unit))?;
    Some(Bytes(group_limit(&Host::default()).map_or(machine, |limit| limit.min(machine))))
}

/// The smallest limit on memory of the control groups that this process is in, in bytes (kernel documentation, `cgroup-v2` and
/// `cgroup-v1/memory`).
#[cfg(target_os = "linux")]
fn group_limit(host: &Host) -> Option<u64> {
    let groups = host.text("proc/self/cgroup")?;
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|c| c == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        // In a container's own name space the path ends at its root.
        let ancestors = Path::new(path.trim_start_matches('/')).ancestors();
        ancestors.filter_map(|group| host.number(Path::new(root).join(group).join(file))).collect()
    });
    limits.min()
}

/// Bounds the memory of this process for data: heap, stacks and private mappings that can be written (`RLIMIT_DATA`, Linux 4.7 and
/// later). Not its address space, of which thread pools and allocators set aside more than they use, and of which mapped files need much.
///
/// # Errors
/// Environment: a lower bound is set already, and only root may raise it.
#[cfg(target_os = "linux")]
pub fn limit_memory(limit: Bytes) -> Result<()> {
    set(rustix::process::Resource::Data, limit.0, "memory")
}

/// Bounds the CPU time of this process, counted from its start, all threads together, in whole seconds: then SIGXCPU ends it.
/// May be called again with another bound.
///
/// # Errors
/// As [`limit_memory`].
#[cfg(target_os = "linux")]
pub fn limit_cpu(limit: Duration) -> Result<()> {
    set(rustix::process::Resource::Cpu, limit.as_secs().saturating_add(1), "CPU time")
}

/// Keeps this process from writing a core file when a signal ends it: it would hold the user's samples, and writing it takes time.
/// (Where the system hands cores to a program, that program decides.)
///
/// # Errors
/// Environment: the system refuses it.
#[cfg(target_os = "linux")]
pub fn no_core_file() -> Result<()> {
    set(rustix::process::Resource::Core, 0, "size of core files")
}

/// Sets the soft limit, at most the hard one, which stays: a later call may raise it again.
#[cfg(target_os = "linux")]
fn set(resource: rustix::process::Resource, value: u64, what: &str) -> Result<()> {
    use rustix::process::{Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(resource).maximum;
    let current = Some(hard.map_or(value, |hard| value.min(hard)));
    setrlimit(resource, Rlimit { current, maximum: hard }).map_err(|e| Error::environment(format!("the {what} cannot be bounded: {e}")))
}

/// Known on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn total_memory() -> Option<Bytes> {
    None
}

/// Kept on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn no_core_file() -> Result<()> {
    Ok(())
}

/// Kept on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn limit_memory(_limit: Bytes) -> Result<()> {
    Ok(())
}

/// Kept on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn limit_cpu(_limit: Duration) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_containers_limit_counts() {
        for (groups, file, text, expect) in [
            ("0::/a/b\n", "sys/fs/cgroup/a/memory.max", "1048576\n", Some(1 << 20)),
            ("0::/\n", "sys/fs/cgroup/memory.max", "2097152\n", Some(2 << 20)),
            ("0::/a\n", "sys/fs/cgroup/a/memory.max", "max\n", None),
            ("3:cpu,memory:/c\n0::/\n", "sys/fs/cgroup/memory/c/memory.limit_in_bytes", "4096\n", Some(4096)),
            ("3:cpu:/c\n", "sys/fs/cgroup/cpu/c/memory.limit_in_bytes", "4096\n", None),
        ] {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in [("proc/self/cgroup", groups), (file, text)] {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            assert_eq!(group_limit(&Host::at(root.path())), expect, "{groups}");
        }
    }

    /// A bound far above what this process needs, since it holds for the other tests as well.
    #[test]
    #[cfg(target_os = "linux")]
    fn limits_are_set_and_may_be_raised() {
        use rustix::process::{Resource, getrlimit};
        let total = total_memory().unwrap();
        assert!(total.0 > 64 << 20, "{total}");
        for bytes in [1u64 << 46, 1 << 47] {
            limit_memory(Bytes(bytes)).unwrap();
            assert_eq!(getrlimit(Resource::Data).current, Some(bytes));
        }
        for seconds in [1_000_000, 2_000_000] {
            limit_cpu(Duration::from_millis(1000 * seconds - 500)).unwrap();
            assert_eq!(getrlimit(Resource::Cpu).current, Some(seconds));
        }
    }
}
