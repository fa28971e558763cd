//! The account: rows with time, share, work, place and apportioned energy. Pure functions of what was timed and measured.

use super::cost::{Cost, Costs};
use super::mapping::{Mapping, Part};
use super::roof::Place;
use super::times::Times;
use crate::energy::{Kind, Scope, Systematic};
use crate::measure;
use crate::model::{Facts, Graph, Layer};
use crate::stats::Interval;
use crate::sys::peak::Peak;
use crate::units::{Bytes, Seconds};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Where a model's time and joules go. Times and energies are of one run of a batch; intervals are 95 %, over processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The model's name.
    pub model: String,
    /// Engine.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Threads.
    pub threads: usize,
    /// Samples of a run.
    pub batch: usize,
    /// The whole.
    pub whole: Whole,
    /// The whole's energy; `None` when no window was valid.
    pub energy: Option<Energy>,
    /// The roof, measured in the same pinned process.
    pub peak: Peak,
    /// In the order of the file; then what only the engine knows; then `between nodes`. Their shares add up to 1.
    pub rows: Vec<Row>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

/// Times of the whole, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    /// Of a run as it is.
    pub plain: Interval,
    /// Of a run with a clock at each node.
    pub instrumented: Interval,
    /// What the clocks cost: the ratio of the two.
    pub overhead: Interval,
    /// Of a run of next to nothing on the same engine.
    pub empty: Interval,
    /// What reading the clock takes within a node, each time that it runs; taken off the nodes' times.
    pub clock: Interval,
    /// Fresh processes.
    pub processes: usize,
    /// Runs with clocks, all processes together.
    pub runs: u64,
}

/// Energy of a run of the uninstrumented whole, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Joules of a run.
    pub run: Interval,
    /// How that came about. Its parts are [`Kind::Apportioned`].
    pub kind: Kind,
    /// The meter.
    pub meter: String,
    /// What it sees.
    pub scope: Scope,
    /// The meter's own uncertainty.
    pub systematic: Systematic,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The layer's name, the node's, the engine's, or `between nodes`.
    pub name: String,
    /// Operators that run as one.
    pub operators: Vec<String>,
    /// True for rows with weights or multiply–adds of the file.
    pub is_layer: bool,
    /// Indices of nodes of the file; empty for what only the engine knows.
    pub nodes: Vec<usize>,
    /// Names of the engine's nodes.
    pub engine_nodes: Vec<String>,
    /// Seconds of a run, without those of clocks; `None` when the engine has no node that bears the name.
    pub time: Option<Interval>,
    /// Share of a run without clocks.
    pub share: Option<Interval>,
    /// Work.
    pub cost: Cost,
    /// Place under the roofline.
    pub place: Option<Place>,
    /// Apportioned joules of a run: the whole's energy times the share.
    pub energy: Option<Interval>,
    /// The layer measured alone, where that was asked for.
    pub check: Option<Check>,
}

/// A layer extracted and measured alone, beside what was apportioned to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Joules of a run of the layer alone, less those of a run of next to nothing.
    pub alone: Interval,
    /// Apportioned over alone: 1 where apportioning is right.
    pub ratio: f64,
}

/// How far a layer's apportioned energy may be from its own, and from which share of the whole on that is asked.
const WITHIN: f64 = 0.2;
/// See [`WITHIN`].
pub(super) const CHECKED_FROM: f64 = 0.05;

/// The name of the last row.
const BETWEEN: &str = "between nodes";

impl Check {
    /// `alone` and `empty`: joules of a run of the layer alone, and of one of next to nothing.
    pub(super) fn new(apportioned: Interval, alone: Interval, empty: Interval) -> Check {
        let side = |end: fn(&Interval) -> f64| (end(&alone) - alone.value).hypot(end(&empty) - empty.value);
        let value = alone.value - empty.value;
        let alone = Interval { value, lo: value - side(|i| i.lo), hi: value + side(|i| i.hi) };
        Check { alone, ratio: apportioned.value / alone.value }
    }

    /// Within 20 % of the layer's own energy.
    pub fn holds(&self) -> bool {
        (self.ratio - 1.0).abs() <= WITHIN
    }
}

/// A model with all that its account needs.
pub(super) struct Basis<'a, 'm> {
    pub(super) graph: &'a Graph<'m>,
    pub(super) facts: &'a Facts,
    pub(super) layers: &'a [Layer],
}

impl Basis<'_, '_> {
    /// What a run touches.
    pub(super) fn working_set(&self) -> Bytes {
        Costs::new(self.graph, self.facts).working_set()
    }

