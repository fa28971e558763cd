//! What people and programs read of a study: plots, HTML, CSV, JSON, one sentence. From trials only: everything here is a
//! pure function of them, and [`write_all`] alone writes files.

mod csv;

mod html;
mod json;
pub(crate) mod plot;
mod profile;
mod reproduce;
mod row;
mod screening;
mod table;
mod verdict;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub use self::csv::csv;
pub use crate::search::{Basis, Front, Point, fronts, non_dominated};
pub use html::html;
pub use json::{JSON_SCHEMA_VERSION, json, results};
pub use plot::{png, svg};
pub use profile::{
    Beside, LayerRow, beside, chrome_trace, folded_stacks, layer_rows, profile_csv, profile_json, profile_svg, profile_table,
};
pub use reproduce::{command, quote};
pub use row::{ModelRow, Row, rows};
pub use screening::screening_table;
pub use table::table;
pub use verdict::{DEFAULT_TOLERANCE_POINTS, pick, shipped, side_by_side, verdict};

use crate::study::{Study, StudyHeader, Trial};
use crate::{Error, Result, atomic};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All that a report is made from.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the study is about.
    pub header: StudyHeader,
    /// The environment records by the keys that trials name.
    pub environments: BTreeMap<String, Value>,
    /// The trials in the order of their numbers.
    pub trials: Vec<Trial>,
    /// Their fronts, one for each basis of energy; the first is the reference's.
    pub fronts: Vec<Front>,
}

impl Report {
    /// Computes the fronts.
    pub fn new(header: StudyHeader, environments: BTreeMap<String, Value>, trials: Vec<Trial>) -> Self {
        let fronts = fronts(&trials);
        Report { header, environments, trials, fronts }
    }

    /// Reads a study.
    ///
    /// # Errors
    /// The study cannot be read or is damaged.
    pub fn read(study: &Study) -> Result<Self> {
        Ok(Self::new(study.header().clone(), study.environments()?, study.trials()?))
    }

    /// The front that is drawn, tabled and judged: that of the reference's basis. `None` when no energy is known.
    pub fn front(&self) -> Option<&Front> {
        self.fronts.first()
    }

    /// The trial of a point.
    pub(crate) fn trial(&self, point: &Point) -> &Trial {
        &self.trials[point.index]
    }

    /// The command that makes and measures a point's trial again.
    pub fn command(&self, point: &Point) -> String {
        command(&self.header, point.id, &self.trial(point).configuration)
    }

    /// [`verdict`] at the [`DEFAULT_TOLERANCE_POINTS`].
    pub fn verdict(&self) -> String {
        verdict(self, DEFAULT_TOLERANCE_POINTS)
    }
}

/// Writes `index.html`, `pareto.svg`, `pareto.png`, `trials.csv`, `front.csv` and `study.json` into `folder`, which is made
/// if it is absent; each file is written whole or not at all. Returns their paths.
///
/// # Errors
/// The folder cannot be made or written to, or the disk is full.
pub fn write_all(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    let rows = rows(&report.trials, &report.fronts);
    let front: Vec<Row> = rows.iter().filter(|r| r.on_front == Some(true)).cloned().collect();
    let svg = svg(report)?;
    let files = [
        ("index.html", html(report, &svg).into_bytes()),
        ("pareto.png", png(report)?),
        ("pareto.svg", svg.into_bytes()),
        ("trials.csv", csv(&rows)?),
        ("front.csv", csv(&front)?),
        ("study.json", json(report)?),
    ];
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    files
        .into_iter()
        .map(|(name, bytes)| {
            let path = folder.join(name);
            atomic::write(&path, &bytes).map(|()| path)
        })
        .collect()
}
