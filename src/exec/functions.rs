//! Functions of a model, written out as the nodes that they stand for.

use super::program::DEEPEST;
use crate::onnx::{self, Attributes, bound_body, pb};
use crate::{Error, Result};
use std::cell::Cell;
use std::collections::HashMap;

/// Nodes that the calls of functions may turn into: a few that call each other twice could stand for billions.
const MOST_NODES: usize = 200_000;

/// The functions and operator sets of a model.
pub(super) struct Flat<'m> {
    functions: HashMap<(&'m str, &'m str), &'m pb::FunctionProto>,
    imports: HashMap<&'m str, i64>,
    /// Calls so far: what makes the names inside them unique.
    calls: Cell<usize>,
    /// Nodes that were written out.
    written: Cell<usize>,
}

impl<'m> Flat<'m> {
    pub(super) fn new(model: &'m onnx::Model) -> Self {
        let proto = model.proto();
        Flat {
            functions: proto.functions.iter().map(|f| ((domain(f.domain()), f.name()), f)).collect(),
            imports: imports(&proto.opset_import),
            calls: Cell::new(0),
            written: Cell::new(0),
        }
    }

    /// `nodes` with every call replaced by the function's nodes, each with the version of its operator set.
    ///
    /// # Errors
    /// Functions are nested too deeply, call themselves, or stand for too many nodes.
    pub(super) fn nodes(&self, nodes: &[pb::NodeProto]) -> Result<Vec<(pb::NodeProto, i64)>> {
        let mut flat = Vec::with_capacity(nodes.len());
        self.write(nodes, &self.imports, 0, &mut flat)?;
        Ok(flat)
    }

    fn write(
        &self,
        nodes: &[pb::NodeProto],
        versions: &HashMap<&str, i64>,
        depth: usize,
        flat: &mut Vec<(pb::NodeProto, i64)>,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::bad_input(format!("functions are nested more than {DEEPEST} deep")).hint("a function must not call itself"));
        }
        for node in nodes {
            // A standard operator that the model also writes out is better run as what it is.
            let known = node.is_standard() && super::knows(node.op_type());
            match self.functions.get(&(domain(node.domain()), node.op_type())).filter(|_| !known) {
                Some(function) => {
                    self.written.set(self.written.get() + function.node.len());
                    if self.written.get() > MOST_NODES {
                        return Err(Error::bad_input(format!("the model's functions stand for more than {MOST_NODES} nodes")));
                    }
                    let body = self.call(function, node);
                    self.write(&body, &imports(&function.opset_import), depth + 1, flat)?;
                }
                None => {
                    let version = versions.get(domain(node.domain())).or_else(|| self.imports.get(domain(node.domain())));
                    flat.push((node.clone(), version.copied().unwrap_or(1)));
                }
            }
        }
        Ok(())
    }

    /// The body of `function` with the names of the call's tensors, and names of its own for what is inside.
    fn call(&self, function: &pb::FunctionProto, node: &pb::NodeProto) -> Vec<pb::NodeProto> {
        let number = self.calls.replace(self.calls.get() + 1);
        let mut names: HashMap<String, String> = HashMap::new();
        for (i, inner) in function.input.iter().enumerate() {
            names.insert(inner.clone(), node.input.get(i).cloned().unwrap_or_default());
        }
        let mut passed = Vec::new();
        for (i, inner) in function.output.iter().enumerate() {
            if let Some(outer) = node.output.get(i).filter(|o| !o.is_empty()) {
                match names.get(inner) {
                    // An output that is an input, or one that is given twice.
                    Some(same) => passed.push((same.clone(), outer.clone())),
                    None => drop(names.insert(inner.clone(), outer.clone())),
                }
            }
        }
        let mut body = bound_body(function, node);
        rename(&mut body, &mut |name: &str| {
            names.entry(name.to_owned()).or_insert_with(|| format!("{}#{number}/{name}", node.op_type())).clone()
        });
        body.extend(passed.into_iter().map(|(from, to)| {
            let mut copy = pb::NodeProto::new();
            copy.set_op_type("Identity".into());
            (copy.input, copy.output) = (vec![from], vec![to]);
            copy
        }));
        body
    }
}

/// Renames all tensors, those in inner graphs too.
fn rename(nodes: &mut [pb::NodeProto], name: &mut dyn FnMut(&str) -> String) {
    for node in nodes {
        for tensor in node.input.iter_mut().chain(&mut node.output).filter(|t| !t.is_empty()) {
            *tensor = name(tensor);
        }
        for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
            for t in &mut graph.initializer {
                t.set_name(name(t.name()));
            }
            for info in graph.input.iter_mut().chain(&mut graph.output) {
                info.set_name(name(info.name()));
            }
            rename(&mut graph.node, name);
        }
    }
}

/// The two names of the standard operators' domain are one.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

fn imports(list: &[pb::OperatorSetIdProto]) -> HashMap<&str, i64> {
    list.iter().map(|o| (domain(o.domain()), o.version())).collect()
}
