//! Graphs in graphs, functions, and values that are no tensors.

use super::Creature;
use super::builder::{At, Build};
use joulefront::tensor::DType::{Bool, F32, I64};
use joulefront::tensor::{Data, Tensor};

pub(super) fn family() -> Vec<Creature> {
    vec![
        constant_if(),
        computed_if(),
        nested_if(),
        counted_loop(),
        ended_loop(),
        scan(),
        functions(),
        function_of_functions(),
        sequences(),
        optionals(),
    ]
}

fn truth(value: bool) -> Tensor {
    Tensor::new(vec![], Data::Bool(vec![value])).unwrap()
}

/// Two branches with a layer each; the inner constants belong to them.
fn branches(b: &mut Build, x: &str, condition: &str) -> String {
    let mut branch = |op: &str| {
        b.subgraph(&[], |b| {
            let y = b.matmul(x, 4, 3);
            vec![(b.node(op, &[&y], &[]), F32, "N,3")]
        })
    };
    let (then, other) = (branch("Relu"), branch("Tanh"));
    b.node("If", &[condition], &[("then_branch", At::G(then)), ("else_branch", At::G(other))])
}

fn constant_if() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let training = b.constant(&truth(false));
    let y = branches(&mut b, &x, &training);
    let y = b.gemm(&y, 3, 2, true);
    b.creature("If with a constant", &[(&y, F32, "N,2")])
}

fn computed_if() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let sum = b.node("ReduceSum", &[&x], &[("keepdims", At::I(0))]);
    let limit = b.scalar(100.0);
    let small = b.node("Less", &[&sum, &limit], &[]);
    let y = branches(&mut b, &x, &small);
    b.creature("If that is worked out", &[(&y, F32, "N,3")])
}

/// What PyTorch makes of `squeeze`: the rank decides, and it is known.
fn nested_if() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,1,4");
    let shape = b.node("Shape", &[&x], &[]);
    let one = b.constant(&Tensor::new(vec![], Data::I64(vec![1])).unwrap());
    let middle = b.node("Gather", &[&shape, &one], &[]);
    let flat = b.node("Equal", &[&middle, &one], &[]);
    let axes = b.list(&[1]);
    let inner = b.node("Not", &[&flat], &[]);
    let then = b.subgraph(&[], |b| vec![(b.node("Squeeze", &[&x, &axes], &[]), F32, "N,4")]);
    let other = b.subgraph(&[], |b| {
        let a = b.subgraph(&[], |b| vec![(b.node("ReduceMean", &[&x], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]), F32, "N,4")]);
        let c = b.subgraph(&[], |b| vec![(b.node("ReduceMax", &[&x], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]), F32, "N,4")]);
        vec![(b.node("If", &[&inner], &[("then_branch", At::G(a)), ("else_branch", At::G(c))]), F32, "N,4")]
    });
    let y = b.node("If", &[&flat], &[("then_branch", At::G(then)), ("else_branch", At::G(other))]);
    let y = b.matmul(&y, 4, 2);
    b.creature("If by the shape", &[(&y, F32, "N,2")])
}

/// Five steps with a state, and the states of all steps as an output.
fn counted_loop() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,3");
    let w = b.weight(&[3, 3]);
    let body = b.subgraph(&[("i", I64, ""), ("go", Bool, ""), ("state", F32, "N,3")], |b| {
        let y = b.node("MatMul", &["state", &w], &[]);
        let y = b.node("Tanh", &[&y], &[]);
        let step = b.node("Cast", &["i"], &[("to", At::I(1))]);
        let y = b.node("Add", &[&y, &step], &[]);
        let mean = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
        vec![(b.node("Identity", &["go"], &[]), Bool, ""), (y, F32, "N,3"), (mean, F32, "N")]
    });
    let trips = b.constant(&Tensor::new(vec![], Data::I64(vec![5])).unwrap());
    let out = b.nodes("Loop", &[&trips, "", &x], 2, &[("body", At::G(body))]);
    b.creature("Loop with a count", &[(&out[0], F32, "N,3"), (&out[1], F32, "5,N")])
}

