//! The choice of a meter, alike in all subcommands that measure.

use super::Global;
use crate::Result;
use crate::energy::{Meter, Sources, choose, probe};

/// Options that choose the meter.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct MeterOptions {
    /// Meters in order of preference: perf, powercap, estimate [default: the best there is]
    #[arg(long, value_name = "M", value_delimiter = ',')]
    meter: Vec<String>,
    /// Refuse anything but measured energy
    #[arg(long, value_enum, value_name = "KIND")]
    require: Option<Require>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Require {
    Measured,
}

impl MeterOptions {
    /// Opens the meter.
    pub(super) fn open(&self, global: &Global) -> Result<Box<dyn Meter>> {
        let sources = Sources { sysfs_root: global.sysfs_root.clone() };
        choose(probe(&sources), &self.meter, self.require.is_some())
    }

    /// The same options as text, each with a leading space.
    pub(super) fn options(&self) -> String {
        let meter = if self.meter.is_empty() { String::new() } else { format!(" --meter {}", self.meter.join(",")) };
        meter + if self.require.is_some() { " --require measured" } else { "" }
    }
}
