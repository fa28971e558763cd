//! ONNX Runtime's profile: a JSON list of events, of which those of category `Node` with a name that ends in `_kernel_time` are the
//! operators' runs. Its clock has whole microseconds, cut off: each run counts half a microsecond more, which is what is cut off
//! on average. An event is written down after its operator, which takes as long as a small operator does.

use super::NodeTime;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::HashMap;

/// What is read of an event; anything else in it is left alone.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ts: i64,
    #[serde(default)]
    dur: i64,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
struct Args {
    #[serde(default)]
    op_name: String,
}

/// What a profile says.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Told {
    /// In the order in which they first ran.
    pub(in crate::engine) nodes: Vec<NodeTime>,
    /// Nanoseconds between the end of an operator and the start of the next in the same run: next to nothing but the writing.
    pub(in crate::engine) between_ns: u64,
}

/// Ends the names of the events that count.
const RUN: &str = "_kernel_time";

/// What `json` tells, without the first `skip` runs of each node.
///
/// # Errors
/// It is no list of events (cut short, say), or no operator ran.
pub(in crate::engine) fn parse(json: &[u8], skip: u64) -> Result<Told> {
    let events: Vec<Event> = serde_json::from_slice(json)
        .map_err(|e| Error::engine(format!("ONNX Runtime's profile cannot be read: {e}")).hint("is the disk full, or was it cut short?"))?;
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    let mut nodes: Vec<NodeTime> = Vec::new();
    let mut skipped: Vec<u64> = Vec::new();
    let mut between_ns = 0u64;
    // Where the operator before ended, in the same run.
    let mut ended: Option<i64> = None;
    for event in events {
        // A run's own event stands after those of its operators.
        if event.cat != "Node" {
            ended = None;
        }
        let Some(name) = event.name.strip_suffix(RUN).filter(|_| event.cat == "Node" && event.dur >= 0) else { continue };
        let place = *places.entry((name.to_owned(), event.args.op_name.clone())).or_insert_with(|| {
            nodes.push(NodeTime { name: name.to_owned(), operator: event.args.op_name.clone(), ns: 0, calls: 0 });
            skipped.push(0);
            nodes.len() - 1
        });
        if skipped[place] < skip {
            skipped[place] += 1;
            continue;
        }
        if let Some(gap) = ended.and_then(|end| event.ts.checked_sub(end)).filter(|&gap| gap > 0) {
            between_ns = between_ns.saturating_add(nanoseconds(gap));
        }
        // What its duration was cut off by, its end was as well.
        ended = event.ts.checked_add(event.dur);
        nodes[place].ns = nodes[place].ns.saturating_add(nanoseconds(event.dur).saturating_add(500));
        nodes[place].calls += 1;
    }
    nodes.retain(|n| n.calls > 0);
    if nodes.is_empty() {
        return Err(Error::engine("ONNX Runtime's profile has no operator in it"));
    }
    Ok(Told { between_ns: between_ns.saturating_sub(cut(&nodes)), nodes })
}

fn nanoseconds(us: i64) -> u64 {
    us.unsigned_abs().saturating_mul(1000)
}

/// What was added to the operators for what is cut off belongs to them, not to what lies between.
fn cut(nodes: &[NodeTime]) -> u64 {
    nodes.iter().map(|n| n.calls.saturating_mul(500)).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    const PROFILE: &str = r#"[
{"cat" : "Session","pid" :1,"tid" :1,"dur" :900,"ts" :3,"ph" : "X","name" :"model_loading_uri","args" : {}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :0,"ts" :2000,"ph" : "X","name" :"/c1/Conv_fence_before","args" : {"op_name" : "Conv"}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :40,"ts" :2001,"ph" : "X","name" :"/c1/Conv_kernel_time","args" : {"op_name" : "Conv","node_index" : "0"}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :7,"ts" :2050,"ph" : "X","name" :"ReorderOutput_kernel_time","args" : {"op_name" : "ReorderOutput"}},
{"cat" : "Session","pid" :1,"tid" :1,"dur" :70,"ts" :1998,"ph" : "X","name" :"model_run","args" : {}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :42,"ts" :3001,"ph" : "X","name" :"/c1/Conv_kernel_time","args" : {"op_name" : "Conv"}}
]
"#;

    fn of(name: &str, operator: &str, ns: u64, calls: u64) -> NodeTime {
        NodeTime { name: name.into(), operator: operator.into(), ns, calls }
    }

    #[test]
    fn runs_of_operators_are_added_up() {
        let told = parse(PROFILE.as_bytes(), 0).unwrap();
        assert_eq!(told.nodes, [of("/c1/Conv", "Conv", 83_000, 2), of("ReorderOutput", "ReorderOutput", 7_500, 1)]);
        // 9 µs from the end of the first to the start of the second, less the half microseconds that were added; what lies between two
        // runs is not among them.
        assert_eq!(told.between_ns, 9_000 - 3 * 500);
        assert_eq!(parse(PROFILE.as_bytes(), 1).unwrap(), Told { nodes: vec![of("/c1/Conv", "Conv", 42_500, 1)], between_ns: 0 });
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        // Cut anywhere before its end it is no JSON, and nothing is made of the part that came.
        let whole = PROFILE.trim_end().len();
        for cut in (0..whole).step_by(7) {
            assert!(parse(&PROFILE.as_bytes()[..cut], 0).is_err(), "{cut}");
        }
        for text in ["[]", "{}", "[1]", "\u{0}", "[{\"cat\":\"Node\",\"dur\":\"long\",\"name\":\"a_kernel_time\"}]"] {
            assert!(parse(text.as_bytes(), 0).is_err(), "{text}");
        }
        let huge = r#"[{"cat":"Node","dur":9223372036854775807,"name":"a_kernel_time"},{"cat":"Node","dur":-5,"name":"a_kernel_time"}]"#;
        assert_eq!(parse(huge.as_bytes(), 0).unwrap().nodes[0].ns, u64::MAX);
    }
}
