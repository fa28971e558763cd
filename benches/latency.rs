//! Latency and energy of one inference of a shipped model on each engine: `cargo bench`, with `-- --save-baseline NAME`,
//! `-- --baseline NAME` and the report in `target/criterion` as with any benchmark of criterion.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::criterion::{Energy, OnnxFile};
use joulefront::engine::{LoadOptions, all};
use std::path::Path;

const MODEL: &str = "fashion-resnet8";

fn main() -> joulefront::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{MODEL}.onnx"));
    let energy = Energy::try_new()?;
    println!("{energy}");
    let mut time = Energy::latency_criterion().configure_from_args();
    let mut joules = energy.criterion().configure_from_args();
    for engine in all() {
        match OnnxFile::open_with(&path, engine.name(), &LoadOptions::default(), None) {
            Ok(mut model) => {
                model.latency(&mut time)?;
                model.energy(&energy, &mut joules)?;
            }
            Err(e) => println!("{MODEL}/{}: {e}", engine.name()),
        }
    }
    joules.final_summary();
    Ok(())
}
