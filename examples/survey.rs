//! What joulefront and tract make of every ONNX file under some folders: loads, infers, executes, runs in tract, and why not.
//!
//! ```text
//! cargo run --release --example survey -- FOLDER… > survey.md
//! ```
//! `docs/COVERAGE.md` keeps its answer for the models inside public packages. Where a file has stored inputs and outputs beside it
//! (`test_data_set_0/input_0.pb`, as ONNX's own tests have), it is run on them and must give them; else on made-up inputs, with the
//! first of [`SIZES`] for open dimensions with which all shapes are known.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use joulefront::engine::LoadOptions;
use joulefront::exec::Executor;
use joulefront::model::{Dims, Facts, Given, Graph};
use joulefront::onnx::{Model, pb, tensor_from_proto};
use joulefront::runner::{Job, MemoryLimit, Program, Runner};
use joulefront::tensor::{Data, Tensor};
use joulefront::{Error, Result};
use protobuf::Message;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Largest difference to stored outputs, relative to max(1, |stored|).
const TOLERANCE: f64 = 1e-4;

/// Lengths to try for open dimensions: all of one model's get the same.
const SIZES: [usize; 6] = [64, 96, 48, 576, 1, 16];

/// What came out for one file, in the order of the questions; a question is not asked when the one it rests on failed.
struct Row {
    name: String,
    answers: [Option<std::result::Result<&'static str, String>>; 4],
}

fn main() {
    joulefront::runner::init();
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        eprintln!("usage: survey FOLDER…");
        std::process::exit(2);
    }
    println!("| group | models | load | infer | execute | tract runs |\n|---|---|---|---|---|---|");
    let mut refusals = String::new();
    for folder in folders {
        let mut files = Vec::new();
        collect(&folder, &mut files);
        files.sort();
        let rows: Vec<Row> = files.iter().map(|f| survey(&folder, f)).collect();
        let group = folder.file_name().map_or_else(Default::default, |n| n.to_string_lossy().into_owned());
        let count = |i: usize| rows.iter().filter(|r| matches!(r.answers[i], Some(Ok(_)))).count();
        println!("| {group} | {} | {} | {} | {} | {} |", rows.len(), count(0), count(1), count(2), count(3));
        for row in &rows {
            for (what, answer) in ["load", "infer", "execute", "tract"].iter().zip(&row.answers) {
                if let Some(Err(why)) = answer {
                    refusals += &format!("| {group}/{} | {what} | {} |\n", row.name, why.replace('|', "\\|").replace('\n', " "));
                }
            }
        }
    }
    println!("\n| model | does not | because |\n|---|---|---|\n{refusals}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "onnx") {
            files.push(path);
        }
    }
}

fn survey(folder: &Path, file: &Path) -> Row {
    let short = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    let name = short.to_string_lossy().trim_end_matches("/model").to_owned();
    let said = |r: Result<&'static str>| Some(r.map_err(|e| e.to_string().replace(&format!("`{}`: ", file.display()), "")));
    let model = match Model::load(file) {
        Ok(model) => model,
        Err(e) => return Row { name, answers: [said(Err(e)), None, None, None] },
    };
    let dims = numbers(&model);
    let (inputs, outputs) = stored(file).unwrap_or_else(|| (made_up(&model, &dims), None));
    let infers = infers(&model, &dims, &inputs, outputs.as_deref());
    let executes = executes(&model, &inputs, outputs.as_deref());
    let tract = runs_in_tract(file, &model, &inputs);
    Row { name, answers: [Some(Ok("")), said(infers), said(executes), said(tract)] }
}

/// Numbers for the open dimensions of a model, the batch being 1.
fn numbers(model: &Model) -> Dims {
    let with = |size: usize| {
        let given = |input: &&pb::ValueInfoProto| -> Option<Given> {
            let dims = &input.type_.tensor_type.shape.dim;
            let number = |(axis, d): (usize, &pb::tensor_shape_proto::Dimension)| match usize::try_from(d.dim_value()) {
                Ok(n) if n > 0 => n.to_string(),
                _ => if axis == 0 || Some(d.dim_param()) == dims.first().map(|f| f.dim_param()) { 1 } else { size }.to_string(),
            };
            format!("{}={}", input.name(), dims.iter().enumerate().map(number).collect::<Vec<_>>().join("x")).parse().ok()
        };
        Graph::new(model).inputs().collect::<Vec<_>>().iter().filter_map(given).fold(Dims::batch(1), Dims::with)
    };
    let known = |dims: &Dims| {
        Facts::infer_with(model, dims).is_ok_and(|facts| model.graph().output.iter().all(|o| facts.shape(o.name()).is_some()))
    };
    SIZES.into_iter().map(with).find(known).unwrap_or_else(|| with(SIZES[0]))
}

/// Every output's shape is known, and right where that can be told.
fn infers(model: &Model, dims: &Dims, inputs: &[Tensor], outputs: Option<&[Tensor]>) -> Result<&'static str> {
    let facts = Facts::infer_with(model, dims).or_else(|_| Facts::infer(model, 1))?;
    let same = Graph::new(model).inputs().zip(inputs).all(|(i, t)| facts.shape(i.name()) == Some(t.shape()));
    for (o, t) in model.graph().output.iter().zip(outputs.unwrap_or(&[])).filter(|_| same) {
        if facts.shape(o.name()).is_some_and(|s| s != t.shape()) {
            let (name, inferred) = (o.name(), facts.shape(o.name()));
            return Err(Error::bad_input(format!("`{name}` is {:?}, inferred was {inferred:?}", t.shape())));
        }
    }
    let unknown = model.graph().output.iter().find(|o| facts.shape(o.name()).is_none());
    match (unknown, facts.unknown().first()) {
        (None, _) => Ok("all outputs"),
        (Some(_), Some((_, why))) => Err(Error::bad_input(why.clone())),
        (Some(o), None) => Err(Error::bad_input(format!("nothing tells the shape of `{}`", o.name()))),
    }
}

