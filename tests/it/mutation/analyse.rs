//! Everything that the program does with a model's file before an engine sees it. The fuzz target `model` uses this file as well.

use joulefront::compress::{Groups, prepare_within};
use joulefront::exec::Executor;
use joulefront::model::{Encoding, Facts, Graph, NEWEST, layers_with_sources, totals, upgrade};
use joulefront::onnx::Model;

/// Bytes that weights which the graph works out may take.
const PLAIN_UP_TO: u64 = 1 << 20;

/// What comes of it does not matter here, coming back does. True when the file could be read.
pub(crate) fn survive(bytes: &[u8]) -> bool {
    let Ok(model) = Model::from_bytes(bytes, "hostile") else { return false };
    let _ = inspect(&model);
    if let Ok((prepared, _)) = prepare_within(&model, PLAIN_UP_TO) {
        let _ = inspect(&prepared);
        written(&prepared);
    }
    let mut newer = model.clone();
    if upgrade(&mut newer, NEWEST).is_ok() {
        written(&newer);
    }
    written(&model);
    true
}

/// What `inspect` and `compress` ask of a model; one whose tensors are all small is run as well.
fn inspect(model: &Model) -> joulefront::Result<()> {
    let facts = Facts::infer(model, 1)?;
    let graph = Graph::new(model);
    let found = layers_with_sources(&graph, &facts)?;
    for (layer, sources) in &found {
        let _ = (layer.editable(), layer.weights().map(|w| w.encoding()).collect::<Vec<_>>());
        sources.iter().for_each(|s| drop((s.zeros(), s.encoding())));
    }
    for name in graph.nodes().iter().flat_map(|n| &n.input) {
        let _ = Encoding::of(&graph, &facts, name);
    }
    let list: Vec<_> = found.into_iter().map(|(layer, _)| layer).collect();
    totals(&graph, &list)?;
    let _ = Groups::find(&graph, &facts, &list);
    if is_small(model, &facts) {
        let outputs: Vec<&str> = model.graph().output.iter().map(|o| o.name()).collect();
        let _ = Executor::new(model)?.run(&[], &outputs);
    }
    Ok(())
}

/// Whether a model can be computed in no time and little memory: every tensor is known to be small, and nothing is repeated.
fn is_small(model: &Model, facts: &Facts) -> bool {
    let known = |name: &String| facts.shape(name).filter(|_| !facts.is_stated(name));
    let small = |name: &String| name.is_empty() || known(name).is_some_and(|s| s.iter().product::<usize>() <= 4096);
    let graph = model.graph();
    let plain = graph.node.iter().all(|n| n.attribute.iter().all(|a| a.g.is_none() && a.graphs.is_empty()));
    plain && model.proto().functions.is_empty() && graph.node.iter().all(|n| n.input.iter().chain(&n.output).all(small))
}

/// What the program writes is the same model when it is read again. Fields of the future may change places, as protobuf allows; the
/// bytes are the same but for their order. Tensors in other files were not read.
fn written(model: &Model) {
    if model.has_external_data() {
        return;
    }
    let bytes = model.to_bytes().expect("a model that was read can be written");
    let again = Model::from_bytes(&bytes, "again").expect("what was written can be read");
    let again = again.to_bytes().expect("and written again");
    assert!(sorted(again) == sorted(bytes), "a model is another one after it was written and read");
}

fn sorted(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.sort_unstable();
    bytes
}
