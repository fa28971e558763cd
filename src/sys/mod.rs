//! What the operating system is asked directly: affinity, process clocks, files as memory and beneath a folder, file-system types,
//! performance counters, the host, its peak rates, limits of this process, the version of a shared library.
//!
//! The only place in the library with `unsafe`, and hardly any of it: safe wrappers are used wherever they exist. Knows
//! nothing of energy. Away from Linux everything compiles and says that it is not there.

#![allow(unsafe_code, reason = "the process clock has no safe wrapper; each block states why it is sound")]

mod affinity;
mod beneath;
mod clock;
#[cfg(test)]
pub(crate) mod counting;
mod dylib;
mod fs;
pub mod gemm;
mod host;
mod limits;
mod map;
pub mod peak;
pub mod perf;
mod poll;
mod stdout;
pub mod tile;

pub use affinity::{allowed_cpus, cpu_list, pin_current_thread};
pub use beneath::open_beneath;
pub use clock::{process_cpu_time, thread_cpu_times};
pub use dylib::onnx_runtime_version;
pub use fs::on_sysfs;
pub use host::{CpuInfo, Host, container};
pub use limits::{limit_cpu, limit_memory, no_core_file, total_memory};
pub use map::{MAPPED_FROM, contents};
pub use poll::{Pollable, open_without_waiting, readable};
pub use stdout::printed;
