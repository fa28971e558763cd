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
    /// Runs of next to nothing on the same engine, and what they took.
    pub empty: (u64, Seconds),
    /// What reading the clock takes within a node, each time it runs.
    pub clock: Seconds,
    /// Seconds of each node in a run without clocks, by the place in [`Times::nodes`].
    nodes: Vec<f64>,
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
    /// Adds a process: `plain` runs and their time, `empty` ones, and `runs` runs with a clock at each node.
    ///
    /// An engine that reads its own clock counts part of that as the node's: 2 µs a node in ONNX Runtime, as much as a small operator
    /// takes. What nodes take together beyond a run without clocks, less one of nothing, is that: the same for each, but none takes less
    /// than no time.
    pub fn add(&mut self, plain: (u64, Seconds), empty: (u64, Seconds), profiled: Profiled, runs: u64) {
        let instrumented = (runs, Seconds(profiled.wall_ns as f64 * 1e-9));
        // An engine may optimise otherwise in another process; nodes are told apart by name, operator and occurrence.
        let mut timed = vec![(0, 0); self.nodes.len()];
        let mut taken = vec![false; self.nodes.len()];
        for (at, node) in profiled.nodes.into_iter().enumerate() {
            let same = |i: &usize| !taken[*i] && self.nodes[*i].name == node.name && self.nodes[*i].operator == node.operator;
            let place = Some(at).filter(|i| *i < self.nodes.len()).filter(same).or_else(|| (0..self.nodes.len()).find(same));
            match place {
                Some(place) => {
                    self.nodes[place].ns += node.ns;
                    self.nodes[place].calls += node.calls;
                    timed[place] = (node.ns, node.calls);
                    taken[place] = true;
                }
                None => {
                    timed.push((node.ns, node.calls));
                    taken.push(true);
                    self.nodes.push(node);
                }
            }
        }
        let room = (each(plain) - each(empty)).max(0.0);
        let timed: Vec<(f64, f64)> =
            timed.iter().map(|&(ns, calls)| (ns as f64 * 1e-9 / runs as f64, calls as f64 / runs as f64)).collect();
        let clock = clock(&timed, room);
        let nodes = timed.iter().map(|(time, calls)| (time - calls * clock).max(0.0)).collect();
        self.processes.push(Process { plain, instrumented, empty, clock: Seconds(clock), nodes });
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
        log_ratio(&self.processes.iter().map(|p| each(p.instrumented) / each(p.plain)).collect::<Vec<_>>())
    }

    /// Time of a run of next to nothing, seconds.
    pub fn empty(&self) -> Option<Interval> {
        per_run(self.processes.iter().map(|p| (p.empty.1.0, p.empty.0 as f64)))
    }

    /// What reading the clock takes within a node, seconds.
    pub fn clock(&self) -> Option<Interval> {
        per_run(self.processes.iter().map(|p| (p.clock.0, 1.0)))
    }

    /// Time of `nodes` (places in [`Times::nodes`]) in a run, seconds, without that of their clocks; and their share of a run without
    /// clocks.
    pub fn of(&self, nodes: &[usize]) -> Option<(Interval, Interval)> {
        self.summed(|p| nodes.iter().filter_map(|&n| p.nodes.get(n)).sum())
    }

    /// The same of what lies between the nodes: inputs handed over, outputs taken, what the engine does besides.
    pub fn between(&self) -> Option<(Interval, Interval)> {
        self.summed(|p| each(p.plain) - p.nodes.iter().sum::<f64>())
    }

    fn summed(&self, seconds: impl Fn(&Process) -> f64) -> Option<(Interval, Interval)> {
        let time = per_run(self.processes.iter().map(|p| (seconds(p), 1.0)))?;
        let share = per_run(self.processes.iter().map(|p| (seconds(p), each(p.plain))))?;
        Some((time, share))
    }
}

/// Seconds of a run.
fn each((runs, time): (u64, Seconds)) -> f64 {
    time.0 / runs as f64
}

