//! CPU time of another process, exactly.

use std::io;
use std::time::Duration;

/// CPU time that all threads of process `pid`, living and ended, have used so far, in nanoseconds as the scheduler accounts
/// them. (`/proc/PID/stat` counts 10 ms jiffies, and `/proc/PID/task/*/schedstat` forgets threads that have ended.) Children
/// are not included.
///
/// # Errors
/// `NotFound` when there is no such process; `Unsupported` away from Linux.
#[cfg(target_os = "linux")]
pub fn process_cpu_time(pid: u32) -> io::Result<Duration> {
    let raw = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    if raw == 0 {
        // The C library takes 0 for the caller, which nobody here means.
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` lives through the call, which writes one `clockid_t` to it and keeps no pointer.
    let code = unsafe { libc::clock_getcpuclockid(raw, &mut clock) };
    if code != 0 {
        return Err(not_found(io::Error::from_raw_os_error(code)));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which writes one `timespec` to it and keeps no pointer; an unknown clock is an
    // error code, not undefined behaviour.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(not_found(io::Error::last_os_error()));
    }
    Ok(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Number and CPU time (nanoseconds) of each living thread of process `pid`. The kernel brings the time of a running thread up
/// to date at its ticks only, every 1 to 10 ms.
///
/// # Errors
/// There is no such process, or the kernel keeps no such times (`CONFIG_SCHED_INFO`).
pub fn thread_cpu_times(pid: u32) -> io::Result<Vec<(u32, u64)>> {
    let mut times = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A thread may end between the two.
        let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
        if let Some(time) = text.split_whitespace().next().and_then(|t| t.parse().ok()) {
            times.push((thread, time));
        }
    }
    if times.is_empty() { Err(io::ErrorKind::Unsupported.into()) } else { Ok(times) }
}

/// The kernel says `ESRCH` when the process has ended before the first call and `EINVAL` when it ended between the two.
#[cfg(target_os = "linux")]
fn not_found(e: io::Error) -> io::Error {
    match e.raw_os_error() {
        Some(libc::ESRCH | libc::EINVAL) => io::Error::new(io::ErrorKind::NotFound, "no such process"),
        _ => e,
    }
}

/// Process clocks of other processes are a Linux matter.
#[cfg(not(target_os = "linux"))]
pub fn process_cpu_time(_pid: u32) -> io::Result<Duration> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use std::time::Instant;

    #[test]
    fn counts_a_thread_that_has_ended() {
        let me = std::process::id();
        let before = process_cpu_time(me).unwrap();
        let spun = std::thread::spawn(|| {
            let own = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let start = own();
            loop {
                let now = own();
                let spent = (now.tv_sec - start.tv_sec) * 1_000_000_000 + now.tv_nsec - start.tv_nsec;
                if spent > 20_000_000 {
                    return spent as u64;
                }
            }
        })
        .join()
        .unwrap();
        assert!((process_cpu_time(me).unwrap() - before).as_nanos() as u64 >= spun);
    }

    #[test]
    fn another_process_and_its_end() {
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while process_cpu_time(child.id()).unwrap() < Duration::from_millis(5) {
            assert!(Instant::now() < deadline, "the child never ran");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process_cpu_time(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(process_cpu_time(0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
