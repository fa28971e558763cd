//! Bounds that the kernel keeps for this process: memory for data and CPU time.

use crate::units::Bytes;
use crate::{Error, Result};
use std::time::Duration;

/// The machine's memory; nothing where the system does not tell.
#[cfg(target_os = "linux")]
pub fn total_memory() -> Option<Bytes> {
    let info = rustix::system::sysinfo();
    Some(Bytes((info.totalram as u64).checked_mul(u64::from(info.mem_unit))?))
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
