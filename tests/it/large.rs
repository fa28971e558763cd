//! Large models are mapped and streamed: memory does not grow with them. Sizes only; how long it takes is not looked at.

use crate::budget::peak;
use crate::support::repository;
use joulefront::compress::Groups;
use joulefront::model::{Facts, Graph, layers, totals};
use joulefront::onnx::{Model, pb};
use std::path::Path;
use std::process::Command;

/// What looking at a model or copying it may take, whatever its size.
const BUDGET: usize = 4 << 20;
/// What the whole program may take for `inspect`, in KiB: 150 MB, less than the model.
const PROGRAM_KIB: usize = 150_000_000 / 1024;

/// A model of 200 MiB: its weights are one buffer here, and as many as there are layers in the file.
fn write(path: &Path, external: bool) {
    let mut model = Model::load(repository("models/fashion-mlp.onnx")).unwrap();
    let graph = model.graph_mut();
    (graph.node, graph.initializer, graph.value_info) = Default::default();
    let weights = bytes::Bytes::from([0x3F, 0x00, 0x00, 0x01].repeat(1280 * 1280));
    for layer in 0..32 {
        let mut tensor = pb::TensorProto::new();
        tensor.set_name(format!("w{layer}"));
        tensor.set_data_type(1);
        tensor.dims = vec![1280, 1280];
        tensor.set_raw_data(weights.clone());
        tensor.set_data_location(i32::from(external));
        graph.initializer.push(tensor);
        let mut node = pb::NodeProto::new();
        node.set_op_type("MatMul".into());
        node.input = vec![format!("x{layer}"), format!("w{layer}")];
        node.output = vec![format!("x{}", layer + 1)];
        graph.node.push(node);
    }
    for (info, name) in [(&mut graph.input[0], "x0"), (&mut graph.output[0], "x32")] {
        info.set_name(name.into());
        let shape = info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default();
        shape.dim.resize_with(2, Default::default);
        shape.dim[1].set_dim_value(1280);
    }
    model.save(path).unwrap();
}

#[test]
fn large_models_are_looked_at_and_copied_without_copies_in_memory() {
    for external in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("large.onnx"), folder.path().join("copy.onnx"));
        write(&path, external);
        let ((), taken) = peak(|| {
            let model = Model::load(&path).unwrap();
            let graph = Graph::new(&model);
            let facts = Facts::infer(&model, 1).unwrap();
            let list = layers(&graph, &facts).unwrap();
            assert_eq!(totals(&graph, &list).unwrap().params, 32 * 1280 * 1280);
            Groups::find(&graph, &facts, &list).unwrap();
            model.save(&copy).unwrap();
        });
        assert!(taken <= BUDGET, "{taken} bytes, data in another file: {external}");
        let length = |p: &Path| std::fs::metadata(p).map_or(0, |m| m.len());
        let data = if external { "copy.onnx.data" } else { "copy.onnx" };
        assert!(length(&folder.path().join(data)) >= 32 * 4 * 1280 * 1280);
        // The whole program, under a limit on its memory that the kernel holds it to. The engine's process has the same limit and
        // does not get by with it, which `inspect` reports.
        #[cfg(target_os = "linux")]
        {
            let limited = format!("ulimit -d {PROGRAM_KIB} && exec \"$0\" inspect \"$1\"");
            let ran = Command::new("sh").args(["-c", &limited, env!("CARGO_BIN_EXE_joulefront")]).arg(&copy).output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
            assert!(ran.status.success(), "{err}");
            assert!(out.contains("52,428,800 parameters") || out.contains("52.4"), "{out}");
        }
    }
}
