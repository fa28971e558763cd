//! Which CPUs this process may use, and pinning to some of them.

use crate::{Error, Result};

/// The CPUs the calling thread may run on, ascending. (A `taskset`, a cpuset or a container may allow fewer than there are.)
///
/// # Errors
/// Environment: the kernel does not say.
#[cfg(target_os = "linux")]
pub fn allowed_cpus() -> Result<Vec<usize>> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).map_err(|e| Error::environment(format!("cannot read the CPU affinity: {e}")))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Pins the calling thread, and every thread it starts from now on, to `cpus`.
///
/// # Errors
/// Bad input: no CPU given or a number beyond what the kernel's mask holds. Environment: none of them is allowed here.
#[cfg(target_os = "linux")]
pub fn pin_current_thread(cpus: &[usize]) -> Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if cpus.is_empty() {
        return Err(Error::bad_input("no CPU to pin to"));
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(Error::bad_input(format!("there is no CPU {cpu}")));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set)
        .map_err(|e| Error::environment(format!("cannot pin to CPU {cpus:?}: {e}")).hint("choose CPUs that this process is allowed to use"))
}

/// Affinity is a Linux matter.
#[cfg(not(target_os = "linux"))]
pub fn allowed_cpus() -> Result<Vec<usize>> {
    Err(Error::environment("CPU affinity is known on Linux only"))
}

/// Affinity is a Linux matter.
#[cfg(not(target_os = "linux"))]
pub fn pin_current_thread(_cpus: &[usize]) -> Result<()> {
    Err(Error::environment("pinning to a CPU works on Linux only"))
}

/// The numbers in the kernel's list format (`0-3,8`), as `cpumask` and `online` files have it; `None` if it is not one.
pub fn cpu_list(text: &str) -> Option<Vec<usize>> {
    /// More CPUs than any kernel supports (`NR_CPUS` is at most 8192): such a list is garbage.
    const MOST: usize = 1 << 14;
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        for (text, expect) in [
            ("0\n", Some(vec![0])),
            ("0-2,8", Some(vec![0, 1, 2, 8])),
            ("0,32\n", Some(vec![0, 32])),
            ("", None),
            ("3-1", None),
            ("x", None),
            ("0-99999999999", None),
        ] {
            assert_eq!(cpu_list(text), expect, "{text:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pinned_thread_stays_where_it_is_pinned() {
        // In a thread of its own: affinity belongs to a thread, and the test harness reuses none of them for others.
        std::thread::spawn(|| {
            let allowed = allowed_cpus().unwrap();
            let last = *allowed.last().unwrap();
            pin_current_thread(&[last]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            let inherited = std::thread::spawn(|| allowed_cpus().unwrap()).join().unwrap();
            assert_eq!(inherited, [last]);
        })
        .join()
        .unwrap();
        assert_eq!(pin_current_thread(&[]).unwrap_err().kind(), crate::ErrorKind::BadInput);
        assert_eq!(pin_current_thread(&[1 << 20]).unwrap_err().kind(), crate::ErrorKind::BadInput);
    }
}