fn executes(model: &Model, inputs: &[Tensor], expected: Option<&[Tensor]>) -> Result<&'static str> {
    let executor = Executor::new(model)?;
    let graph = Graph::new(model);
    let names: Vec<&str> = graph.inputs().map(|i| i.name()).collect();
    if names.len() != inputs.len() {
        return Err(Error::bad_input(format!("{} inputs, of which {} could be given", names.len(), inputs.len())));
    }
    let given: Vec<(&str, &Tensor)> = names.iter().copied().zip(inputs).collect();
    let wanted: Vec<&str> = model.graph().output.iter().map(|o| o.name()).collect();
    let made = executor.run(&given, &wanted)?;
    for (name, expected) in wanted.iter().zip(expected.unwrap_or(&[])) {
        let difference = difference(&made[*name], expected)?;
        if difference > TOLERANCE {
            return Err(Error::bad_input(format!("output `{name}` differs by {difference:.1e}")));
        }
    }
    Ok(if expected.is_some() { "equal" } else { "runs" })
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    if a.shape() != b.shape() {
        return Err(Error::bad_input(format!("shape {:?} instead of {:?}", a.shape(), b.shape())));
    }
    let far = |x: f64, y: f64| if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y).abs() / y.abs().max(1.0) };
    Ok(match (a.data(), b.data()) {
        (Data::F32(x), Data::F32(y)) => x.iter().zip(y).map(|(&x, &y)| far(x.into(), y.into())).fold(0.0, f64::max),
        (Data::F64(x), Data::F64(y)) => x.iter().zip(y).map(|(&x, &y)| far(x, y)).fold(0.0, f64::max),
        (x, y) if x == y => 0.0,
        _ => f64::INFINITY,
    })
}

fn runs_in_tract(file: &Path, model: &Model, inputs: &[Tensor]) -> Result<&'static str> {
    let shapes: BTreeMap<String, Vec<usize>> =
        Graph::new(model).inputs().zip(inputs).map(|(input, given)| (input.name().to_owned(), given.shape().to_vec())).collect();
    let first = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1).max(1);
    let run = |batch| -> Result<&'static str> {
        let options = LoadOptions { batch, shapes: shapes.clone(), ..LoadOptions::default() };
        let job = Job {
            model: file.to_owned(),
            engine: "tract".into(),
            options,
            cpus: Vec::new(),
            timeout: Duration::from_secs(60),
            memory: MemoryLimit::default(),
        };
        let mut runner = Runner::spawn(&Program::find()?, &job)?;
        runner.prepare(&[inputs.to_vec()])?;
        runner.run(1)?;
        Ok("runs")
    };
    // What comes first may be a sequence and no batch.
    run(first).or_else(|refused| if first == 1 { Err(refused) } else { run(1).map_err(|_| refused) })
}

/// Inputs, and the outputs that belong to them where they are stored too.
type Stored = (Vec<Tensor>, Option<Vec<Tensor>>);

/// The inputs and outputs beside the file.
fn stored(file: &Path) -> Option<Stored> {
    let folder = file.with_file_name("test_data_set_0");
    let read = |kind: &str| -> Option<Vec<Tensor>> {
        let mut tensors = Vec::new();
        while let Ok(bytes) = std::fs::read(folder.join(format!("{kind}_{}.pb", tensors.len()))) {
            tensors.push(tensor_from_proto(&pb::TensorProto::parse_from_bytes(&bytes).ok()?).ok()?);
        }
        Some(tensors)
    };
    if !folder.is_dir() {
        return None;
    }
    let outputs = read("output")?;
    Some((read("input")?, (!outputs.is_empty()).then_some(outputs)))
}

/// Values from 0 to 1 and integers 0 and 1 for inputs whose shapes are known.
fn made_up(model: &Model, dims: &Dims) -> Vec<Tensor> {
    let Ok(facts) = Facts::infer_with(model, dims).or_else(|_| Facts::infer(model, 1)) else { return Vec::new() };
    let graph = Graph::new(model);
    let tensor = |input: &pb::ValueInfoProto| {
        use joulefront::tensor::DType;
        let fact = facts.get(input.name())?;
        let n: usize = fact.shape.iter().product();
        let fraction = |i: usize| (i * 7919 % 1009) as f32 / 1009.0;
        let data = match fact.dtype? {
            DType::F32 => Data::F32((0..n).map(fraction).collect()),
            DType::F64 => Data::F64((0..n).map(|i| fraction(i).into()).collect()),
            DType::I64 => Data::I64((0..n).map(|i| i as i64 % 2).collect()),
            DType::I32 => Data::I32((0..n).map(|i| i as i32 % 2).collect()),
            DType::U8 => Data::U8((0..n).map(|i| i as u8 % 2).collect()),
            DType::Bool => Data::Bool((0..n).map(|i| i % 2 == 0).collect()),
            _ => return None,
        };
        Tensor::new(fact.shape.clone(), data).ok()
    };
    graph.inputs().map_while(tensor).collect()
}
