//! Tokens, attention, recurrence, and tables.

use super::Creature;
use super::builder::{At, Build};
use joulefront::tensor::DType::{self, Bool, F32, I64};
use joulefront::tensor::{Data, Tensor};

pub(super) fn family() -> Vec<Creature> {
    vec![
        attention_of_fixed_length(),
        attention_of_any_length(),
        classifier_of_tokens(),
        decoder(),
        fused_norms(),
        gelus(),
        rotary_einsum(),
        recurrent("LSTM", 4),
        recurrent("GRU", 3),
        recurrent("RNN", 1),
        recurrent_chain(),
        table(),
        ranking(),
        index_work(),
    ]
}

/// The three projections, the heads and the way back. Shapes are constants; the batch comes from the input.
fn attention(b: &mut Build, x: &str, width: usize, heads: usize, mask: Option<&str>) -> String {
    let (apart, together) = (b.list(&[0, -1, heads as i64, (width / heads) as i64]), b.list(&[0, -1, width as i64]));
    let project = |b: &mut Build, perm: &[i64]| {
        let y = b.matmul(x, width, width);
        let y = b.node("Reshape", &[&y, &apart], &[]);
        b.node("Transpose", &[&y], &[("perm", At::Is(perm))])
    };
    let (q, k, v) = (project(b, &[0, 2, 1, 3]), project(b, &[0, 2, 3, 1]), project(b, &[0, 2, 1, 3]));
    let scores = b.node("MatMul", &[&q, &k], &[]);
    let root = b.scalar(((width / heads) as f32).sqrt());
    let mut scores = b.node("Div", &[&scores, &root], &[]);
    if let Some(mask) = mask {
        let low = b.scalar(-1e9);
        scores = b.node("Where", &[mask, &scores, &low], &[]);
    }
    let scores = b.node("Softmax", &[&scores], &[("axis", At::I(-1))]);
    let y = b.node("MatMul", &[&scores, &v], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3]))]);
    let y = b.node("Reshape", &[&y, &together], &[]);
    b.matmul(&y, width, width)
}

fn layer_norm(b: &mut Build, x: &str, width: usize) -> String {
    let (gamma, beta) = (b.weight(&[width]), b.weight(&[width]));
    b.node("LayerNormalization", &[x, &gamma, &beta], &[("axis", At::I(-1)), ("epsilon", At::F(1e-6))])
}

fn attention_of_fixed_length() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("tokens", "N=2,5,12");
    let y = attention(&mut b, &x, 12, 3, None);
    let y = b.node("Add", &[&y, &x], &[]);
    b.creature("attention", &[(&y, F32, "N,5,12")])
}

/// As PyTorch exports `view(batch, length, …)`: the shape is put together from pieces of Shape.
fn attention_of_any_length() -> Creature {
    let mut b = Build::bare(14);
    let x = b.input("tokens", "N=2,T=7,8");
    let w = b.scaled(&[8, 24], 8);
    let (w, bias) = (b.constant(&w), b.weight(&[24]));
    let y = b.node("MatMul", &[&x, &w], &[]);
    let y = b.node("Add", &[&bias, &y], &[]);
    let shape = b.node("Shape", &[&x], &[]);
    let front: Vec<String> = (0..2)
        .map(|axis| {
            let at = b.constant_node(&Tensor::new(vec![], Data::I64(vec![axis])).unwrap());
            let d = b.node("Gather", &[&shape, &at], &[("axis", At::I(0))]);
            let zero = b.constant_node(&Tensor::i64s(vec![0]));
            b.node("Unsqueeze", &[&d, &zero], &[])
        })
        .collect();
    let joined = |b: &mut Build, rest: &[i64]| {
        let rest = b.list(rest);
        b.node("Concat", &[&front[0], &front[1], &rest], &[("axis", At::I(0))])
    };
    let (apart, together) = (joined(&mut b, &[3, 2, 4]), joined(&mut b, &[8]));
    let y = b.node("Reshape", &[&y, &apart], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[2, 0, 3, 1, 4]))]);
    let parts = b.nodes("Split", &[&y], 3, &[("axis", At::I(0))]);
    let first = b.list(&[0]);
    let [q, k, v] = [0, 1, 2].map(|i| b.node("Squeeze", &[&parts[i], &first], &[]));
    let k = b.node("Transpose", &[&k], &[("perm", At::Is(&[0, 1, 3, 2]))]);
    let scores = b.node("MatMul", &[&q, &k], &[]);
    let half = b.scalar(0.5);
    let scores = b.node("Mul", &[&scores, &half], &[]);
    let scores = b.node("Softmax", &[&scores], &[("axis", At::I(3))]);
    let y = b.node("MatMul", &[&scores, &v], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3]))]);
    let y = b.node("Reshape", &[&y, &together], &[]);
    b.creature("attention of any length", &[(&y, F32, "N,T,8")])
}