    /// Rows of what was timed, without energy.
    ///
    /// # Errors
    /// There are fewer than two processes.
    pub(super) fn rows(&self, times: &Times, peak: &Peak) -> Result<Vec<Row>> {
        let costs = Costs::new(self.graph, self.facts);
        let mapping = Mapping::new(self.graph, self.layers, &times.nodes);
        let mut rows = mapping.parts.iter().map(|part| self.row(part, &costs, times, peak)).collect::<Result<Vec<_>>>()?;
        let (time, share) = times.between().ok_or_else(too_few)?;
        rows.push(Row {
            name: BETWEEN.to_owned(),
            operators: Vec::new(),
            is_layer: false,
            nodes: Vec::new(),
            engine_nodes: Vec::new(),
            time: Some(time),
            share: Some(share),
            cost: Cost::default(),
            place: None,
            energy: None,
            check: None,
        });
        Ok(rows)
    }

    fn row(&self, part: &Part, costs: &Costs<'_, '_>, times: &Times, peak: &Peak) -> Result<Row> {
        let timed = match part.engine.is_empty() {
            true => None,
            false => Some(times.of(&part.engine).ok_or_else(too_few)?),
        };
        let cost = costs.of(part, self.layers);
        Ok(Row {
            name: part.name.clone(),
            operators: part.operators.clone(),
            is_layer: !part.layers.is_empty(),
            nodes: part.nodes.iter().copied().collect(),
            engine_nodes: part.engine.iter().map(|&n| times.nodes[n].name.clone()).collect(),
            time: timed.map(|t| t.0),
            share: timed.map(|t| t.1),
            place: timed.and_then(|t| Place::of(&cost, Seconds(t.0.value), peak)),
            cost,
            energy: None,
            check: None,
        })
    }
}

impl Whole {
    /// # Errors
    /// There are fewer than two processes.
    pub(super) fn of(times: &Times) -> Result<Whole> {
        Ok(Whole {
            plain: times.plain().ok_or_else(too_few)?,
            instrumented: times.instrumented().ok_or_else(too_few)?,
            overhead: times.overhead().ok_or_else(too_few)?,
            empty: times.empty().ok_or_else(too_few)?,
            clock: times.clock().ok_or_else(too_few)?,
            processes: times.processes.len(),
            runs: times.processes.iter().map(|p| p.instrumented.0).sum(),
        })
    }
}

impl Energy {
    /// Of a run, from what was measured for one sample.
    pub(super) fn of_run(measured: &measure::Energy, batch: usize) -> Energy {
        let batch = batch as f64;
        let Interval { value, lo, hi } = measured.gross;
        Energy {
            run: Interval { value: value * batch, lo: lo * batch, hi: hi * batch },
            kind: measured.kind,
            meter: measured.meter.clone(),
            scope: measured.scope,
            systematic: measured.systematic.clone(),
        }
    }
}

impl Profile {
    /// Divides the energy of the uninstrumented whole by the rows' shares of its time.
    pub(super) fn apportion(&mut self) {
        let Some(energy) = &self.energy else { return };
        for row in &mut self.rows {
            row.energy = row.share.map(|share| product(energy.run, share));
        }
    }

    /// The sum of the rows that are nodes, over the whole: 1 less what lies between them.
    pub fn accounted(&self) -> f64 {
        let nodes = self.rows.iter().filter(|r| !r.engine_nodes.is_empty());
        nodes.filter_map(|r| r.share).map(|s| s.value).sum()
    }

    /// Rows whose apportioned energy is further from the layer's own than is allowed.
    pub fn refuted(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.check.is_some_and(|c| !c.holds()))
    }
}

/// The product of two independent figures: relative half-widths add up as squares.
fn product(a: Interval, b: Interval) -> Interval {
    let value = a.value * b.value;
    let side = |end: fn(&Interval) -> f64| ((end(&a) - a.value) * b.value).hypot((end(&b) - b.value) * a.value);
    Interval { value, lo: value - side(|i| i.lo), hi: value + side(|i| i.hi) }
}

fn too_few() -> Error {
    Error::bad_input("a profile needs at least two processes").hint("give `--processes 2` or more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_widths_add_up_as_squares() {
        let i = |value, half| Interval { value, lo: value - half, hi: value + half };
        let p = product(i(10.0, 0.3), i(0.5, 0.02));
        assert!((p.value - 5.0).abs() < 1e-12 && ((p.hi - p.value) / p.value - 0.05).abs() < 1e-12, "{p:?}");
        assert!((p.hi - p.value - (p.value - p.lo)).abs() < 1e-12);
        // What lies between nodes may come out below zero on a noisy machine, and then so does its energy.
        assert!(product(i(10.0, 1.0), i(-0.01, 0.02)).lo < -0.1);
    }

    #[test]
    fn a_check_holds_within_a_fifth() {
        let exactly = |value| Interval { value, lo: value, hi: value };
        for (apportioned, alone, holds) in [(1.0, 1.0, true), (1.19, 1.0, true), (1.21, 1.0, false), (0.79, 1.0, false)] {
            assert_eq!(Check::new(exactly(apportioned), exactly(alone), exactly(0.0)).holds(), holds, "{apportioned}");
        }
    }
}
