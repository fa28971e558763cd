//! Every tensor of a file, wherever it stands.

use super::pb;
use crate::Result;

/// Calls `f` with every tensor: initializers, sparse ones, attributes of nodes, in subgraphs, functions and training graphs. The
/// parser bounds how deeply graphs are nested.
///
/// # Errors
/// The first one of `f`.
pub(super) fn tensors(model: &pb::ModelProto, f: &mut dyn FnMut(&pb::TensorProto) -> Result<()>) -> Result<()> {
    graphs(model).try_for_each(|g| in_graph(g, f))?;
    model.functions.iter().try_for_each(|function| {
        in_nodes(&function.node, f)?;
        in_attributes(&function.attribute_proto, f)
    })
}

fn graphs(model: &pb::ModelProto) -> impl Iterator<Item = &pb::GraphProto> {
    let training = model.training_info.iter().flat_map(|t| t.initialization.iter().chain(t.algorithm.iter()));
    model.graph.iter().chain(training)
}

fn in_graph(graph: &pb::GraphProto, f: &mut dyn FnMut(&pb::TensorProto) -> Result<()>) -> Result<()> {
    graph.initializer.iter().try_for_each(&mut *f)?;
    graph.sparse_initializer.iter().try_for_each(|s| in_sparse(s, f))?;
    in_nodes(&graph.node, f)
}

fn in_sparse(sparse: &pb::SparseTensorProto, f: &mut dyn FnMut(&pb::TensorProto) -> Result<()>) -> Result<()> {
    sparse.values.iter().chain(sparse.indices.iter()).try_for_each(f)
}

fn in_nodes(nodes: &[pb::NodeProto], f: &mut dyn FnMut(&pb::TensorProto) -> Result<()>) -> Result<()> {
    nodes.iter().try_for_each(|n| in_attributes(&n.attribute, f))
}

fn in_attributes(attributes: &[pb::AttributeProto], f: &mut dyn FnMut(&pb::TensorProto) -> Result<()>) -> Result<()> {
    for a in attributes {
        a.t.iter().chain(&a.tensors).try_for_each(&mut *f)?;
        a.sparse_tensor.iter().chain(&a.sparse_tensors).try_for_each(|s| in_sparse(s, f))?;
        a.g.iter().chain(&a.graphs).try_for_each(|g| in_graph(g, f))?;
    }
    Ok(())
}

/// Like [`tensors`], to edit them.
///
/// # Errors
/// The first one of `f`.
pub(super) fn tensors_mut(model: &mut pb::ModelProto, f: &mut dyn FnMut(&mut pb::TensorProto) -> Result<()>) -> Result<()> {
    let training = model.training_info.iter_mut().flat_map(|t| t.initialization.as_mut().into_iter().chain(t.algorithm.as_mut()));
    model.graph.as_mut().into_iter().chain(training).try_for_each(|g| in_graph_mut(g, f))?;
    model.functions.iter_mut().try_for_each(|function| {
        function.node.iter_mut().try_for_each(|n| in_attributes_mut(&mut n.attribute, f))?;
        in_attributes_mut(&mut function.attribute_proto, f)
    })
}

fn in_graph_mut(graph: &mut pb::GraphProto, f: &mut dyn FnMut(&mut pb::TensorProto) -> Result<()>) -> Result<()> {
    graph.initializer.iter_mut().try_for_each(&mut *f)?;
    graph.sparse_initializer.iter_mut().try_for_each(|s| in_sparse_mut(s, f))?;
    graph.node.iter_mut().try_for_each(|n| in_attributes_mut(&mut n.attribute, f))
}

fn in_sparse_mut(sparse: &mut pb::SparseTensorProto, f: &mut dyn FnMut(&mut pb::TensorProto) -> Result<()>) -> Result<()> {
    sparse.values.as_mut().into_iter().chain(sparse.indices.as_mut()).try_for_each(f)
}

fn in_attributes_mut(attributes: &mut [pb::AttributeProto], f: &mut dyn FnMut(&mut pb::TensorProto) -> Result<()>) -> Result<()> {
    for a in attributes {
        a.t.as_mut().into_iter().chain(&mut a.tensors).try_for_each(&mut *f)?;
        a.sparse_tensor.as_mut().into_iter().chain(&mut a.sparse_tensors).try_for_each(|s| in_sparse_mut(s, f))?;
        a.g.as_mut().into_iter().chain(&mut a.graphs).try_for_each(|g| in_graph_mut(g, f))?;
    }
    Ok(())
}
