//! Shape rules of the operators that slide a window over the spatial axes.

use super::infer::Fact;
use super::shape_rules::Rule;
use crate::onnx::{Attributes, pb};
use crate::{Error, Result};

/// Strides, dilations and pads above this are nonsense, and below it no sum overflows.
const MAX_STEP: i64 = 1 << 30;

pub(super) fn conv(node: &pb::NodeProto, x: &Fact, w: &Fact) -> Rule {
    if x.shape.len() < 3 || w.shape.len() != x.shape.len() || w.shape.contains(&0) {
        return Err(Error::bad_input(format!("input {:?} and weights {:?} do not fit", x.shape, w.shape)));
    }
    let group = node.int("group").unwrap_or(1);
    let channels = usize::try_from(group).ok().filter(|&g| g > 0).and_then(|g| g.checked_mul(w.shape[1]));
    if channels != Some(x.shape[1]) {
        let (input, each) = (x.shape[1], w.shape[1]);
        return Err(Error::bad_input(format!("the input has {input} channels, the weights are for {group} groups of {each}")));
    }
    let spatial = window(node, &x.shape[2..], &w.shape[2..], false)?;
    Ok(Ok(vec![Fact { dtype: x.dtype, shape: [&[x.shape[0], w.shape[0]][..], &spatial].concat() }]))
}

pub(super) fn pool(node: &pb::NodeProto, x: &Fact) -> Rule {
    let kernel = node.ints("kernel_shape").unwrap_or(&[]);
    if x.shape.len() < 3 || kernel.len() + 2 != x.shape.len() || kernel.iter().any(|k| !(1..=MAX_STEP).contains(k)) {
        return Err(Error::bad_input(format!("kernel {kernel:?} does not fit the input {:?}", x.shape)));
    }
    let kernel: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
    let spatial = window(node, &x.shape[2..], &kernel, node.int("ceil_mode") == Some(1))?;
    Ok(Ok(vec![Fact { dtype: x.dtype, shape: [&x.shape[..2], &spatial].concat() }]))
}

/// Spatial output sizes: floor or ceil of (in + pads − effective kernel) / stride + 1; SAME is ceil(in / stride).
fn window(node: &pb::NodeProto, input: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<usize>> {
    let spatial = kernel.len();
    let given = |name: &str, default: i64, len: usize| -> Result<Vec<usize>> {
        let v = node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec);
        if v.len() != len || v.iter().any(|x| !(i64::from(name != "pads")..=MAX_STEP).contains(x)) {
            return Err(Error::bad_input(format!("`{name}` must be {len} numbers, found {v:?}")));
        }
        Ok(v.into_iter().map(|x| x as usize).collect())
    };
    let strides = given("strides", 1, spatial)?;
    let dilations = given("dilations", 1, spatial)?;
    let pads = given("pads", 0, 2 * spatial)?;
    let auto = node.string("auto_pad").unwrap_or("NOTSET");
    (0..spatial)
        .map(|i| {
            if auto.starts_with("SAME") {
                return Ok(input[i].div_ceil(strides[i]));
            }
            let effective = (kernel[i].max(1) - 1).saturating_mul(dilations[i]).saturating_add(1);
            let padded = input[i] + if auto == "VALID" { 0 } else { pads[i] + pads[i + spatial] };
            let free = padded
                .checked_sub(effective)
                .ok_or_else(|| Error::bad_input(format!("a window of {effective} does not fit into {padded} (padding included)")))?;
            let mut out = if ceil { free.div_ceil(strides[i]) } else { free / strides[i] } + 1;
            // With ceil_mode a last window that would start in the padding on the right is dropped (ONNX, AveragePool).
            if ceil && (out - 1) * strides[i] >= input[i] + pads[i] {
                out -= 1;
            }
            Ok(out)
        })
        .collect()
}
