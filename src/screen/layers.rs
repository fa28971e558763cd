//! Layers alone: each distinct one, cut out of the model in each form, beside its float form on the same engine.

use super::form::{by_layer, forms_of, forms_on};
use super::model::{Made, outcome};
use super::run::Session;
use super::table::{LayerWay, Outcome, Way};
use crate::engine::LoadOptions;
use crate::exec::Executor;
use crate::lower::{Form, lower};
use crate::measure::Subject;
use crate::model::eval::{join, part};
use crate::model::{Dims, Facts, Graph, Layer, extract, fused, layers as layers_of};
use crate::onnx::Model;
use crate::tensor::Tensor;
use crate::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Runs that a layer's inputs are taken from.
const RUNS: usize = 8;

/// Share of the time that is left for layers: the rest is for whole models.
const SHARE: f64 = 0.6;

/// Layers that are alike.
struct Alike {
    names: Vec<String>,
    shape: String,
    operator: String,
    macs: u64,
    /// The node of the first one.
    node: usize,
    /// The activation that it reads.
    input: String,
}

/// A model whose parts are cut out.
struct Whole<'m> {
    model: &'m Model,
    graph: Graph<'m>,
    facts: Facts,
    executor: Executor,
}

impl<'m> Whole<'m> {
    fn new(model: &'m Model, dims: &Dims) -> Result<Self> {
        Ok(Whole { model, graph: Graph::new(model), facts: Facts::infer_with(model, dims)?, executor: Executor::new(model)? })
    }
}

/// A part as a file, and the inputs that it gets within the whole.
struct Cut {
    bytes: Vec<u8>,
    samples: Arc<Vec<Tensor>>,
}