/// Halves until all is small: the number of steps is data.
fn ended_loop() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,3");
    let yes = b.constant(&truth(true));
    let body = b.subgraph(&[("i", I64, ""), ("go", Bool, ""), ("state", F32, "N,3")], |b| {
        let (half, limit) = (b.scalar(0.5), b.scalar(0.1));
        let y = b.node("Mul", &["state", &half], &[]);
        let size = b.node("Abs", &[&y], &[]);
        let size = b.node("ReduceMax", &[&size], &[("keepdims", At::I(0))]);
        vec![(b.node("Greater", &[&size, &limit], &[]), Bool, ""), (y, F32, "N,3")]
    });
    let y = b.node("Loop", &["", &yes, &x], &[("body", At::G(body))]);
    b.creature("Loop with a condition", &[(&y, F32, "N,3")])
}

fn scan() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "T=4,3");
    let start = b.input("start", "3");
    let body = b.subgraph(&[("sum", F32, "3"), ("row", F32, "3")], |b| {
        let sum = b.node("Add", &["sum", "row"], &[]);
        let out = b.node("Sigmoid", &[&sum], &[]);
        vec![(sum, F32, "3"), (out, F32, "3")]
    });
    let out = b.nodes("Scan", &[&start, &x], 2, &[("body", At::G(body)), ("num_scan_inputs", At::I(1))]);
    b.creature("Scan", &[(&out[0], F32, "3"), (&out[1], F32, "T,3")])
}

/// A layer as a function, called twice, with an attribute that it hands on.
fn functions() -> Creature {
    let mut b = Build::bare(17);
    b.function("Layer", &["x", "w", "b"], &["alpha"], |b| {
        let y = b.node("MatMul", &["x", "w"], &[]);
        let y = b.node("Add", &[&y, "b"], &[]);
        vec![b.node("LeakyRelu", &[&y], &[("alpha", At::Ref("alpha", 1))])]
    });
    let x = b.input("x", "N=2,4");
    let (w, bias) = (b.weight(&[4, 4]), b.weight(&[4]));
    let y = b.node("local::Layer", &[&x, &w, &bias], &[("alpha", At::F(0.25))]);
    let y = b.node("local::Layer", &[&y, &w, &bias], &[("alpha", At::F(-0.5))]);
    b.creature("functions", &[(&y, F32, "N,4")])
}

/// A function that calls another, two outputs, an input that is left out, a constant of its own.
fn function_of_functions() -> Creature {
    let mut b = Build::bare(17);
    b.function("Halve", &["x"], &[], |b| {
        let half = b.constant_node(&Tensor::f32([], vec![0.5]).unwrap());
        vec![b.node("Mul", &["x", &half], &[])]
    });
    b.function("Both", &["x", "low"], &[], |b| {
        let h = b.node("local::Halve", &["x"], &[]);
        let clipped = b.node("Clip", &[&h, "low"], &[]);
        vec![b.node("local::Halve", &[&clipped], &[]), h]
    });
    let x = b.input("x", "N=2,3");
    let low = b.scalar(0.0);
    let a = b.nodes("local::Both", &[&x, &low], 2, &[]);
    let c = b.nodes("local::Both", &[&a[1], ""], 2, &[]);
    let y = b.node("Sub", &[&a[0], &c[0]], &[]);
    b.creature("functions of functions", &[(&y, F32, "N,3")])
}

fn sequences() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "4,3");
    let parts = b.node("SplitToSequence", &[&x], &[("axis", At::I(0)), ("keepdims", At::I(1))]);
    let at = b.constant(&Tensor::new(vec![], Data::I64(vec![2])).unwrap());
    let one = b.node("SequenceAt", &[&parts, &at], &[]);
    let double = b.node("Add", &[&one, &one], &[]);
    let parts = b.node("SequenceInsert", &[&parts, &double], &[]);
    let y = b.node("ConcatFromSequence", &[&parts], &[("axis", At::I(0))]);
    let length = b.node("SequenceLength", &[&parts], &[]);
    b.creature("sequences", &[(&y, F32, "5,3"), (&length, I64, "")])
}

fn optionals() -> Creature {
    let mut b = Build::bare(18);
    let x = b.input("x", "N=2,3");
    let maybe = b.node("Optional", &[&x], &[]);
    let there = b.node("OptionalHasElement", &[&maybe], &[]);
    let y = b.node("OptionalGetElement", &[&maybe], &[]);
    let y = b.relu(&y);
    b.creature("optionals", &[(&y, F32, "N,3"), (&there, Bool, "")])
}
