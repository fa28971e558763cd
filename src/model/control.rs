//! Shapes through graphs within graphs: `If`, `Loop`, `Scan`, and the functions of a model.

use super::infer::{Fact, Walk};
use super::shapes::args::{Args, Stop};
use super::shapes::scope::Scope;
use crate::onnx::{Attributes, pb};
use crate::tensor::{DType, Data};
use std::sync::Arc;

/// Facts of the outputs of a node that holds or stands for a graph; `None` for every other node.
pub(super) fn outputs(walk: &mut Walk, node: &pb::NodeProto, scope: &Scope) -> Result<Option<Vec<Fact>>, Stop> {
    if let Some(function) = walk.functions.get(&(node.domain(), node.op_type())).copied() {
        return call(walk, node, function, scope).map(Some);
    }
    match node.op_type() {
        "If" if node.is_standard() => choice(walk, node, scope).map(Some),
        "Loop" if node.is_standard() => repeat(walk, node, scope).map(Some),
        "Scan" if node.is_standard() => scan(walk, node, scope).map(Some),
        _ => Ok(None),
    }
}

/// `If`: the branch that a constant condition takes, else what both branches agree on. A branch in which these shapes contradict
/// each other cannot be the one that runs (silero-vad has one branch for each sampling rate).
fn choice(walk: &mut Walk, node: &pb::NodeProto, scope: &Scope) -> Result<Vec<Fact>, Stop> {
    let condition = node.input.first().and_then(|c| scope.value(c)).map(|t| matches!(t.data(), Data::Bool(b) if b.first() == Some(&true)));
    let mut branch = |name: &str| graph(walk, body(node, name)?, scope, &[]);
    match condition {
        Some(true) => known(branch("then_branch")?),
        Some(false) => known(branch("else_branch")?),
        None => match (branch("then_branch"), branch("else_branch")) {
            (Ok(only), Err(Stop::Wrong(_))) | (Err(Stop::Wrong(_)), Ok(only)) => known(only),
            (yes, no) => {
                let (yes, no) = (known(yes?)?, known(no?)?);
                match yes == no {
                    true => Ok(yes),
                    false => Err(Stop::Unknown("the branches of the If make different shapes".into())),
                }
            }
        },
    }
}

/// `Loop`: carried values keep their shape, and what each round gives is stacked, as many as the constant trip count says.
fn repeat(walk: &mut Walk, node: &pb::NodeProto, scope: &Scope) -> Result<Vec<Fact>, Stop> {
    let args = Args { node, opset: walk.opset, scope };
    let body = body(node, "body")?;
    let carried = node.input.len().saturating_sub(2);
    let mut inputs = vec![Some(Fact { dtype: Some(DType::I64), shape: vec![] }), Some(Fact { dtype: Some(DType::Bool), shape: vec![] })];
    for i in 0..carried {
        inputs.push(Some(args.input(i + 2)?.clone()));
    }
    let made = graph(walk, body, scope, &inputs)?;
    // A condition that the loop works out may end it early.
    let endless = node.input.get(1).is_none_or(String::is_empty) && stays_true(body);
    let trips = args.integer(0).ok().flatten().filter(|_| endless || stays_true(body)).and_then(|n| usize::try_from(n).ok());
    let mut outputs = Vec::new();
    for (i, fact) in made.into_iter().skip(1).enumerate() {
        let fact = fact.map_err(Stop::Unknown)?;
        if i < carried {
            if inputs[i + 2].as_ref() != Some(&fact) {
                return Err(Stop::Unknown("a value that the loop carries changes its shape".into()));
            }
            outputs.push(fact);
        } else {
            let Some(trips) = trips else { return Err(Stop::Unknown("the number of rounds of the loop depends on the data".into())) };
            outputs.push(Fact { dtype: fact.dtype, shape: [&[trips], &fact.shape[..]].concat() });
        }
    }
    Ok(outputs)
}

/// True when the body passes its condition on unchanged, or answers a constant true.
fn stays_true(body: &pb::GraphProto) -> bool {
    let (Some(given), Some(answered)) = (body.input.get(1), body.output.first()) else { return false };
    let mut name = answered.name();
    while let Some(node) = body.node.iter().find(|n| n.output.first().is_some_and(|o| o == name) && n.op_type() == "Identity") {
        let Some(from) = node.input.first() else { return false };
        name = from;
    }
    name == given.name()
}

