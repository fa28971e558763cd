//! Matrix products on integers: activations of known scale, or quantized as they come.

use super::coded::Coded;
use super::draft::Draft;
use super::product::{Matrix, Product, Refused, Sharing};
use crate::Result;
use crate::onnx::{Attributes, dtype_to_onnx};
use crate::tensor::{DType, Data, Tensor};

/// Most inputs of a layer: 2¹⁵·255·255 is below 2³¹, so no sum of products leaves int32, whatever the zero points.
const MOST_INPUTS: usize = 1 << 15;

/// DynamicQuantizeLinear, MatMulInteger, Cast, Mul and, for a bias, Add: the order in which ONNX Runtime and rten look for what they
/// fuse. All of the product's zero points are stated, as both want.
///
/// # Errors
/// A constant cannot be decoded.
pub(super) fn dynamic(draft: &mut Draft<'_>, layer: &Coded) -> Result<std::result::Result<String, Refused>> {
    let product = match Product::read(draft, layer)?.and_then(fits) {
        Ok(product) => product,
        Err(why) => return Ok(Err(why)),
    };
    let at = layer.node;
    let x = draft.float(&product.input)?;
    // Layers that read the same tensor share its integers.
    let activation = draft.shared(format!("dynamic {x}"), |draft| {
        let names: Vec<String> = ["q", "scale", "zero"].iter().map(|end| draft.fresh(&format!("{x}__{end}"))).collect();
        draft.add_as(at, "DynamicQuantizeLinear", &[&x], &names[0]).output = names.clone();
        Ok(names)
    })?;
    let weights = constants(draft, layer, &product.weights)?;
    let ([q, scale, zero], [w, w_scale, w_zero]) = (activation.as_slice(), weights.as_slice()) else { return Ok(Err(String::new())) };
    let sums = sums(draft, layer, &product, [q, w, zero, w_zero]);
    let scale = draft.add(at, "Mul", &[scale, w_scale], &format!("{}__scale", product.output));
    numbers(draft, at, &product, &sums, &scale);
    Ok(Ok(format!("{} weights, activations quantized to uint8 as they come", layer.code)))
}

/// QuantizeLinear to int8 with the scale that the canonical model has, and the product on integers. Where nothing is added and the
/// result is quantized at once, QLinearMatMul; else MatMulInteger with Cast, Mul and Add, whose sums nothing rounds.
///
/// # Errors
/// A constant cannot be decoded.
pub(super) fn fixed(draft: &mut Draft<'_>, layer: &Coded) -> Result<std::result::Result<String, Refused>> {
    let Some(pair) = draft.activation(layer.node).cloned() else { return Ok(Err("its activations are not quantized".into())) };
    let product = match Product::read(draft, layer)?.and_then(fits) {
        Ok(product) => product,
        Err(why) => return Ok(Err(why)),
    };
    let at = layer.node;
    let source = draft.float(&pair.source)?;
    let (scale, zero) = (Tensor::f32([], vec![pair.scale])?, scalar(pair.zero)?);
    let activation = draft.shared(format!("fixed {}", product.input), |draft| {
        let stem = &product.input;
        let s = draft.constant(&format!("{stem}__scale"), &scale);
        let z = draft.constant(&format!("{stem}__zero"), &zero);
        let q = draft.add(at, "QuantizeLinear", &[&source, &s, &z], &format!("{stem}__q"));
        Ok(vec![q, s, z])
    })?;
    let weights = constants(draft, layer, &product.weights)?;
    let ([q, scale, zero], [w, w_scale, w_zero]) = (activation.as_slice(), weights.as_slice()) else { return Ok(Err(String::new())) };
    let result =
        draft.quantized_only(&product.output).filter(|_| product.bias.is_none() && product.weights.sharing == Sharing::All).cloned();
    if let Some(result) = result {
        let s = draft.constant(&format!("{}__scale", product.output), &Tensor::f32([], vec![result.scale])?);
        let z = draft.constant(&format!("{}__zero", product.output), &scalar(result.zero)?);
        let integers = draft.fresh(&format!("{}__q", product.output));
        let node = draft.add_as(at, "QLinearMatMul", &[q, scale, zero, w, w_scale, w_zero, &s, &z], &integers);
        node.set_name(layer.name.clone());
        draft.add_as(at, "DequantizeLinear", &[&integers, &s, &z], &product.output);
        draft.remove(at);
        return Ok(Ok(format!("{} weights and int8 activations, QLinearMatMul", layer.code)));
    }
    let sums = sums(draft, layer, &product, [q, w, zero, w_zero]);
    let scales = product.weights.scales.iter().map(|s| s * pair.scale).collect::<Vec<_>>();
    let shape = if product.weights.sharing == Sharing::All { vec![] } else { vec![scales.len()] };
    let scale = draft.constant(&format!("{}__scale", product.output), &Tensor::f32(shape, scales)?);
    numbers(draft, at, &product, &sums, &scale);
    Ok(Ok(format!("{} weights and int8 activations, MatMulInteger", layer.code)))
}

