//! Functions of a model: operators that are written as graphs of others.

use super::pb;

/// The nodes of `function` as `call` runs them: attributes that refer to the call's have its values, or the function's defaults;
/// those that neither gives are left out.
pub(crate) fn bound_body(function: &pb::FunctionProto, call: &pb::NodeProto) -> Vec<pb::NodeProto> {
    let mut nodes = function.node.clone();
    bind(&mut nodes, &|name| {
        let given = call.attribute.iter().find(|a| a.name() == name);
        given.or_else(|| function.attribute_proto.iter().find(|a| a.name() == name)).cloned()
    });
    nodes
}

fn bind(nodes: &mut [pb::NodeProto], value: &dyn Fn(&str) -> Option<pb::AttributeProto>) {
    for node in nodes {
        node.attribute.retain_mut(|a| {
            if a.ref_attr_name().is_empty() {
                a.g.as_mut().into_iter().chain(&mut a.graphs).for_each(|g| bind(&mut g.node, value));
                return true;
            }
            let Some(mut bound) = value(a.ref_attr_name()) else { return false };
            bound.set_name(a.name().to_owned());
            *a = bound;
            true
        });
    }
}