/// `Scan` (operator set 9 on): slices of the scanned inputs go in, slices come out and are stacked.
fn scan(walk: &mut Walk, node: &pb::NodeProto, scope: &Scope) -> Result<Vec<Fact>, Stop> {
    let args = Args { node, opset: walk.opset, scope };
    if walk.opset < 9 {
        return Err(Stop::Unknown("Scan of operator set 8 is not followed".into()));
    }
    let body = body(node, "body")?;
    let scanned = args.positive("num_scan_inputs", 0)?;
    let Some(states) = node.input.len().checked_sub(scanned) else { return super::shapes::args::wrong("there are too few inputs to scan") };
    let (in_axes, out_axes) = (node.ints("scan_input_axes").unwrap_or(&[]), node.ints("scan_output_axes").unwrap_or(&[]));
    let mut inputs = Vec::new();
    let mut rounds = 0;
    for i in 0..node.input.len() {
        let mut fact = args.input(i)?.clone();
        if i >= states {
            let axis = super::eval::axis(in_axes.get(i - states).copied().unwrap_or(0), fact.shape.len())?;
            rounds = fact.shape.remove(axis);
        }
        inputs.push(Some(fact));
    }
    let mut outputs = known(graph(walk, body, scope, &inputs)?)?;
    for (i, fact) in outputs.iter_mut().skip(states).enumerate() {
        let axis = super::eval::axis(out_axes.get(i).copied().unwrap_or(0), fact.shape.len() + 1)?;
        fact.shape.insert(axis, rounds);
    }
    Ok(outputs)
}

/// The graph in attribute `name`.
fn body<'n>(node: &'n pb::NodeProto, name: &str) -> Result<&'n pb::GraphProto, Stop> {
    match node.attr(name).and_then(|a| a.g.as_ref()) {
        Some(graph) => Ok(graph),
        None => super::shapes::args::wrong(format!("the graph `{name}` is missing")),
    }
}

fn known(facts: Vec<Result<Fact, String>>) -> Result<Vec<Fact>, Stop> {
    facts.into_iter().map(|f| f.map_err(Stop::Unknown)).collect()
}

/// Facts of the outputs of `graph`, whose first inputs are those given; or why one is not known.
fn graph(walk: &mut Walk, graph: &pb::GraphProto, outer: &Scope, inputs: &[Option<Fact>]) -> Result<Vec<Result<Fact, String>>, Stop> {
    walk.within(|walk| {
        let mut scope = Scope::within(outer);
        for (info, fact) in graph.input.iter().zip(inputs) {
            match fact {
                Some(fact) => {
                    scope.facts.insert(info.name().to_owned(), fact.clone());
                }
                None => scope.give_up(info.name(), &Arc::from("an input of the inner graph is not known")),
            }
        }
        walk.constants(graph, &mut scope)?;
        walk.nodes(&graph.node, &mut scope, &mut Vec::new())?;
        Ok(graph.output.iter().map(|o| fact_of(&scope, o.name())).collect())
    })
}

fn fact_of(scope: &Scope, name: &str) -> Result<Fact, String> {
    match scope.fact(name) {
        Some(fact) => Ok(fact.clone()),
        None => Err(scope.cause(name).map_or_else(|| format!("`{name}` is not known"), |c| c.to_string())),
    }
}

/// A function of the model: its body with the call's inputs and attributes, seeing nothing around it.
fn call(walk: &mut Walk, node: &pb::NodeProto, function: &pb::FunctionProto, scope: &Scope) -> Result<Vec<Fact>, Stop> {
    let nodes = crate::onnx::bound_body(function, node);
    let import = function.opset_import.iter().find(|o| matches!(o.domain(), "" | "ai.onnx")).map(|o| o.version());
    walk.within(|walk| {
        let mut inner = Scope::default();
        for (i, name) in function.input.iter().enumerate() {
            let given = node.input.get(i).filter(|n| !n.is_empty());
            match given.map(|g| (scope.fact(g), scope.value(g), g)) {
                Some((_, Some(value), _)) => inner.learn(name, value.clone()),
                Some((Some(fact), None, _)) => {
                    inner.facts.insert(name.clone(), fact.clone());
                }
                Some((None, None, g)) => {
                    let cause = scope.cause(g).cloned().unwrap_or_else(|| Arc::from(format!("`{g}` is not known")));
                    inner.give_up(name, &cause);
                }
                None => {}
            }
        }
        let version = import.unwrap_or(walk.opset);
        let outer = std::mem::replace(&mut walk.opset, version);
        let walked = walk.nodes(&nodes, &mut inner, &mut Vec::new());
        walk.opset = outer;
        walked?;
        let outputs = known(function.output.iter().map(|o| fact_of(&inner, o)).collect());
        walk.keep(inner.facts);
        outputs
    })
}