/// Screens the layers with weights, the largest first, as long as there is time.
pub(super) fn layers(session: &mut Session<'_, '_>, made: &[Made], originals: &[Way]) -> Result<Vec<LayerWay>> {
    session.stage("layers on their engines");
    let target = session.target;
    let dims = dims(&session.options(1, 1));
    let whole = match Whole::new(target.model, &dims) {
        Ok(whole) => whole,
        Err(e) => {
            session.remarks.push(format!("layers are not screened: {e}"));
            return Ok(Vec::new());
        }
    };
    let all = layers_of(&whole.graph, &whole.facts)?;
    let total: u64 = all.iter().filter_map(|l| l.macs.as_ref().ok()).sum();
    let mut alike = distinct(&whole, &all);
    alike.truncate(target.most_layers);
    let runs = runs(session)?;
    let engines: Vec<&String> = target.engines.iter().filter(|e| runs_original(originals, e)).collect();
    let count = alike.len().max(1);
    let mut rows = Vec::new();
    for (number, layer) in alike.iter().enumerate() {
        // An equal share of what is left for each of those that are to come.
        let share = SHARE / (count - number) as f64;
        if session.left().0 <= 1.0 {
            session.remarks.push(format!("{} of {count} layers are not screened: the time is over", count - number));
            break;
        }
        let mut subjects: Vec<Subject> = Vec::new();
        let mut pairs = Vec::new();
        let mut found: Vec<(usize, LayerWay)> = Vec::new();
        for engine in &engines {
            // The float forms that others are compared with: the layer, and the layer with what follows it.
            let mut floats: HashMap<bool, usize> = HashMap::new();
            for form in screened_forms(engine, &target.forms, &layer.operator) {
                let row = |outcome| LayerWay {
                    layers: layer.names.clone(),
                    shape: layer.shape.clone(),
                    operator: layer.operator.clone(),
                    macs_share: (total > 0).then(|| layer.macs as f64 / total as f64),
                    engine: (*engine).clone(),
                    form,
                    outcome,
                };
                let wide = !by_layer(form);
                let cut = match in_one_form(layer, made, form, &dims, &runs) {
                    Ok(Some(cut)) => cut,
                    Ok(None) => continue,
                    Err(e) => {
                        rows.push(row(Outcome::Refused { reason: e.to_string() }));
                        continue;
                    }
                };
                let beside = match floats.get(&wide) {
                    Some(&place) => place,
                    None => {
                        let float = if wide { fused(&whole.graph, layer.node) } else { vec![layer.node] };
                        let Ok(cut) = cut_out(&whole, float, &runs) else { continue };
                        subjects.push(subject(session, &cut, engine, "float")?);
                        floats.insert(wide, subjects.len() - 1);
                        subjects.len() - 1
                    }
                };
                subjects.push(subject(session, &cut, engine, form.name())?);
                pairs.push((subjects.len() - 1, beside));
                found.push((subjects.len() - 1, row(Outcome::Refused { reason: "it was not measured".to_owned() })));
            }
        }
        if found.is_empty() {
            continue;
        }
        match session.measure(&subjects, pairs, share) {
            Ok(measured) => {
                let mut measured: Vec<Option<_>> = measured.into_iter().map(Some).collect();
                for (place, mut row) in found {
                    row.outcome = measured[place].take().map_or(row.outcome, outcome);
                    rows.push(row);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::Environment) => return Err(e),
            Err(e) => session.remarks.push(format!("{} is not screened: {e}", layer.shape)),
        }
    }
    Ok(rows)
}

fn runs_original(originals: &[Way], engine: &str) -> bool {
    originals.iter().any(|w| w.engine == engine && w.is_original() && w.figures().is_some())
}

/// The forms that are tried on one layer. Integer convolutions are tried on every engine, also where the form as a whole is not offered:
/// so it is seen why.
fn screened_forms(engine: &str, wished: &[Form], operator: &str) -> Vec<Form> {
    let on = forms_on(engine, wished);
    let mut forms: Vec<Form> = on.into_iter().filter(|f| by_layer(*f) && operator != "Conv" || *f == Form::Qdq).collect();
    if operator == "Conv" && wished.is_empty() && !forms.contains(&Form::Qdq) {
        forms.push(Form::Qdq);
    }
    forms
}

/// Conv, Gemm and MatMul with weights, those with the same operator, weights, input and attributes together, most work first.
fn distinct(whole: &Whole<'_>, all: &[Layer]) -> Vec<Alike> {
    let mut found: Vec<(Vec<u8>, Alike)> = Vec::new();
    for layer in all {
        let (Some(node), Some(weight)) = (layer.node, &layer.weight) else { continue };
        if !matches!(layer.operator.as_str(), "Conv" | "Gemm" | "MatMul") {
            continue;
        }
        let n = whole.graph.node(node);
        let Some(input) = n.input.first().filter(|_| weight.input == 1) else { continue };
        let Some(shape) = whole.facts.shape(input) else { continue };
        let numbers = |dims: &[usize]| dims.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        let shape = format!("{} {} on {}", layer.operator, numbers(&weight.shape), numbers(shape.get(1..).unwrap_or(shape)));
        let mut attributes: Vec<String> = n.attribute.iter().map(|a| a.to_string()).collect();
        attributes.sort();
        let key = format!("{shape} {attributes:?}").into_bytes();
        let macs = layer.macs.clone().unwrap_or(0);
        match found.iter_mut().find(|(k, _)| *k == key) {
            Some((_, alike)) => {
                alike.names.push(layer.name.clone());
                alike.macs += macs;
            }
            None => {
                let (names, operator) = (vec![layer.name.clone()], layer.operator.clone());
                found.push((key, Alike { names, shape, operator, macs, node, input: input.clone() }));
            }
        }
    }
    let mut alike: Vec<Alike> = found.into_iter().map(|(_, alike)| alike).collect();
    alike.sort_by_key(|a| std::cmp::Reverse(a.macs));
    alike
}

/// The layer in a form; `None` when no quantized model has it in that form.
fn in_one_form(layer: &Alike, made: &[Made], form: Form, dims: &Dims, runs: &Runs) -> Result<Option<Cut>> {
    let Some(name) = layer.names.first() else { return Ok(None) };
    let mut refusal = None;
    for m in made.iter().filter(|m| forms_of(&m.recipe).contains(&form)) {
        let cut = || -> Result<Cut> {
            if form == Form::Qdq {
                // Integers in, integers out, as between its neighbours.
                let whole = Whole::new(&m.model, dims)?;
                let all = layers_of(&whole.graph, &whole.facts)?;
                let node = all.iter().find(|l| l.name == *name).and_then(|l| l.node);
                let node = node.ok_or_else(|| Error::bad_input("the quantized model has no such layer"))?;
                return cut_out(&whole, fused(&whole.graph, node), runs);
            }
            let lowered = lower(&m.model, form, &|n| n == name)?;
            let whole = Whole::new(&lowered.model, dims)?;
            // The names of activations stay: what the layer reads, and what it makes or a function of it.
            let canonical = Graph::new(&m.model);
            let all = layers_of(&canonical, &Facts::infer_with(&m.model, dims)?)?;
            let node = all.iter().find(|l| l.name == *name).and_then(|l| l.node);
            let follow = node.map(|n| fused(&canonical, n)).unwrap_or_default();
            let ends = follow.iter().filter_map(|&n| canonical.node(n).output.first());
            let nodes = ends.map(|end| between(&whole.graph, &layer.input, end)).find(|nodes| !nodes.is_empty());
            cut_out(&whole, nodes.ok_or_else(|| Error::bad_input("its result has no name of its own in this form"))?, runs)
        };
        match cut() {
            Ok(cut) => return Ok(Some(cut)),
            Err(e) => refusal = Some(e),
        }
    }
    refusal.map_or(Ok(None), Err)
}

/// The nodes on the ways from tensor `from` to tensor `to`, in order; none when there is no way.
fn between(graph: &Graph<'_>, from: &str, to: &str) -> Vec<usize> {
    let (mut after, mut open) = (HashSet::new(), vec![from]);
    while let Some(tensor) = open.pop() {
        for reader in graph.consumers(tensor) {
            if after.insert(reader.node) {
                open.extend(graph.node(reader.node).output.iter().map(String::as_str));
            }
        }
    }
    let mut nodes = HashSet::new();
    let mut open: Vec<&str> = vec![to];
    while let Some(tensor) = open.pop() {
        let maker = graph.producer(tensor).filter(|m| tensor != from && after.contains(m) && nodes.insert(*m));
        open.extend(maker.into_iter().flat_map(|m| graph.node(m).input.iter().map(String::as_str)));
    }
    let mut nodes: Vec<usize> = nodes.into_iter().collect();
    nodes.sort_unstable();
    nodes
}

/// Inputs of the whole, run by run.
struct Runs {
    names: Vec<String>,
    runs: Vec<Vec<Tensor>>,
}

fn runs(session: &Session<'_, '_>) -> Result<Runs> {
    let target = session.target;
    let names = Graph::new(target.model).inputs().map(|i| i.name().to_owned()).collect();
    let rows = target.samples.first().and_then(|t| t.shape().first().copied()).unwrap_or(0);
    let run = |run: usize| target.samples.iter().map(|t| part(t, 0, run, 1)).collect::<Result<Vec<_>>>();
    Ok(Runs { names, runs: (0..rows.min(RUNS)).map(run).collect::<Result<_>>()? })
}

/// `nodes` as a model of their own, with what they read in the runs.
fn cut_out(whole: &Whole<'_>, nodes: Vec<usize>, runs: &Runs) -> Result<Cut> {
    let cut = extract(whole.model, &whole.facts, nodes)?;
    let names: Vec<&str> = cut.graph().input.iter().map(|i| i.name()).collect();
    let inner: Vec<&str> = names.iter().copied().filter(|n| !runs.names.iter().any(|m| m == n)).collect();
    let mut columns: Vec<Vec<Tensor>> = vec![Vec::new(); names.len()];
    for run in &runs.runs {
        let fed: Vec<(&str, &Tensor)> = runs.names.iter().map(String::as_str).zip(run).collect();
        let mut made = whole.executor.run(&fed, &inner)?;
        for (column, name) in columns.iter_mut().zip(&names) {
            let tensor = made.remove(*name).or_else(|| fed.iter().find(|(n, _)| n == name).map(|(_, t)| (*t).clone()));
            column.push(tensor.ok_or_else(|| Error::bad_input(format!("`{name}` was not worked out")))?);
        }
    }
    let samples = columns.iter().map(|column| join(&column.iter().collect::<Vec<_>>(), 0)).collect::<Result<Vec<_>>>()?;
    Ok(Cut { bytes: cut.to_bytes()?, samples: Arc::new(samples) })
}

fn subject(session: &Session<'_, '_>, cut: &Cut, engine: &str, form: &str) -> Result<Subject> {
    Ok(Subject {
        label: format!("{engine}, {form}"),
        model: session.store(&cut.bytes)?,
        engine: engine.to_owned(),
        // All dimensions of a part are numbers.
        options: LoadOptions::default(),
        samples: Arc::clone(&cut.samples),
    })
}

/// The numbers that an engine gets for open dimensions, for shape inference.
fn dims(options: &LoadOptions) -> Dims {
    let given = options.dims.iter().filter_map(|(name, n)| format!("{name}={n}").parse().ok());
    given.fold(Dims::batch(1), Dims::with)
}
