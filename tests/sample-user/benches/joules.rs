//! `cargo bench`: joules and time of a function, and of an ONNX file.

use joulefront::criterion::{Energy, OnnxFile};
use sample_user::primes;
use std::hint::black_box;

fn main() -> joulefront::Result<()> {
    let energy = Energy::try_new()?;
    println!("{energy}");
    let mut joules = energy.criterion().configure_from_args();
    let mut time = Energy::latency_criterion().configure_from_args();

    time.bench_function("primes/latency", |b| b.iter(|| primes(black_box(100_000))));
    energy.group(&mut joules, "primes").bench_function("energy", |b| energy.iter(b, || primes(black_box(100_000))));

    let mut model = OnnxFile::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/fashion-mlp.onnx"))?;
    model.latency(&mut time)?;
    model.energy(&energy, &mut joules)?;

    joules.final_summary();
    Ok(())
}
