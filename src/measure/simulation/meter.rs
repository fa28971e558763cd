//! The counter of the virtual machine.

use super::Machine;
use super::machine::{State, lock};
use crate::energy::{Counter, Domain, Kind, Meter, MeterInfo, Reading, Systematic, Target, WindowEnergy};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) struct SimulatedMeter {
    state: Arc<Mutex<State>>,
    info: MeterInfo,
    counter: Counter,
}

impl SimulatedMeter {
    pub(super) fn new(machine: &Machine, state: &Arc<Mutex<State>>) -> Self {
        let info = MeterInfo {
            name: "simulation".into(),
            kind: Kind::Simulated,
            scope: machine.scope,
            domains: vec![Domain { name: "package-0".into(), counted: true }],
            unit: machine.unit,
            update_period: machine.update_period,
            systematic: Systematic { low: 1.0, high: 1.0, source: "the simulation knows the truth".into() },
            attributes_idle: machine.idle.0 > 0.0,
        };
        SimulatedMeter { state: Arc::clone(state), info, counter: Counter::new(machine.max, machine.unit) }
    }
}

impl Meter for SimulatedMeter {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    fn read(&mut self, target: Target) -> Reading {
        let value = lock(&self.state).read();
        Reading::take(target, || vec![value])
    }

    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        match (start.value(0), end.value(0)) {
            // Readings know the real clock, which hardly moves here; windows are short enough for one wrap.
            (Ok(a), Ok(b)) => self.counter.energy(a, b, Duration::ZERO),
            (Err(e), _) | (_, Err(e)) => WindowEnergy::Invalid(e),
        }
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        vec![("package-0".into(), self.energy(start, end))]
    }
}