/// True for a product that has zero points in its weights in the forms of this module too.
///
/// # Errors
/// A constant cannot be decoded.
pub(super) fn keeps_zero_points(draft: &mut Draft<'_>, layer: &Coded) -> Result<bool> {
    let product = Product::read(draft, layer)?.and_then(fits);
    Ok(product.is_ok_and(|product| !product.weights.zeros.is_empty()))
}

/// A product that integer kernels can add up: its scales leave the sum over the inputs alone. Its weights lose their zero points where
/// they can: kernels have less to do, and rten 0.27 forgets them when it packs weights beforehand.
fn fits(product: Product) -> std::result::Result<Product, Refused> {
    match product.weights.sharing {
        Sharing::Block(_) => Err("its weights have several scales along its inputs".into()),
        _ if product.weights.k > MOST_INPUTS => Err(format!("it adds up more than {MOST_INPUTS} products")),
        _ => Ok(Product { weights: product.weights.centred(), ..product }),
    }
}

fn scalar(value: i8) -> Result<Tensor> {
    Tensor::new(vec![], Data::I8(vec![value]))
}

/// The weights as int8 [K, N], their scales and their zero points: one, or one for each output. Layers may share them.
fn constants(draft: &mut Draft<'_>, layer: &Coded, weights: &Matrix) -> Result<Vec<String>> {
    // Gemm's alpha is in the scales, transB in the order.
    let key = format!("integers {} {} {:?}", layer.weight.name, layer.weight.output_axis, weights.scales.first());
    draft.shared(key, |draft| {
        let stem = &layer.weight.name;
        let along = if weights.sharing == Sharing::All { vec![] } else { vec![weights.n] };
        let w = draft.constant(&format!("{stem}__i8"), &Tensor::new(vec![weights.k, weights.n], Data::I8(weights.inputs_first()))?);
        let s = draft.constant(&format!("{stem}__scales"), &Tensor::f32(along.clone(), weights.scales.clone())?);
        let zero = match weights.zeros.as_slice() {
            [] => scalar(0)?,
            zeros => Tensor::new(along, Data::I8(zeros.to_vec()))?,
        };
        let z = draft.constant(&format!("{stem}__zeros"), &zero);
        Ok(vec![w, s, z])
    })
}

/// MatMulInteger under the layer's name; the name of the sums.
fn sums(draft: &mut Draft<'_>, layer: &Coded, product: &Product, operands: [&str; 4]) -> String {
    let sums = draft.fresh(&format!("{}__sums", product.output));
    draft.add_as(layer.node, "MatMulInteger", &operands, &sums).set_name(layer.name.clone());
    sums
}

/// From sums to the layer's output, and the layer itself goes.
fn numbers(draft: &mut Draft<'_>, at: usize, product: &Product, sums: &str, scale: &str) {
    let wide = draft.fresh(&format!("{}__wide", product.output));
    draft.add_as(at, "Cast", &[sums], &wide).set_int("to", dtype_to_onnx(DType::F32).into());
    match &product.bias {
        None => drop(draft.add_as(at, "Mul", &[&wide, scale], &product.output)),
        Some(bias) => {
            let scaled = draft.add(at, "Mul", &[&wide, scale], &format!("{}__scaled", product.output));
            draft.add_as(at, "Add", &[&scaled, bias], &product.output);
        }
    }
    draft.remove(at);
}
