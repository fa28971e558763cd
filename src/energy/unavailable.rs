//! Why a meter cannot be used here, exactly, and the narrowest thing that would change it.

use super::tree::Tree;
use crate::sys::perf::OpenError;
use crate::sys::{Host, container};
use serde::Serialize;
use std::io;
use std::path::Path;

/// Why a meter is not there, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unavailable {
    /// The cause on this machine.
    pub reason: String,
    /// The narrowest remedy.
    pub fix: String,
}

const ESTIMATE: &str = "use the estimator, or a machine that has the counter";

impl Unavailable {
    pub(super) fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Unavailable { reason: reason.into(), fix: fix.into() }
    }

    /// There is no powercap zone with a package in `tree`.
    pub(super) fn no_zones(tree: &Tree, host: &Host) -> Self {
        let class = tree.root().join("class/powercap");
        if tree.is_given() {
            return Self::new(
                format!("there is no zone named `package-N` under `{}`", class.display()),
                "give a folder that is built like `/sys`: `class/powercap/*/name` and `energy_uj` beside it",
            );
        }
        // Container runtimes mask the devices with an empty tmpfs, which leaves the class folder or its links in place.
        let devices = tree.root().join("devices/virtual/powercap");
        let masked = devices.is_dir() && !tree.is_real(&devices);
        match container(host) {
            _ if masked => Self::new(
                format!("`{}` is masked, as container runtimes do (CVE-2020-8694)", devices.display()),
                "run on the host, or mount that one folder read-only into the container and give it read access by a group",
            ),
            Some(runtime) if !host.cpu().is_virtual() => Self::new(
                format!("there is no powercap zone in this {runtime} container"),
                "run on the host, or mount `/sys/devices/virtual/powercap` read-only into the container",
            ),
            _ => Self::no_counter(host, "powercap zone", "intel_rapl_msr"),
        }
    }

    /// Neither the interface nor a sign of a mask: what kind of machine this is decides.
    fn no_counter(host: &Host, what: &str, module: &str) -> Self {
        if host.cpu().is_virtual() {
            Self::new(format!("this is a virtual machine, and its hypervisor exposes no energy counter (no {what})"), ESTIMATE)
        } else if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            Self::new(
                format!("there is no {what}: the kernel module `{module}` is not loaded, or the CPU has no RAPL"),
                format!("`sudo modprobe {module}`; RAPL needs Intel Sandy Bridge or AMD Zen and later"),
            )
        } else {
            Self::new(format!("there is no {what}: this architecture has no RAPL"), ESTIMATE)
        }
    }

    /// The counter of a device of `subsystem` cannot be read.
    pub(super) fn unreadable(path: &Path, error: &io::Error, subsystem: &str) -> Self {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::new(
                format!("`{}` may be read by root only (mode 0400 since Linux 5.10, CVE-2020-8694)", path.display()),
                format!(
                    "let one group read it by a udev rule: `SUBSYSTEM==\"{subsystem}\", RUN+=\"/bin/sh -c 'chgrp GROUP /sys%p/{file}; chmod g+r /sys%p/{file}'\"`, or give this program alone the right: \
                     `sudo setcap cap_dac_read_search+ep` on the binary"
                ),
            ),
            io::ErrorKind::NotFound => Self::new(format!("`{}` is missing", path.display()), ESTIMATE),
            _ => Self::new(format!("`{}` cannot be used: {error}", path.display()), ESTIMATE),
        }
    }

    /// A counter that shows the same value while a CPU is busy.
    pub(super) fn stands_still(what: &str) -> Self {
        Self::new(
            format!("`{what}` does not move while the CPU is busy, as in virtual machines that pass the zone but not the counter"),
            ESTIMATE,
        )
    }

    /// There is no `power` PMU.
    pub(super) fn no_pmu(host: &Host) -> Self {
        Self::no_counter(host, "`power` PMU", "rapl")
    }

    /// The PMU is there and its event cannot be opened.
    pub(super) fn perf(error: &OpenError, event: &str, host: &Host) -> Self {
        let by_runtime = container(host).map_or_else(String::new, |c| format!(" of the {c} container"));
        match error {
            OpenError::Paranoid => {
                let level = host.text("proc/sys/kernel/perf_event_paranoid").unwrap_or_else(|| "set".into());
                Self::new(
                    format!("`kernel.perf_event_paranoid` is {level} and this process has no CAP_PERFMON"),
                    "`sudo setcap cap_perfmon+ep` on the binary, or `sudo sysctl kernel.perf_event_paranoid=0` for everybody",
                )
            }
            OpenError::Forbidden => Self::new(
                format!("`perf_event_open` is forbidden, by a seccomp filter{by_runtime} or a kernel lockdown"),
                "run on the host, or start the container with `--cap-add PERFMON` and a seccomp profile that allows `perf_event_open`",
            ),
            OpenError::NoEvent => Self::new(format!("the `power` PMU refuses its event `{event}`"), ESTIMATE),
            OpenError::NoDevice => Self::new(format!("the device behind the event `{event}` is not there"), ESTIMATE),
            OpenError::NoSyscall => Self::new("this kernel has no `perf_event_open`", "use a kernel with `CONFIG_PERF_EVENTS`"),
            OpenError::Other(e) => Self::new(format!("the event `{event}` cannot be opened: {e}"), ESTIMATE),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    /// What is said of a machine without zones that has these files (of an empty one, only the folder it would be in).
    #[track_caller]
    fn check(files: &[(&str, &str)], reason: &str, fix: &str) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !text.is_empty() {
                std::fs::write(path, text).unwrap();
            }
        }
        let tree = Tree::as_system(dir.path().join("sys"));
        let said = Unavailable::no_zones(&tree, &Host::at(dir.path()));
        assert!(said.reason.contains(reason) && said.fix.contains(fix), "{said:?}");
    }

    #[test]
    fn each_machine_without_zones_has_its_own_reason() {
        let metal = ("proc/cpuinfo", "flags : fpu avx2\n");
        check(&[("proc/cpuinfo", "flags : fpu hypervisor\n")], "hypervisor exposes no energy counter", "estimator");
        check(&[metal, (".dockerenv", "1")], "in this docker container", "read-only into the container");
        // A tmpfs where the devices should be.
        check(&[metal, ("sys/devices/virtual/powercap/none", "")], "is masked", "run on the host");
        if cfg!(target_arch = "x86_64") {
            check(&[metal], "`intel_rapl_msr` is not loaded", "sudo modprobe intel_rapl_msr");
        } else {
            check(&[metal], "this architecture has no RAPL", "estimator");
        }
    }
}
