//! Losses of classification: `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss`.

use super::args::{Args, integers};
use super::cast::cast;
use super::layout::around;
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// The mean, sum or each of `−weight · log p` of the true classes; `SoftmaxCrossEntropyLoss` normalises first and gives the logarithms as
/// its second output.
pub(super) fn loss(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let Data::F64(mut logs) = cast(x, DType::F64)?.into_data() else { return Err(Error::bad_input("expected floats")) };
    if x.shape().len() < 2 {
        return Err(Error::bad_input(format!("{:?} has no axis of classes", x.shape())));
    }
    let parts = around(x.shape(), 1);
    let normalise = args.node.op_type() == "SoftmaxCrossEntropyLoss";
    if normalise {
        log_softmax(&mut logs, parts);
    }
    let loss = likelihood(args, &logs, parts)?;
    let mut outputs = vec![cast(&loss, x.dtype())?];
    if normalise {
        outputs.push(cast(&Tensor::new(x.shape().to_vec(), Data::F64(logs))?, x.dtype())?);
    }
    Ok(outputs)
}

fn log_softmax(v: &mut [f64], (outer, n, inner): (usize, usize, usize)) {
    for i in 0..outer * inner {
        let at = |k: usize| (i / inner * n + k) * inner + i % inner;
        // Shifted by the largest, so that nothing overflows.
        let largest = (0..n).fold(f64::NEG_INFINITY, |m, k| m.max(v[at(k)]));
        let sum = (0..n).map(|k| (v[at(k)] - largest).exp()).sum::<f64>().ln();
        (0..n).for_each(|k| v[at(k)] -= largest + sum);
    }
}

fn likelihood(args: &Args, logs: &[f64], (outer, n, inner): (usize, usize, usize)) -> Result<Tensor> {
    let (x, target) = (args.tensor(0)?, args.tensor(1)?);
    if target.len() != outer * inner {
        return Err(Error::bad_input(format!("classes of shape {:?} do not fit values of shape {:?}", target.shape(), x.shape())));
    }
    let weights = match args.optional(2).map(|w| cast(w, DType::F64)).transpose()?.map(Tensor::into_data) {
        Some(Data::F64(w)) if w.len() == n => w,
        Some(w) => return Err(Error::bad_input(format!("{} weights do not fit {n} classes", w.len()))),
        None => vec![1.0; n],
    };
    let ignored = args.node.int("ignore_index");
    let mut losses = Vec::with_capacity(target.len());
    let mut weight = 0.0;
    for (i, class) in integers(target)?.into_iter().enumerate() {
        if Some(class) == ignored {
            losses.push(0.0);
            continue;
        }
        let c = usize::try_from(class).ok().filter(|&c| c < n).ok_or_else(|| Error::bad_input(format!("there is no class {class}")))?;
        weight += weights[c];
        losses.push(-weights[c] * logs[(i / inner * n + c) * inner + i % inner]);
    }
    match args.node.string("reduction").unwrap_or("mean") {
        "none" => Tensor::new(target.shape().to_vec(), Data::F64(losses)),
        "sum" => Tensor::new(vec![], Data::F64(vec![losses.iter().sum()])),
        "mean" => Tensor::new(vec![], Data::F64(vec![losses.iter().sum::<f64>() / weight])),
        other => Err(Error::bad_input(format!("the reduction `{other}` is not one of ONNX"))),
    }
}