fn embedded(b: &mut Build, ids: &str, words: usize, width: usize) -> String {
    let (table, positions) = (b.uniform(&[words, width]), b.uniform(&[1, 16, width]));
    let (table, positions) = (b.constant(&table), b.constant(&positions));
    let y = b.node("Gather", &[&table, ids], &[]);
    let shape = b.node("Shape", &[ids], &[]);
    let (zero, one, two) = (b.list(&[0]), b.list(&[1]), b.list(&[2]));
    let length = b.node("Slice", &[&shape, &one, &two, &zero], &[]);
    let positions = b.node("Slice", &[&positions, &zero, &length, &one], &[]);
    b.node("Add", &[&y, &positions], &[])
}

/// Token ids with a padding mask, one block of an encoder, the mean over the tokens that count.
fn classifier_of_tokens() -> Creature {
    let mut b = Build::bare(17);
    let ids = b.ids("input_ids", "N=2,T=6", 30);
    let mask = b.feed("attention_mask", "N=2,T=6", Tensor::new(vec![2, 6], Data::I64(vec![1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])).unwrap());
    let x = embedded(&mut b, &ids, 30, 8);
    let axes = b.list(&[1, 2]);
    let wide = b.node("Unsqueeze", &[&mask, &axes], &[]);
    let wide = b.node("Cast", &[&wide], &[("to", At::I(9))]);
    let y = attention(&mut b, &x, 8, 2, Some(&wide));
    let y = b.node("Add", &[&x, &y], &[]);
    let y = layer_norm(&mut b, &y, 8);
    let last = b.list(&[2]);
    let weight = b.node("Unsqueeze", &[&mask, &last], &[]);
    let weight = b.node("Cast", &[&weight], &[("to", At::I(1))]);
    let y = b.node("Mul", &[&y, &weight], &[]);
    let one = b.list(&[1]);
    let sum = b.node("ReduceSum", &[&y, &one], &[("keepdims", At::I(0))]);
    let count = b.node("ReduceSum", &[&weight, &one], &[("keepdims", At::I(0))]);
    let y = b.node("Div", &[&sum, &count], &[]);
    let y = b.gemm(&y, 8, 3, true);
    let y = b.node("LogSoftmax", &[&y], &[("axis", At::I(1))]);
    b.creature("classifier of tokens", &[(&y, F32, "N,3")])
}