/// How much less each node (its time and how often it runs, of a run) must take for all to fit into `room`.
fn clock(nodes: &[(f64, f64)], room: f64) -> f64 {
    let mut counted: Vec<(f64, f64)> = nodes.iter().copied().filter(|&(_, calls)| calls > 0.0).collect();
    loop {
        let (time, calls) = counted.iter().fold((0.0, 0.0), |(t, c), n| (t + n.0, c + n.1));
        let clock = (time - room) / calls;
        // Nodes that would take less than no time take none, and leave the more to the others.
        let before = counted.len();
        counted.retain(|&(time, calls)| time > clock * calls);
        if counted.len() == before || counted.is_empty() {
            return if clock.is_finite() { clock.max(0.0) } else { 0.0 };
        }
    }
}

fn per_run(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Interval> {
    cluster_ratio(&pairs.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn profiled(wall_ns: u64, nodes: &[(&str, u64)]) -> Profiled {
        let node = |&(name, ns): &(&str, u64)| NodeTime { name: name.into(), operator: "Conv".into(), ns, calls: 10 };
        Profiled { wall_ns, nodes: nodes.iter().map(node).collect() }
    }

    #[test]
    fn shares_and_what_lies_between_add_up_to_one() {
        let mut times = Times::default();
        let empty = (20, Seconds(200e-9));
        times.add((10, Seconds(1000e-9)), empty, profiled(1000, &[("a", 600), ("b", 300)]), 10);
        // In another order, with a node twice and one more: each is found.
        times.add((10, Seconds(1300e-9)), empty, profiled(1350, &[("b", 300), ("a", 700), ("a", 100)]), 10);
        assert_eq!(times.nodes.iter().map(|n| (n.name.as_str(), n.ns)).collect::<Vec<_>>(), [("a", 1300), ("b", 600), ("a", 100)]);
        assert!((times.plain().unwrap().value - 115e-9).abs() < 1e-18);
        assert!((times.instrumented().unwrap().value - 117.5e-9).abs() < 1e-18);
        assert!((times.empty().unwrap().value - 10e-9).abs() < 1e-18);
        assert!((times.overhead().unwrap().value - (1000.0f64 / 1000.0 * 1350.0 / 1300.0).sqrt()).abs() < 1e-9);
        let (time, share) = times.of(&[0, 2]).unwrap();
        // Nodes leave room for a run of nothing: their clocks take no time.
        assert!(times.clock().unwrap().value < 1e-15);
        assert!((time.value - 70e-9).abs() < 1e-18 && (share.value - 140.0 / 230.0).abs() < 1e-9);
        let sum = share.value + times.of(&[1]).unwrap().1.value + times.between().unwrap().1.value;
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let one = Times { processes: times.processes[..1].to_vec(), ..times };
        assert_eq!((one.plain(), one.overhead(), one.of(&[0])), (None, None, None));
    }

    #[test]
    fn what_clocks_take_within_nodes_is_taken_off_alike() {
        let mut times = Times::default();
        // Of 100 ns a run, 10 for nothing; nodes say 160: each clock takes 30 of `a` and `b`, and `c` takes no time but its clock.
        let nodes = [("a", 700), ("b", 800), ("c", 100)];
        (0..2).for_each(|_| times.add((10, Seconds(1000e-9)), (10, Seconds(100e-9)), profiled(3000, &nodes), 10));
        assert!((times.clock().unwrap().value - 30e-9).abs() < 1e-15, "{:?}", times.clock());
        let of = |node: usize| times.of(&[node]).unwrap().0.value;
        assert!((of(0) - 40e-9).abs() < 1e-15 && (of(1) - 50e-9).abs() < 1e-15 && of(2) == 0.0);
        assert!((times.between().unwrap().1.value - 0.1).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn nodes_fit_into_the_room_whatever_they_say(nodes in prop::collection::vec((0.0f64..1e-3, 0.0f64..5.0), 0..20), room in 0.0f64..1e-2) {
            let clock = clock(&nodes, room);
            prop_assert!(clock >= 0.0 && clock.is_finite());
            let sum: f64 = nodes.iter().filter(|n| n.1 > 0.0).map(|(time, calls)| (time - calls * clock).max(0.0)).sum();
            let raw: f64 = nodes.iter().filter(|n| n.1 > 0.0).map(|n| n.0).sum();
            prop_assert!((sum - raw.min(room)).abs() < 1e-12, "{sum} of {raw} in {room}");
        }
    }
}
