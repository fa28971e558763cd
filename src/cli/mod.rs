//! The command line: one file for each subcommand; the only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the only place that prints")]

pub mod doctor;

/// Options of all subcommands.
#[derive(Debug, Clone, Default)]
pub struct Global {
    /// Data on stdout as one JSON object.
    pub json: bool,
    /// No progress, no remarks.
    pub quiet: bool,
    /// A folder that stands for `/sys`.
    pub sysfs_root: Option<std::path::PathBuf>,
}