/// A causal mask of the input's length, weights shared by the embedding and the output, the next token.
fn decoder() -> Creature {
    let mut b = Build::bare(17);
    let ids = b.ids("ids", "N=1,T=5", 20);
    let table = b.uniform(&[20, 8]);
    let table = b.constant(&table);
    let x = b.node("Gather", &[&table, &ids], &[]);
    let shape = b.node("Shape", &[&ids], &[("start", At::I(1))]);
    let square = b.node("Concat", &[&shape, &shape], &[("axis", At::I(0))]);
    let one = Tensor::new(vec![1], Data::I32(vec![1])).unwrap();
    let mask = b.node("ConstantOfShape", &[&square], &[("value", At::T(&one))]);
    let mask = b.node("Trilu", &[&mask], &[("upper", At::I(0))]);
    let mask = b.node("Cast", &[&mask], &[("to", At::I(9))]);
    let y = attention(&mut b, &x, 8, 2, Some(&mask));
    let y = b.node("Add", &[&x, &y], &[]);
    let y = layer_norm(&mut b, &y, 8);
    let back = b.node("Transpose", &[&table], &[("perm", At::Is(&[1, 0]))]);
    let logits = b.node("MatMul", &[&y, &back], &[]);
    let at = b.constant(&Tensor::new(vec![], Data::I64(vec![-1])).unwrap());
    let last = b.node("Gather", &[&logits, &at], &[("axis", At::I(1))]);
    let next = b.node("ArgMax", &[&last], &[("axis", At::I(-1)), ("keepdims", At::I(0))]);
    b.creature("decoder", &[(&last, F32, "N,20"), (&next, I64, "N")])
}

fn fused_norms() -> Creature {
    let mut b = Build::bare(23);
    let x = b.input("x", "N=2,3,10");
    let y = layer_norm(&mut b, &x, 10);
    let scale = b.weight(&[10]);
    let y = b.node("RMSNormalization", &[&y, &scale], &[("axis", At::I(-1)), ("epsilon", At::F(1e-5))]);
    let (gamma, beta) = (b.weight(&[3, 10]), b.weight(&[3, 10]));
    let y = b.node("LayerNormalization", &[&y, &gamma, &beta], &[("axis", At::I(1))]);
    b.creature("norms in one node", &[(&y, F32, "N,3,10")])
}

fn gelus() -> Creature {
    let mut b = Build::bare(20);
    let x = b.input("x", "N=3,10");
    let h = b.matmul(&x, 10, 12);
    let root = b.scalar(std::f32::consts::SQRT_2);
    let e = b.node("Div", &[&h, &root], &[]);
    let e = b.node("Erf", &[&e], &[]);
    let one = b.scalar(1.0);
    let e = b.node("Add", &[&e, &one], &[]);
    let e = b.node("Mul", &[&h, &e], &[]);
    let half = b.scalar(0.5);
    let by_hand = b.node("Mul", &[&e, &half], &[]);
    let whole = b.node("Gelu", &[&by_hand], &[]);
    let near = b.node("Gelu", &[&whole], &[("approximate", At::S("tanh"))]);
    let mish = b.node("Mish", &[&near], &[]);
    let s = b.node("Sigmoid", &[&mish], &[]);
    let silu = b.node("Mul", &[&mish, &s], &[]);
    let y = b.matmul(&silu, 12, 4);
    b.creature("activations of transformers", &[(&by_hand, F32, "N,12"), (&y, F32, "N,4")])
}

/// Rotary positions by Split, Neg and Concat; scores by Einsum; keys and values for fewer heads, expanded.
fn rotary_einsum() -> Creature {
    let mut b = Build::bare(14);
    let q = b.input("q", "N=1,4,T=3,6");
    let k = b.input("k", "N=1,2,T=3,6");
    let (cos, sin) = (b.uniform(&[3, 6]), b.uniform(&[3, 6]));
    let (cos, sin) = (b.constant(&cos), b.constant(&sin));
    let rotate = |b: &mut Build, x: &str| {
        let halves = b.nodes("Split", &[x], 2, &[("axis", At::I(-1))]);
        let minus = b.node("Neg", &[&halves[1]], &[]);
        let turned = b.node("Concat", &[&minus, &halves[0]], &[("axis", At::I(-1))]);
        let (a, c) = (b.node("Mul", &[x, &cos], &[]), b.node("Mul", &[&turned, &sin], &[]));
        b.node("Add", &[&a, &c], &[])
    };
    let (q, k) = (rotate(&mut b, &q), rotate(&mut b, &k));
    let two = b.list(&[2]);
    let k = b.node("Unsqueeze", &[&k, &two], &[]);
    let (wide, narrow) = (b.list(&[1, 1, 2, 1, 1]), b.list(&[0, 4, -1, 6]));
    let k = b.node("Expand", &[&k, &wide], &[]);
    let k = b.node("Reshape", &[&k, &narrow], &[]);
    let scores = b.node("Einsum", &[&q, &k], &[("equation", At::S("bhid,bhjd->bhij"))]);
    b.creature("rotary and einsum", &[(&scores, F32, "N,4,T,T")])
}

