//! Times of an engine's nodes over fresh processes.

use crate::engine::{NodeTime, Profiled};
use crate::stats::{Interval, cluster_ratio, log_ratio};
use crate::units::Seconds;

/// One fresh process.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Runs without the clocks, and what they took.
    pub plain: (u64, Seconds),
    /// Runs with them, and what they took.
    pub instrumented: (u64, Seconds),
    /// Nanoseconds of each node in these, by the place in [`Times::nodes`].
    ns: Vec<u64>,
}

/// What was timed of one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Times {
    /// The engine's nodes, all processes together.
    pub nodes: Vec<NodeTime>,
    /// The processes.
    pub processes: Vec<Process>,
    /// Windows in which the process had to wait for its core, and that count all the same.
    pub held_up: u64,
}

impl Times {
    /// Adds a process: `plain` runs and their time, and `runs` runs with a clock at each node.
    pub fn add(&mut self, plain: (u64, Seconds), profiled: Profiled, runs: u64) {
        let instrumented = (runs, Seconds(profiled.wall_ns as f64 * 1e-9));
        // An engine may optimise otherwise in another process; nodes are told apart by name, operator and occurrence.
        let mut ns = vec![0; self.nodes.len()];
        let mut taken = vec![false; self.nodes.len()];
        for (at, node) in profiled.nodes.into_iter().enumerate() {
            let same = |i: &usize| !taken[*i] && self.nodes[*i].name == node.name && self.nodes[*i].operator == node.operator;
            let place = Some(at).filter(|i| *i < self.nodes.len()).filter(same).or_else(|| (0..self.nodes.len()).find(same));
            match place {
                Some(place) => {
                    self.nodes[place].ns += node.ns;
                    self.nodes[place].calls += node.calls;
                    ns[place] = node.ns;
                    taken[place] = true;
                }
                None => {
                    ns.push(node.ns);
                    taken.push(true);
                    self.nodes.push(node);
                }
            }
        }
        self.processes.push(Process { plain, instrumented, ns });
    }

    /// Time of a run without the clocks, seconds; `None` with fewer than two processes.
    pub fn plain(&self) -> Option<Interval> {
        per_run(self.processes.iter().map(|p| (p.plain.1.0, p.plain.0 as f64)))
    }

    /// Time of a run with them, seconds.
    pub fn instrumented(&self) -> Option<Interval> {
        per_run(self.processes.iter().map(|p| (p.instrumented.1.0, p.instrumented.0 as f64)))
    }

    /// What the clocks cost: instrumented over plain time, the mean of the processes' ratios.
    pub fn overhead(&self) -> Option<Interval> {
        let each = |(runs, time): (u64, Seconds)| time.0 / runs as f64;
        log_ratio(&self.processes.iter().map(|p| each(p.instrumented) / each(p.plain)).collect::<Vec<_>>())
    }

    /// Time of `nodes` (places in [`Times::nodes`]) in a run with the clocks, seconds, and their share of it.
    pub fn of(&self, nodes: &[usize]) -> Option<(Interval, Interval)> {
        self.summed(|p| nodes.iter().filter_map(|&n| p.ns.get(n)).sum::<u64>() as f64 * 1e-9)
    }

    /// The same of what lies between the nodes: inputs handed over, outputs taken, what the engine does besides.
    pub fn between(&self) -> Option<(Interval, Interval)> {
        self.summed(|p| p.instrumented.1.0 - p.ns.iter().sum::<u64>() as f64 * 1e-9)
    }

    fn summed(&self, seconds: impl Fn(&Process) -> f64) -> Option<(Interval, Interval)> {
        let time = per_run(self.processes.iter().map(|p| (seconds(p), p.instrumented.0 as f64)))?;
        let share = per_run(self.processes.iter().map(|p| (seconds(p), p.instrumented.1.0)))?;
        Some((time, share))
    }
}

fn per_run(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Interval> {
    cluster_ratio(&pairs.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn profiled(wall_ns: u64, nodes: &[(&str, u64)]) -> Profiled {
        let node = |&(name, ns): &(&str, u64)| NodeTime { name: name.into(), operator: "Conv".into(), ns, calls: 10 };
        Profiled { wall_ns, nodes: nodes.iter().map(node).collect() }
    }

    #[test]
    fn shares_and_what_lies_between_add_up_to_one() {
        let mut times = Times::default();
        times.add((10, Seconds(900e-9)), profiled(1000, &[("a", 600), ("b", 300)]), 10);
        // In another order, with a node twice and one more: each is found.
        times.add((10, Seconds(1100e-9)), profiled(1200, &[("b", 300), ("a", 700), ("a", 100)]), 10);
        assert_eq!(times.nodes.iter().map(|n| (n.name.as_str(), n.ns)).collect::<Vec<_>>(), [("a", 1300), ("b", 600), ("a", 100)]);
        assert!((times.plain().unwrap().value - 100e-9).abs() < 1e-18);
        assert!((times.instrumented().unwrap().value - 110e-9).abs() < 1e-18);
        assert!((times.overhead().unwrap().value - (1000.0f64 / 900.0 * 1200.0 / 1100.0).sqrt()).abs() < 1e-9);
        let (time, share) = times.of(&[0, 2]).unwrap();
        assert!((time.value - 70e-9).abs() < 1e-18 && (share.value - 1400.0 / 2200.0).abs() < 1e-9);
        let sum = share.value + times.of(&[1]).unwrap().1.value + times.between().unwrap().1.value;
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let one = Times { processes: times.processes[..1].to_vec(), ..times };
        assert_eq!((one.plain(), one.overhead(), one.of(&[0])), (None, None, None));
    }
}
