//! Counters of `perf_event_open(2)`, with its errors told apart.

use std::fmt;
use std::io;

/// Why a perf counter could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// `EACCES`: `perf_event_paranoid` and the missing capability forbid it.
    Paranoid,
    /// `EPERM`: something stricter than the kernel's own setting forbids it, mostly a container's seccomp filter or a lockdown.
    Forbidden,
    /// `ENOENT`, `EINVAL`: the PMU has no such event on this CPU.
    NoEvent,
    /// `ENODEV`, `ENXIO`: there is no such device, or that CPU is offline.
    NoDevice,
    /// `ENOSYS`: the kernel (or a filter) has no such call; also every system that is not Linux.
    NoSyscall,
    /// Anything else.
    Other(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Paranoid => f.write_str("`perf_event_paranoid` forbids it"),
            OpenError::Forbidden => f.write_str("`perf_event_open` is forbidden here"),
            OpenError::NoEvent => f.write_str("the CPU has no such event"),
            OpenError::NoDevice => f.write_str("there is no such device"),
            OpenError::NoSyscall => f.write_str("there is no `perf_event_open` here"),
            OpenError::Other(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    #[cfg(target_os = "linux")]
    fn from(e: io::Error) -> Self {
        match e.raw_os_error() {
            Some(libc::EACCES) => OpenError::Paranoid,
            Some(libc::EPERM) => OpenError::Forbidden,
            Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP) => OpenError::NoEvent,
            Some(libc::ENODEV | libc::ENXIO) => OpenError::NoDevice,
            Some(libc::ENOSYS) => OpenError::NoSyscall,
            _ => OpenError::Other(e),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn from(e: io::Error) -> Self {
        OpenError::Other(e)
    }
}

/// An open counter of a whole CPU, running since it was opened.
#[derive(Debug)]
pub struct Counter {
    #[cfg(target_os = "linux")]
    inner: perf_event::Counter,
}

/// An event as `perf_event_attr` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// `type`: number of the PMU.
    pub pmu: u32,
    /// `config`: number of the event within it.
    pub config: u64,
}

impl Counter {
    /// Opens `event` for all processes on `cpu` (pid = −1), as the RAPL events want it: no exclusions, no group, not inherited.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg(target_os = "linux")]
    pub fn open(event: Event, cpu: usize) -> Result<Self, OpenError> {
        let mut builder = perf_event::Builder::new(perf_event::events::Software::DUMMY);
        builder.any_pid().one_cpu(cpu).include_kernel().include_hv();
        builder.attrs_mut().type_ = event.pmu;
        builder.attrs_mut().config = event.config;
        let mut inner = builder.build().map_err(OpenError::from)?;
        inner.enable().map_err(OpenError::from)?;
        Ok(Counter { inner })
    }

    /// perf is a Linux matter.
    #[cfg(not(target_os = "linux"))]
    pub fn open(_event: Event, _cpu: usize) -> Result<Self, OpenError> {
        Err(OpenError::NoSyscall)
    }

    /// The count so far.
    ///
    /// # Errors
    /// Whatever reading the file descriptor gives; a short read among them.
    #[cfg(target_os = "linux")]
    pub fn read(&mut self) -> io::Result<u64> {
        self.inner.read()
    }

    /// perf is a Linux matter.
    #[cfg(not(target_os = "linux"))]
    pub fn read(&mut self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let of = |code| OpenError::from(io::Error::from_raw_os_error(code));
        assert!(matches!(of(libc::EACCES), OpenError::Paranoid));
        assert!(matches!(of(libc::EPERM), OpenError::Forbidden));
        assert!(matches!(of(libc::ENOENT), OpenError::NoEvent));
        assert!(matches!(of(libc::ENODEV), OpenError::NoDevice));
        assert!(matches!(of(libc::ENOSYS), OpenError::NoSyscall));
        assert!(matches!(of(libc::EMFILE), OpenError::Other(_)));
    }

    /// The real system call through an event every kernel has: `PERF_COUNT_SW_CPU_CLOCK` runs on all CPUs at all times.
    #[test]
    fn the_real_call_counts_or_says_why_not() {
        let event = Event { pmu: 1, config: 0 };
        match Counter::open(event, crate::sys::allowed_cpus().unwrap()[0]) {
            Ok(mut counter) => {
                let before = counter.read().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
                assert!(counter.read().unwrap() > before);
            }
            Err(e) => assert!(matches!(e, OpenError::Paranoid | OpenError::Forbidden | OpenError::NoSyscall), "{e:?}"),
        }
    }

    #[test]
    fn a_pmu_that_does_not_exist() {
        let error = Counter::open(Event { pmu: 0x7fff_fff0, config: 0 }, 0).unwrap_err();
        assert!(!matches!(error, OpenError::Other(_)), "{error:?}");
    }
}