/// Both directions, lengths, an initial state; all outputs.
fn recurrent(op: &'static str, gates: usize) -> Creature {
    let mut b = Build::bare(14);
    let (size, hidden) = (3, 4);
    let x = b.input("x", "T=5,N=2,3");
    let w = b.scaled(&[2, gates * hidden, size], size);
    let r = b.scaled(&[2, gates * hidden, hidden], hidden);
    let bias = b.uniform(&[2, 2 * gates * hidden]);
    let [w, r, bias] = [w, r, bias].map(|t| b.constant(&t));
    let lengths = b.constant(&Tensor::new(vec![2], Data::I32(vec![5, 3])).unwrap());
    let start = b.input("h0", "2,N=2,4");
    let mut inputs = vec![&*x, &w, &r, &bias, &lengths, &start];
    if op == "LSTM" {
        inputs.push(&start);
    }
    let outputs = if op == "LSTM" { 3 } else { 2 };
    let out = b.nodes(op, &inputs, outputs, &[("hidden_size", At::I(hidden as i64)), ("direction", At::S("bidirectional"))]);
    let all: Vec<(&str, DType, &str)> =
        out.iter().zip(["T,2,N,4", "2,N,4", "2,N,4"]).map(|(name, dims)| (name.as_str(), F32, dims)).collect();
    b.creature(op, &all)
}

/// A recurrent layer between others, with defaults, and what exporters put around it.
fn recurrent_chain() -> Creature {
    let mut b = Build::bare(14);
    let x = b.input("x", "N=2,T=4,3");
    let y = b.node("Transpose", &[&x], &[("perm", At::Is(&[1, 0, 2]))]);
    let (w, r) = (b.scaled(&[1, 15, 3], 3), b.scaled(&[1, 15, 5], 5));
    let (w, r) = (b.constant(&w), b.constant(&r));
    let y = b.node("GRU", &[&y, &w, &r], &[("hidden_size", At::I(5)), ("linear_before_reset", At::I(1))]);
    let one = b.list(&[1]);
    let y = b.node("Squeeze", &[&y, &one], &[]);
    let (w, r) = (b.scaled(&[1, 16, 5], 5), b.scaled(&[1, 16, 4], 4));
    let (w, r) = (b.constant(&w), b.constant(&r));
    let y = b.nodes("LSTM", &[&y, &w, &r], 2, &[("hidden_size", At::I(4))]).remove(1);
    let zero = b.list(&[0]);
    let y = b.node("Squeeze", &[&y, &zero], &[]);
    let y = b.gemm(&y, 4, 3, true);
    b.creature("recurrent chain", &[(&y, F32, "N,3")])
}

