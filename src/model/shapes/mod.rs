//! Shape rules: from each operator's name to the function that works out types and dimensions of its outputs.
//!
//! A rule sees the node, the facts of its inputs and the values of small constants ([`args::Args`]). It answers with facts, with a
//! reason why they cannot be known, or with an error when the graph contradicts itself. Operators whose outputs depend on data
//! say so here, in the table. `If`, `Loop`, `Scan` and the functions of a model are walked by [`super::infer`].

pub(super) mod args;
mod elementwise;
mod movement;
mod products;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
pub(super) mod scope;
mod signal;
mod sources;
mod windows;

use crate::onnx::{Attributes, pb};
use args::{Args, Rule, unknown};
use scope::Scope;

/// Types and dimensions of the outputs of `node`.
pub(super) fn outputs(node: &pb::NodeProto, opset: i64, scope: &Scope) -> Rule {
    let args = Args { node, opset, scope };
    match node.domain() {
        _ if node.is_standard() => standard(&args),
        "com.microsoft" => microsoft(&args),
        domain => unknown(format!("there is no shape rule for {} of the domain `{domain}`", node.op_type())),
    }
}

/// The operators of ONNX itself.
#[rustfmt::skip]
fn standard(args: &Args) -> Rule {
    match args.node.op_type() {
        "Abs" | "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "BitwiseNot" | "Ceil" | "Celu" | "Clip" | "Cos" | "Cosh" | "CumSum"
        | "CumProd" | "Elu" | "Erf" | "Exp" | "Floor" | "Gelu" | "GroupNormalization" | "HardSigmoid" | "HardSwish" | "Hardmax" | "Identity"
        | "InstanceNormalization" | "LRN" | "LeakyRelu" | "Log" | "LogSoftmax" | "LpNormalization" | "MeanVarianceNormalization" | "Mish"
        | "Neg" | "Not" | "RMSNormalization" | "Reciprocal" | "Relu" | "ReverseSequence" | "RotaryEmbedding" | "Round" | "Scatter"
        | "ScatterElements" | "ScatterND" | "TensorScatter" | "Selu" | "Shrink" | "Sigmoid" | "Sign" | "Sin" | "Sinh" | "Softmax"
        | "Softplus" | "Softsign" | "Sqrt" | "SwiGLU" | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" | "Trilu" => elementwise::same(args),
        "Add" | "And" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Div" | "Max" | "Mean" | "Min" | "Mod" | "Mul" | "Or" | "Pow"
        | "Sub" | "Sum" | "Xor" => elementwise::broadcast_all(args),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => elementwise::compare(args),
        "IsNaN" | "IsInf" => elementwise::test(args),
        "Where" => elementwise::choose(args),
        "PRelu" => elementwise::prelu(args),
        "Cast" | "BitCast" => elementwise::cast(args),
        "CastLike" => elementwise::cast_like(args),
        "Dropout" => elementwise::dropout(args),
        "BatchNormalization" => elementwise::batch_norm(args),
        "LayerNormalization" => elementwise::layer_norm(args),
        "Conv" | "DeformConv" => windows::conv(args),
        "ConvInteger" => windows::conv_integer(args),
        "QLinearConv" => windows::qlinear_conv(args),
        "ConvTranspose" => windows::conv_transpose(args),
        "MaxPool" | "AveragePool" | "LpPool" => windows::pool(args),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => windows::global_pool(args),
        "MaxUnpool" => windows::unpool(args),
        "Col2Im" => windows::col2im(args),
        "Gemm" => products::gemm(args),
        "MatMul" => products::matmul(args),
        "MatMulInteger" => products::matmul_integer(args),
        "QLinearMatMul" => products::qlinear_matmul(args),
        "Einsum" => products::einsum(args),
        "Attention" => products::attention(args),
        "QuantizeLinear" => quantized::quantize(args),
        "DequantizeLinear" => quantized::dequantize(args),
        "DynamicQuantizeLinear" => quantized::dynamic(args),
        "RNN" | "GRU" | "LSTM" => recurrent::recurrent(args),
        "Reshape" => movement::reshape(args),
        "Flatten" => movement::flatten(args),
        "Transpose" => movement::transpose(args),
        "Squeeze" => movement::squeeze(args),
        "Unsqueeze" => movement::unsqueeze(args),
        "Concat" => movement::concat(args),
        "Split" => movement::split(args),
        "Slice" => movement::slice(args),
        "Pad" => movement::pad(args),
        "Expand" => movement::expand(args),
        "Tile" => movement::tile(args),
        "Gather" => movement::gather(args),
        "GatherElements" => movement::gather_elements(args),
        "GatherND" => movement::gather_nd(args),
        "TopK" => movement::top_k(args),
        "OneHot" => movement::one_hot(args),
        "DepthToSpace" | "SpaceToDepth" => movement::depth_to_space(args),
        "Constant" => sources::constant(args),
        "ConstantOfShape" => sources::constant_of_shape(args),
        "Range" => sources::range(args),
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => sources::like(args),
        "RandomNormal" | "RandomUniform" => sources::random(args),
        "Shape" | "Size" => sources::size(args),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum"
        | "ReduceSumSquare" => reduce::reduce(args),
        "ArgMax" | "ArgMin" => reduce::arg(args),
        "Resize" | "Upsample" => resize::resize(args),
        "GridSample" => resize::grid_sample(args),
        "RoiAlign" | "MaxRoiPool" => resize::regions(args),
        "AffineGrid" => resize::affine_grid(args),
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => signal::window(args),
        "MelWeightMatrix" => signal::mel_weights(args),
        "DFT" => signal::dft(args),
        "STFT" => signal::stft(args),
        "CenterCropPad" => signal::center_crop_pad(args),
        op @ ("NonZero" | "NonMaxSuppression" | "Unique" | "Compress" | "Multinomial" | "StringNormalizer" | "StringSplit") => {
            unknown(format!("the size of what {op} finds depends on the data"))
        }
        op if op.starts_with("Sequence") || op.starts_with("Optional") || matches!(op, "SplitToSequence" | "ConcatFromSequence") => {
            unknown(format!("{op} works on sequences or optional values, which are kept but not followed"))
        }
        op => unknown(format!("there is no shape rule for {op}")),
    }
}

/// The operators of ONNX Runtime that quantized models and transformers hold.
fn microsoft(args: &Args) -> Rule {
    match args.node.op_type() {
        "Gelu" | "FastGelu" | "QuickGelu" | "BiasGelu" | "BiasSoftmax" | "QLinearSigmoid" | "QLinearLeakyRelu" => elementwise::same(args),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" | "SimplifiedLayerNormalization" => elementwise::same(args),
        "FusedConv" => windows::conv(args),
        "FusedGemm" => products::gemm(args),
        "FusedMatMul" => products::matmul(args),
        "MatMulNBits" => products::matmul_nbits(args),
        "QuantizeLinear" => quantized::quantize(args),
        "DequantizeLinear" => quantized::dequantize(args),
        "QLinearAdd" | "QLinearMul" => quantized::binary(args),
        op => unknown(format!("there is no shape rule for {op} of the domain `com.microsoft`")),
    }
}
