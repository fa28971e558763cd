//! A model file: parsed, checked, its shapes inferred and constants folded, its layers and groups listed, its operators
//! converted and, where all is small, run.
#![no_main]

use joulefront::compress::{Groups, prepare};
use joulefront::exec::Executor;
use joulefront::model::{Facts, Graph, layers, totals, upgrade};
use joulefront::onnx::{Model, pb};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use protobuf::Message;

#[path = "../../tests/it/mutation/structure.rs"]
mod structure;

fn analyse(model: &Model) -> joulefront::Result<()> {
    let facts = Facts::infer(model, 1)?;
    let graph = Graph::new(model);
    let list = layers(&graph, &facts)?;
    totals(&graph, &list)?;
    let _ = Groups::find(&graph, &facts, &list);
    if structure::is_small(model, &facts) {
        let outputs: Vec<&str> = model.graph().output.iter().map(|o| o.name()).collect();
        let _ = Executor::new(model)?.run(&[], &outputs);
    }
    Ok(())
}

/// What the program writes is the same model when it is read again. Fields of the future may change places, as protobuf allows.
fn written(model: &Model) {
    let mut bytes = model.to_bytes().expect("a model that was read can be written");
    let again = Model::from_bytes(&bytes, "again").expect("what was written can be read");
    let mut again = again.to_bytes().expect("and written again");
    bytes.sort_unstable();
    again.sort_unstable();
    assert!(again == bytes);
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(model) = Model::from_bytes(bytes, "fuzz") else { return Corpus::Keep };
    let _ = analyse(&model);
    if let Ok((prepared, _)) = prepare(&model) {
        let _ = analyse(&prepared);
    }
    // Tensors in other files were not read.
    if !model.has_external_data() {
        written(&model);
        let mut newer = model;
        if upgrade(&mut newer, 21).is_ok() {
            written(&newer);
        }
    }
    Corpus::Keep
});

// Two of three changes keep the bytes readable protobuf.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = structure::Dice::new(u64::from(seed));
    let parsed = pb::ModelProto::parse_from_bytes(data.get(..size).unwrap_or_default());
    let (true, Ok(mut model)) = (dice.below(3) > 0, parsed) else { return fuzzer_mutate(data, size, max_size) };
    for _ in 0..1 + dice.below(3) {
        structure::change(&mut model, &mut dice);
    }
    match model.write_to_bytes() {
        Ok(bytes) if bytes.len() <= max_size.min(data.len()) => {
            data[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