/// Numbers and categories, missing values, a normalisation of columns.
fn table() -> Creature {
    let mut b = Build::bare(13);
    let numbers = vec![0.5, f32::NAN, -2.0, 1.5, 3.0, 0.25, f32::NAN, -1.0];
    let numbers = b.feed("numbers", "N=2,4", Tensor::f32([2, 4], numbers).unwrap());
    let kinds = b.ids("categories", "N=2,2", 5);
    let missing = b.node("IsNaN", &[&numbers], &[]);
    let fill = b.weight(&[4]);
    let x = b.node("Where", &[&missing, &fill, &numbers], &[]);
    let x = b.batch_norm(&x, 4);
    let table = b.uniform(&[5, 3]);
    let table = b.constant(&table);
    let e = b.node("Gather", &[&table, &kinds], &[("axis", At::I(0))]);
    let e = b.node("Flatten", &[&e], &[]);
    let flags = b.node("Cast", &[&missing], &[("to", At::I(1))]);
    let x = b.node("Concat", &[&x, &e, &flags], &[("axis", At::I(-1))]);
    let h = b.gemm(&x, 14, 10, true);
    let h = b.node("Selu", &[&h], &[]);
    let y = b.gemm(&h, 10, 3, false);
    let y = b.node("Softmax", &[&y], &[]);
    b.creature("table with two inputs", &[(&y, F32, "N,3")])
}

fn ranking() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,8");
    let k = b.list(&[3]);
    let top = b.nodes("TopK", &[&x, &k], 2, &[]);
    let low = b.nodes("TopK", &[&x, &k], 2, &[("largest", At::I(0)), ("axis", At::I(1))]);
    let most = b.node("ArgMax", &[&x], &[("axis", At::I(1)), ("select_last_index", At::I(1))]);
    let least = b.node("ArgMin", &[&x], &[("axis", At::I(0)), ("keepdims", At::I(0))]);
    let one = b.constant(&Tensor::i64s(vec![1]));
    let sums = b.node("CumSum", &[&x, &one], &[("exclusive", At::I(1)), ("reverse", At::I(1))]);
    let positive = b.scalar(0.0);
    let positive = b.node("Greater", &[&x, &positive], &[]);
    b.creature(
        "ranking",
        &[
            (&top[0], F32, "N,3"),
            (&top[1], I64, "N,3"),
            (&low[0], F32, "N,3"),
            (&low[1], I64, "N,3"),
            (&most, I64, "N,1"),
            (&least, I64, "8"),
            (&sums, F32, "N,8"),
            (&positive, Bool, "N,8"),
        ],
    )
}

/// What is done with indices: OneHot, GatherND, ScatterND, ScatterElements, Tile, Mod, Range.
fn index_work() -> Creature {
    let mut b = Build::bare(16);
    let ids = b.ids("ids", "N=2,3", 4);
    let x = b.input("x", "4,3");
    let (depth, values) =
        (b.constant(&Tensor::new(vec![], Data::I64(vec![4])).unwrap()), b.constant(&Tensor::f32([2], vec![0.0, 2.0]).unwrap()));
    let hot = b.node("OneHot", &[&ids, &depth, &values], &[]);
    let rows = b.node("MatMul", &[&hot, &x], &[]);
    let last = b.list(&[2]);
    let index = b.node("Unsqueeze", &[&ids, &last], &[]);
    let picked = b.node("GatherND", &[&x, &index], &[]);
    let both = b.node("Add", &[&rows, &picked], &[]);
    let at = b.constant(&Tensor::new(vec![2, 1], Data::I64(vec![3, 1])).unwrap());
    let fresh = b.weight(&[2, 3]);
    let set = b.node("ScatterND", &[&x, &at, &fresh], &[]);
    let at = b.constant(&Tensor::new(vec![1, 3], Data::I64(vec![0, -1, 2])).unwrap());
    let add = b.weight(&[1, 3]);
    let set = b.node("ScatterElements", &[&set, &at, &add], &[("axis", At::I(0)), ("reduction", At::S("add"))]);
    let twice = b.list(&[1, 2]);
    let tiled = b.node("Tile", &[&set, &twice], &[]);
    let three = b.constant(&Tensor::new(vec![], Data::I64(vec![3])).unwrap());
    let rest = b.node("Mod", &[&ids, &three], &[]);
    b.creature("indices", &[(&both, F32, "N,3,3"), (&tiled, F32, "4,6"), (&rest, I64, "N,3")])
}
