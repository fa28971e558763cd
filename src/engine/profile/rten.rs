//! What rten prints of a run when it is asked to be verbose: for each operator `#0 Conv (name)`, its operands, and `  time: 0.123ms`.

use super::NodeTime;
use std::collections::HashMap;

/// The times of the nodes in `text`, in the order in which they first ran. Lines of another form are none of rten's words about a
/// node and are passed over; an operator without a time did not end and is not counted.
pub(in crate::engine) fn parse(text: &str) -> Vec<NodeTime> {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut nodes: Vec<NodeTime> = Vec::new();
    // Bodies print within the node that runs them: the last one begun ends first, and what is within it is not counted twice.
    let mut open: Vec<((&str, &str), u64)> = Vec::new();
    for line in text.lines() {
        if let Some(begun) = began(line) {
            open.push((begun, 0));
        } else if let Some(ns) = took(line)
            && let Some(((operator, name), within)) = open.pop()
        {
            if let Some((_, within)) = open.last_mut() {
                *within += ns;
            }
            let ns = ns.saturating_sub(within);
            let place = *places.entry((name, operator)).or_insert_with(|| {
                nodes.push(NodeTime { name: name.to_owned(), operator: operator.to_owned(), ns: 0, calls: 0 });
                nodes.len() - 1
            });
            nodes[place].ns = nodes[place].ns.saturating_add(ns);
            nodes[place].calls += 1;
        }
    }
    nodes
}

/// Operator and name of `#12 Conv (name)`.
fn began(line: &str) -> Option<(&str, &str)> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    let (operator, name) = rest.split_once(" (")?;
    number.parse::<usize>().ok()?;
    Some((operator, name.strip_suffix(')')?))
}

/// Nanoseconds of `  time: 0.123ms`.
fn took(line: &str) -> Option<u64> {
    let ms: f64 = line.strip_prefix("  time: ")?.strip_suffix("ms")?.parse().ok()?;
    (ms.is_finite() && ms >= 0.0).then(|| (ms * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "#0 Conv (/c1/Conv)\n  input 0: x (f32 [1, 1, 28, 28])\n  output 0: y ([1, 8, 28, 28])\n  time: 0.123ms\n\
                        #1 Relu (a (b))\n  time: 0.002ms\n2 ops evaluated in 0.125ms\nConv 0.12ms (98.40%)\n\
                        #0 Conv (/c1/Conv)\n  time: 0.121ms\n#1 Relu (a (b))\n  output 0: y ([1";

    #[test]
    fn operators_with_a_time_are_added_up() {
        let of = |name: &str, operator: &str, ns, calls| NodeTime { name: name.into(), operator: operator.into(), ns, calls };
        assert_eq!(parse(SAID), [of("/c1/Conv", "Conv", 244_000, 2), of("a (b)", "Relu", 2_000, 1)]);
    }

    #[test]
    fn what_runs_within_a_node_counts_once() {
        let said = "#0 If (branch)\n#0 Add (inner)\n  time: 0.004ms\n  time: 0.010ms\n";
        let times: Vec<(String, u64)> = parse(said).into_iter().map(|n| (n.name, n.ns)).collect();
        assert_eq!(times, [("inner".to_owned(), 4_000), ("branch".to_owned(), 6_000)]);
    }

    #[test]
    fn other_words_are_passed_over() {
        for text in [
            "",
            "  time: 0.1ms",
            "#x Conv (a)\n  time: 0.1ms",
            "#0 Conv (a)\n  time: NaNms",
            "#0 Conv (a)\n  time: -1ms",
            "#0 Conv\n  time: 1ms",
        ] {
            assert!(parse(text).is_empty(), "{text}");
        }
        (0..SAID.len()).for_each(|cut| assert!(parse(&SAID[..cut]).len() <= 2));
    }
}
