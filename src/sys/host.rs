//! The CPU and whether the machine is a virtual one or a container.

use std::path::{Path, PathBuf};

/// Where the host's facts are read: `/`, or a copy of `proc` and `sys` for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    root: PathBuf,
}

/// What `/proc/cpuinfo` says of the first CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuInfo {
    /// `GenuineIntel`, `AuthenticAMD`; on ARM the implementer's number (`0x41`).
    pub vendor: String,
    /// `model name`; on ARM the part's number (`0xd0c`). Empty when the kernel gives none.
    pub model_name: String,
    /// `cpu family`; on ARM the part's number.
    pub family: Option<u32>,
    /// `model`.
    pub model: Option<u32>,
    /// `flags`, or `Features` on ARM.
    pub flags: Vec<String>,
}

impl Default for Host {
    fn default() -> Self {
        Host { root: PathBuf::from("/") }
    }
}

impl Host {
    /// A host whose `proc` and `sys` folders are under `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into() }
    }

    /// `path`, which starts without a slash, on this host.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A file's text without the white space around it; `None` if it cannot be read or is empty.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned)
    }

    /// A file with one number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The first CPU; empty where `/proc/cpuinfo` is not there.
    pub fn cpu(&self) -> CpuInfo {
        self.text("proc/cpuinfo").map_or_else(CpuInfo::default, |text| CpuInfo::parse(&text))
    }
}

impl CpuInfo {
    /// Reads the first processor's block.
    pub fn parse(cpuinfo: &str) -> Self {
        let mut info = CpuInfo::default();
        let field = |line: &str| line.split_once(':').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
        for (key, value) in cpuinfo.lines().take_while(|l| !l.trim().is_empty()).filter_map(field) {
            match key.as_str() {
                "vendor_id" | "CPU implementer" => info.vendor = value,
                "model name" => info.model_name = value,
                "cpu family" => info.family = value.parse().ok(),
                "model" => info.model = value.parse().ok(),
                "CPU part" => {
                    info.family = u32::from_str_radix(value.trim_start_matches("0x"), 16).ok();
                    if info.model_name.is_empty() {
                        info.model_name = format!("ARM part {value}");
                    }
                }
                "flags" | "Features" => info.flags = value.split_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        info
    }

    /// A hypervisor runs this machine (the CPUID bit every common one sets).
    pub fn is_virtual(&self) -> bool {
        self.flags.iter().any(|f| f == "hypervisor")
    }
}

/// The container runtime this process seems to be in, where one can be told.
pub fn container(host: &Host) -> Option<&'static str> {
    if host.path(".dockerenv").exists() {
        return Some("docker");
    }
    if host.path("run/.containerenv").exists() {
        return Some("podman");
    }
    let cgroup = host.text("proc/1/cgroup").unwrap_or_default();
    let named = [("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("containerd", "containerd"), ("lxc", "lxc")];
    named.into_iter().find(|(sign, _)| cgroup.contains(sign)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn x86_and_arm() {
        let x86 = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: Xeon\nflags\t\t: fpu avx2 hypervisor\n\nprocessor : 1\nmodel name: Other\n";
        let info = CpuInfo::parse(x86);
        assert_eq!((info.vendor.as_str(), info.family, info.model, info.model_name.as_str()), ("GenuineIntel", Some(6), Some(106), "Xeon"));
        assert!(info.is_virtual());

        let arm = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd0c\n";
        let info = CpuInfo::parse(arm);
        assert_eq!((info.vendor.as_str(), info.family, info.model_name.as_str()), ("0x41", Some(0xd0c), "ARM part 0xd0c"));
        assert!(!info.is_virtual());
        assert_eq!(CpuInfo::parse("\0garbage"), CpuInfo::default());
    }

    #[test]
    fn containers_are_told_by_their_marks() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(container(&host), None);
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::write(dir.path().join("proc/1/cgroup"), "0::/kubepods/besteffort/pod1\n").unwrap();
        assert_eq!(container(&host), Some("kubernetes"));
        std::fs::write(dir.path().join(".dockerenv"), "").unwrap();
        assert_eq!(container(&host), Some("docker"));
    }
}
