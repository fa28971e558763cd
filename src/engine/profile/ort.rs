//! ONNX Runtime's profile: a JSON list of events, of which those of category `Node` with a name that ends in `_kernel_time` are the
//! operators' runs. Its clock has whole microseconds, cut off: each run counts half a microsecond more, which is what is cut off
//! on average.

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
    dur: i64,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
struct Args {
    #[serde(default)]
    op_name: String,
}

/// Ends the names of the events that count.
const RUN: &str = "_kernel_time";

/// The times of the nodes in `json`, in the order in which they first ran, without the first `skip` runs of each.
///
/// # Errors
/// It is no list of events (cut short, say), or no operator ran.
pub(in crate::engine) fn parse(json: &[u8], skip: u64) -> Result<Vec<NodeTime>> {
    let events: Vec<Event> = serde_json::from_slice(json)
        .map_err(|e| Error::engine(format!("ONNX Runtime's profile cannot be read: {e}")).hint("is the disk full, or was it cut short?"))?;
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    let mut nodes: Vec<NodeTime> = Vec::new();
    let mut skipped: Vec<u64> = Vec::new();
    for event in events.into_iter().filter(|e| e.cat == "Node" && e.dur >= 0) {
        let Some(name) = event.name.strip_suffix(RUN) else { continue };
        let place = *places.entry((name.to_owned(), event.args.op_name.clone())).or_insert_with(|| {
            nodes.push(NodeTime { name: name.to_owned(), operator: event.args.op_name.clone(), ns: 0, calls: 0 });
            skipped.push(0);
            nodes.len() - 1
        });
        if skipped[place] < skip {
            skipped[place] += 1;
            continue;
        }
        nodes[place].ns = nodes[place].ns.saturating_add(event.dur.unsigned_abs().saturating_mul(1000).saturating_add(500));
        nodes[place].calls += 1;
    }
    nodes.retain(|n| n.calls > 0);
    if nodes.is_empty() {
        return Err(Error::engine("ONNX Runtime's profile has no operator in it"));
    }
    Ok(nodes)
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
{"cat" : "Node","pid" :1,"tid" :1,"dur" :42,"ts" :3001,"ph" : "X","name" :"/c1/Conv_kernel_time","args" : {"op_name" : "Conv"}}
]
"#;

    #[test]
    fn runs_of_operators_are_added_up() {
        let nodes = parse(PROFILE.as_bytes(), 0).unwrap();
        let of = |name: &str, operator: &str, ns, calls| NodeTime { name: name.into(), operator: operator.into(), ns, calls };
        assert_eq!(nodes, [of("/c1/Conv", "Conv", 83_000, 2), of("ReorderOutput", "ReorderOutput", 7_500, 1)]);
        assert_eq!(parse(PROFILE.as_bytes(), 1).unwrap(), [of("/c1/Conv", "Conv", 42_500, 1)]);
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
        assert_eq!(parse(huge.as_bytes(), 0).unwrap()[0].ns, u64::MAX);
    }
}
