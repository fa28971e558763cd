//! Matrix products by weights of four bits, packed in blocks: `com.microsoft.MatMulNBits`.

use super::coded::Coded;
use super::draft::Draft;
use super::product::{Matrix, Product, Refused, Sharing};
use crate::Result;
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};

/// Blocks that every engine has kernels for, the best first.
const BLOCKS: [usize; 2] = [32, 16];

/// The engine may quantize activations to eight bits in blocks: the levels are those of ONNX Runtime's `accuracy_level`.
const ACCURACY: i64 = 4;

/// MatMulNBits and, for a bias, Add. The operator can add it itself, but not in every engine.
///
/// # Errors
/// A constant cannot be decoded.
pub(super) fn packed(draft: &mut Draft<'_>, layer: &Coded) -> Result<std::result::Result<String, Refused>> {
    let (product, packed) = match Product::read(draft, layer)?.and_then(|p| Packed::new(&p.weights).map(|packed| (p, packed))) {
        Ok(both) => both,
        Err(why) => return Ok(Err(why)),
    };
    let at = layer.node;
    let x = draft.float(&product.input)?;
    let (k, n, block, blocks) = (product.weights.k, product.weights.n, packed.block, packed.blocks);
    let key = format!("packed {} {} {:?}", layer.weight.name, layer.weight.output_axis, product.weights.scales.first());
    let mut inputs = vec![x];
    inputs.extend(draft.shared(key, |draft| {
        let stem = &layer.weight.name;
        let mut names = vec![
            draft.constant(&format!("{stem}__u4"), &Tensor::new(vec![n, blocks, block / 2], Data::U8(packed.codes))?),
            draft.constant(&format!("{stem}__scales"), &Tensor::f32([n, blocks], packed.scales)?),
        ];
        if let Some(zeros) = packed.zeros {
            names.push(draft.constant(&format!("{stem}__zeros"), &Tensor::new(vec![n, blocks.div_ceil(2)], Data::U8(zeros))?));
        }
        Ok(names)
    })?);
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let output = match &product.bias {
        None => product.output.clone(),
        Some(_) => draft.fresh(&format!("{}__product", product.output)),
    };
    let node = draft.add_as(at, "MatMulNBits", &inputs, &output);
    node.set_name(layer.name.clone());
    node.set_domain("com.microsoft".into());
    for (name, value) in [("K", k), ("N", n), ("bits", 4), ("block_size", block)] {
        node.set_int(name, value as i64);
    }
    node.set_int("accuracy_level", ACCURACY);
    if let Some(bias) = &product.bias {
        draft.add_as(at, "Add", &[&output, bias], &product.output);
    }
    draft.remove(at);
    draft.import("com.microsoft", 1);
    let filled = if k % block == 0 { "" } else { ", the last one filled up" };
    Ok(Ok(format!("{} weights packed in blocks of {block}{filled}", layer.code)))
}

/// Weights as the operator reads them.
struct Packed {
    block: usize,
    blocks: usize,
    /// [N, blocks, block / 2], the first of two in the lower half.
    codes: Vec<u8>,
    /// [N, blocks]
    scales: Vec<f32>,
    /// [N, ⌈blocks / 2⌉]; `None` when all are 8.
    zeros: Option<Vec<u8>>,
}

impl Packed {
    fn new(weights: &Matrix) -> std::result::Result<Self, Refused> {
        let (k, n) = (weights.k, weights.n);
        let levels = || weights.levels.iter().chain(&weights.zeros).copied();
        let (low, high) = (levels().min().unwrap_or(0), levels().max().unwrap_or(0));
        // Symmetric codes sit around 8, others start at their least level.
        let shift = match (low, high) {
            (-8.., ..=7) => 8,
            _ if i32::from(high) - i32::from(low) < 16 => -i32::from(low),
            _ => return Err("its weights need more than 4 bits".into()),
        };
        // A block of the operator may not reach across blocks of the encoding.
        let whole = |size: usize| match weights.sharing {
            Sharing::Block(own) => own % size == 0,
            _ => true,
        };
        let block = BLOCKS.into_iter().find(|b| k.is_multiple_of(*b) && whole(*b)).or_else(|| BLOCKS.into_iter().find(|b| whole(*b)));
        let Some(block) = block else { return Err("its blocks are no multiples of 16".into()) };
        let blocks = k.div_ceil(block);
        let group = |o: usize, b: usize| match weights.sharing {
            Sharing::All => 0,
            Sharing::Output => o,
            Sharing::Block(own) => o * k.div_ceil(own) + b * block / own,
        };
        let grid = || (0..n).flat_map(|o| (0..blocks).map(move |b| (o, b)));
        let zero = |o: usize, b: usize| (i32::from(weights.zeros.get(group(o, b)).copied().unwrap_or(0)) + shift) as u8;
        let code = |o: usize, i: usize| match i < k {
            true => (i32::from(weights.levels[o * k + i]) + shift) as u8,
            // Beyond the inputs stands zero.
            false => zero(o, i / block),
        };
        let codes =
            grid().flat_map(|(o, b)| (0..block / 2).map(move |i| (o, b * block + 2 * i))).map(|(o, i)| code(o, i) | code(o, i + 1) << 4);
        let rows = (0..n).flat_map(|o| (0..blocks.div_ceil(2)).map(move |pair| (o, 2 * pair)));
        let zeros: Vec<u8> = rows.map(|(o, b)| zero(o, b) | if b + 1 < blocks { zero(o, b + 1) } else { 8 } << 4).collect();
        Ok(Packed {
            block,
            blocks,
            codes: codes.collect(),
            scales: grid().map(|(o, b)| weights.scales[group(o, b)]).collect(),
            zeros: zeros.iter().any(|&z| z != 0x88).then_some(zeros),
        })
    }
}
