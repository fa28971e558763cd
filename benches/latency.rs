//! Latency of one inference of a shipped model on each engine: `cargo bench --bench latency`.
#![allow(missing_docs, clippy::print_stdout, reason = "criterion makes public functions; a bench prints")]

use criterion::{Criterion, criterion_group, criterion_main};
use joulefront::engine::{Engine, LoadOptions, Session, Source, all};
use joulefront::tensor::Tensor;
use std::path::Path;

const MODEL: &str = "fashion-resnet8";

fn session(engine: &dyn Engine) -> joulefront::Result<Box<dyn Session>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{MODEL}.onnx"));
    let mut session = engine.load(Source::Path(&path), &LoadOptions::default())?;
    let image = (0..28 * 28).map(|i| (i % 255) as f32 / 255.0).collect();
    session.prepare(&[vec![Tensor::f32([1, 1, 28, 28], image)?]])?;
    session.run_slot(0)?;
    Ok(session)
}

fn latency(c: &mut Criterion) {
    for &engine in all() {
        let name = format!("{MODEL}/{}", engine.name());
        match session(engine) {
            Ok(mut session) => drop(c.bench_function(&name, |b| b.iter(|| session.run_slot(0)))),
            Err(e) => println!("{name}: {e}"),
        }
    }
}

criterion_group! {
    name = benches;
    // Criterion's plots need a font registered with this package's font back end, and panic without one.
    config = Criterion::default().without_plots();
    targets = latency
}
criterion_main!(benches);
