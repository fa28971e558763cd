//! A model file: parsed, checked, its shapes inferred, its layers and groups listed, its constants decoded and folded.
#![no_main]

use joulefront::compress::{Groups, prepare};
use joulefront::exec::Executor;
use joulefront::model::{Facts, Graph, layers, totals};
use joulefront::onnx::Model;
use libfuzzer_sys::{Corpus, fuzz_target};

fn analyse(model: &Model) -> joulefront::Result<()> {
    let facts = Facts::infer(model, 1)?;
    let graph = Graph::new(model);
    let list = layers(&graph, &facts)?;
    totals(&graph, &list)?;
    Groups::find(&graph, &facts, &list)?;
    Ok(())
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(model) = Model::from_bytes(bytes, "fuzz") else { return Corpus::Keep };
    // What was read can be written, and is the same model then. Tensors in other files were not read.
    if !model.has_external_data() {
        let written = model.to_bytes().expect("a model that was read can be written");
        let again = Model::from_bytes(&written, "again").expect("what was written can be read");
        assert!(again.to_bytes().expect("and written again") == written);
    }
    let _ = analyse(&model);
    if let Ok((prepared, _)) = prepare(&model) {
        let _ = analyse(&prepared);
    }
    let _ = Executor::new(&model);
    Corpus::Keep
});
