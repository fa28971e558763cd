//! Changes that leave a model readable protobuf: numbers, names, types and data where it hurts.
//!
//! The fuzz target `model` uses this file as well: bytes changed at random seldom get past the lengths of protobuf's fields.

use joulefront::exec;
use joulefront::model::eval;
use joulefront::onnx::pb;

/// SplitMix64: the same numbers for the same seed, everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `n` − 1, and 0 where there is nothing to choose from.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    fn pick_mut<'a, T>(&mut self, of: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(of.len());
        of.get_mut(at)
    }

    /// Small numbers, and those at which arithmetic ends.
    pub(crate) fn number(&mut self) -> i64 {
        const EDGES: [i64; 16] = [
            0,
            -1,
            1,
            255,
            256,
            65_535,
            1 << 20,
            1 << 29,
            i32::MAX as i64,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 62,
            i64::MAX,
            i64::MIN,
            -(1 << 31),
        ];
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => self.below(24) as i64 - 8,
            _ => self.below(6) as i64,
        }
    }
}

/// One change somewhere in the model.
pub(crate) fn change(model: &mut pb::ModelProto, dice: &mut Dice) {
    if dice.below(16) == 0
        && let Some(import) = dice.pick_mut(&mut model.opset_import)
    {
        return import.set_version(dice.below(27) as i64);
    }
    if dice.below(4) == 0
        && let Some(function) = dice.pick_mut(&mut model.functions)
    {
        return in_nodes(&mut function.node, dice);
    }
    in_graph(model.graph.mut_or_insert_default(), dice);
}

fn in_graph(graph: &mut pb::GraphProto, dice: &mut Dice) {
    match dice.below(8) {
        0 | 1 => in_tensor(dice, |at| at.pick_mut(&mut graph.initializer)),
        2 => {
            let at = dice.below(graph.input.len() + graph.output.len() + graph.value_info.len());
            let mut infos = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
            if let Some(info) = infos.nth(at) {
                in_type(info.type_.mut_or_insert_default(), dice);
            }
        }
        3 => in_tensor(dice, |at| {
            let sparse = at.pick_mut(&mut graph.sparse_initializer)?;
            if at.below(3) == 0 {
                let value = at.number();
                *at.pick_mut(&mut sparse.dims)? = value;
            }
            if at.below(2) == 0 { sparse.values.as_mut() } else { sparse.indices.as_mut() }
        }),
        _ => in_nodes(&mut graph.node, dice),
    }
}

fn in_nodes(nodes: &mut Vec<pb::NodeProto>, dice: &mut Dice) {
    let names: Vec<String> = nodes.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    let copy = dice.pick(nodes).cloned();
    let (at, many) = (dice.below(nodes.len()), nodes.len());
    let Some(node) = nodes.get_mut(at) else { return };
    match dice.below(10) {
        0 => {
            let kind = [exec::OPERATORS, eval::OPERATORS, &["If", "Loop", "Scan", "Einsum", "SequenceAt", "Twice"]][dice.below(3)];
            let op = dice.pick(kind).copied().unwrap_or_default();
            node.set_op_type(op.into());
        }
        1 => {
            if let (Some(name), true) = (dice.pick(&names), dice.below(4) > 0) {
                node.input.push(name.clone());
            } else {
                node.input.pop();
            }
        }
        2 => {
            let name = if dice.below(4) == 0 { String::new() } else { dice.pick(&names).cloned().unwrap_or_default() };
            let list = if dice.below(6) == 0 { &mut node.output } else { &mut node.input };
            if let Some(slot) = dice.pick_mut(list) {
                *slot = name;
            }
        }
        3 => {
            let new = format!("{}_{}", node.output.first().map_or("", String::as_str), node.output.len());
            node.output.push(new);
        }
        // Attributes of one operator on another: most names mean something to several.
        4 => node.attribute.extend(copy.into_iter().flat_map(|n| n.attribute)),
        5 if many < 64 => {
            let mut twin = copy.unwrap_or_default();
            twin.output.iter_mut().for_each(|o| o.push('\''));
            nodes.insert(at, twin);
        }
        _ => {
            if let Some(attribute) = dice.pick_mut(&mut node.attribute) {
                in_attribute(attribute, dice);
            }
        }
    }
}

fn in_attribute(attribute: &mut pb::AttributeProto, dice: &mut Dice) {
    const WORDS: [&str; 14] = [
        "SAME_UPPER",
        "SAME_LOWER",
        "VALID",
        "NOTSET",
        "linear",
        "cubic",
        "nearest",
        "reflect",
        "edge",
        "wrap",
        "...ij,jk->ik",
        "ii->i",
        "reverse",
        "",
    ];
    let value = dice.number();
    if let Some(graph) = attribute.g.as_mut() {
        return in_graph(graph, dice);
    }
    if attribute.t.is_some() {
        return in_tensor(dice, |_| attribute.t.as_mut());
    }
    if !attribute.ints.is_empty() {
        return match dice.below(4) {
            0 => attribute.ints.push(value),
            1 => drop(attribute.ints.pop()),
            _ => dice.pick_mut(&mut attribute.ints).into_iter().for_each(|i| *i = value),
        };
    }
    if attribute.has_s() {
        return attribute.set_s(WORDS[dice.below(WORDS.len())].as_bytes().to_vec().into());
    }
    if attribute.has_f() || !attribute.floats.is_empty() {
        let float = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30, value as f32][dice.below(6)];
        attribute.set_f(float);
        return dice.pick_mut(&mut attribute.floats).into_iter().for_each(|f| *f = float);
    }
    attribute.set_i(value);
}

/// Dimensions, type or data of the tensor that `which` picks.
fn in_tensor<'t>(dice: &mut Dice, which: impl FnOnce(&mut Dice) -> Option<&'t mut pb::TensorProto>) {
    let Some(tensor) = which(dice) else { return };
    let value = dice.number();
    match dice.below(8) {
        0 => tensor.dims.push(value),
        1 => drop(tensor.dims.pop()),
        2 => dice.pick_mut(&mut tensor.dims).into_iter().for_each(|d| *d = value),
        3 => tensor.set_data_type(dice.below(30) as i32),
        4 => tensor.dims.reverse(),
        _ => {
            dice.pick_mut(&mut tensor.int64_data).into_iter().for_each(|v| *v = value);
            dice.pick_mut(&mut tensor.int32_data).into_iter().for_each(|v| *v = value as i32);
            dice.pick_mut(&mut tensor.float_data).into_iter().for_each(|v| *v = value as f32);
            if tensor.has_raw_data() {
                let mut raw = tensor.raw_data().to_vec();
                let at = dice.below(raw.len()) & !7;
                let bytes = if dice.below(2) == 0 { value.to_le_bytes() } else { (value as f64).to_le_bytes() };
                raw.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = byte);
                tensor.set_raw_data(raw.into());
            }
        }
    }
}

fn in_type(of: &mut pb::TypeProto, dice: &mut Dice) {
    let tensor = of.tensor_type.mut_or_insert_default();
    let shape = tensor.shape.mut_or_insert_default();
    match dice.below(5) {
        0 => tensor.set_elem_type(dice.below(30) as i32),
        1 => shape.dim.push(Default::default()),
        2 => drop(shape.dim.pop()),
        3 => dice.pick_mut(&mut shape.dim).into_iter().for_each(|d| d.set_dim_param("N".into())),
        _ => {
            let value = dice.number();
            dice.pick_mut(&mut shape.dim).into_iter().for_each(|d| d.set_dim_value(value));
        }
    }
}
