//! Recurrent layers: opaque inside, their outputs are known.

use super::args::{Args, Rule, one, wrong};
use crate::onnx::Attributes;

/// `RNN`, `GRU`, `LSTM`: the whole sequence `[T, D, B, H]`, then the last state and, for `LSTM`, the last cell `[D, B, H]`; with
/// `layout` 1 the batch comes first.
pub(super) fn recurrent(args: &Args) -> Rule {
    let (x, w, r) = (args.input(0)?, args.shape(1)?, args.shape(2)?);
    let (&[a, b, _], &[directions, ..], Some(&hidden)) = (x.shape.as_slice(), w, r.last()) else {
        return wrong(format!("input {:?} and weights {w:?} do not fit", x.shape));
    };
    let hidden = args.node.int("hidden_size").and_then(|h| usize::try_from(h).ok()).unwrap_or(hidden);
    let (all, last) = if args.flag("layout", false) {
        (vec![a, b, directions, hidden], vec![a, directions, hidden])
    } else {
        (vec![a, directions, b, hidden], vec![directions, b, hidden])
    };
    // Before operator set 7 the whole sequence could be switched off; its place stays.
    Ok([one(x.dtype, all)?, one(x.dtype, last.clone())?, one(x.dtype, last)?].concat())
}
