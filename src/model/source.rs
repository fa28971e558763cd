//! Where weights come from: the constant behind an operand, through what stands between.

use super::elements::{CHUNK, Elements, dims};
use super::encoding::{Encoding, FloatFormat, Format, Granularity, Grouping, Levels, Numbers, Quantized, Storage, is_known};
use super::nested::{Names, Origin};
use crate::onnx::{Attributes, dtype_from_onnx, pb, zero_count};
use crate::tensor::DType;
use crate::{Error, Result};

/// Nodes between a constant and its reader that are followed.
const MAX_CHAIN: usize = 32;

/// The constant behind an operand. Borrows the model; nothing is decoded until asked for.
#[derive(Clone)]
pub struct Source<'m> {
    pub(super) constant: &'m pb::TensorProto,
    /// What the graph calls it: the tensor inside a Constant node has no name of its own.
    name: String,
    /// Operators between, the nearest to the constant first.
    through: Vec<&'m str>,
    /// Dimensions of the constant as integers or numbers (unpacked).
    stored: Vec<usize>,
    /// Dimensions as the operator reads them.
    shape: Vec<usize>,
    axes: Option<Vec<usize>>,
    numbers: Option<Numbers<'m>>,
}

impl<'m> Source<'m> {
    /// Walks from input `index` of `node` back to a constant, through Cast, Identity, Transpose, Reshape, Flatten, Squeeze,
    /// Unsqueeze and DequantizeLinear. `None` when the operand is computed from data, or its shape on the way is.
    pub(super) fn of_input(names: &Names<'_, 'm>, node: &'m pb::NodeProto, index: usize) -> Option<Self> {
        let mut source = Self::find(names, node.input.get(index)?)?;
        if source.numbers.is_none() {
            source.numbers = Numbers::operand(names, node, index, source.shape.len()).map(|n| source.in_own_axes(n));
        }
        Some(source)
    }

    /// The same for a tensor, whoever reads it.
    pub(super) fn find(names: &Names<'_, 'm>, name: &str) -> Option<Self> {
        let mut chain = Vec::new();
        let (mut scope, mut name) = (names, name.to_owned());
        let constant = loop {
            match scope.origin(&name)? {
                Origin::Constant(t) => break t,
                Origin::Node(inner, node) if is_known(node) && chain.len() < MAX_CHAIN => {
                    name.clone_from(node.input.first()?);
                    chain.push((inner, node));
                    scope = inner;
                }
                Origin::Node(..) => return None,
            }
        };
        let stored = dims(constant);
        let axes = Some((0..stored.len()).collect());
        let mut source = Source { constant, name, through: Vec::new(), shape: stored.clone(), stored, axes, numbers: None };
        chain.iter().rev().try_for_each(|(scope, node)| source.pass(scope, node))?;
        Some(source)
    }

    /// The packed weights of `MatMulNBits`, which multiplies by [K, N].
    pub(super) fn nbits(names: &Names<'_, 'm>, node: &'m pb::NodeProto) -> Option<Self> {
        let constant = names.constant_input(node, 1)?;
        let numbers = Numbers::nbits(names, node)?;
        let (_, rows, packing) = numbers.packed?;
        let (stored, shape) = (vec![rows, packing.row], vec![packing.row, rows]);
        Some(Source {
            constant,
            name: node.input.get(1)?.clone(),
            through: Vec::new(),
            stored,
            shape,
            axes: Some(vec![1, 0]),
            numbers: Some(numbers),
        })
    }

    /// What one node on the way does to the view of the constant.
    fn pass(&mut self, names: &Names<'_, 'm>, node: &'m pb::NodeProto) -> Option<()> {
        let rank = self.shape.len();
        match node.op_type() {
            "Identity" | "Cast" | "CastLike" => {}
            "DequantizeLinear" if self.numbers.is_none() => {
                self.numbers = Some(self.in_own_axes(Numbers::linear(names, node, rank)));
            }
            "Transpose" => {
                let perm: Vec<usize> = match node.ints("perm") {
                    Some(p) => p.iter().map(|&a| usize::try_from(a).ok().filter(|&a| a < rank)).collect::<Option<_>>()?,
                    None => (0..rank).rev().collect(),
                };
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                if sorted != (0..rank).collect::<Vec<_>>() {
                    return None;
                }
                self.shape = perm.iter().map(|&a| self.shape[a]).collect();
                self.axes = self.axes.as_ref().map(|axes| perm.iter().map(|&a| axes[a]).collect());
            }
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let shape = self.reshaped(names, node)?;
                if shape != self.shape {
                    self.axes = None;
                }
                self.shape = shape;
            }
            _ => return None,
        }
        self.through.push(node.op_type());
        Some(())
    }

    /// Axes of scales, given as those of the view, as those of the constant. Behind a Reshape they are not known.
    fn in_own_axes(&self, mut numbers: Numbers<'m>) -> Numbers<'m> {
        let own = |axis: usize| self.axes.as_ref()?.get(axis).copied();
        numbers.granularity = match numbers.granularity {
            Some(Granularity::Axis(axis)) => own(axis).map(Granularity::Axis),
            Some(Granularity::Block { axis, size }) => own(axis).map(|axis| Granularity::Block { axis, size }),
            other => other,
        };
        numbers
    }

    fn reshaped(&self, names: &Names<'_, '_>, node: &pb::NodeProto) -> Option<Vec<usize>> {
        let rank = self.shape.len();
        let given = |attribute: &str| -> Option<Vec<i64>> {
            match names.constant_input(node, 1) {
                Some(t) => Some(crate::onnx::tensor_from_proto(t).ok()?.as_i64().ok()?.to_vec()),
                None => node.ints(attribute).map(<[i64]>::to_vec),
            }
        };
        let axis = |a: i64, rank: usize| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok().filter(|&a| a < rank);
        let total: usize = self.shape.iter().product();
        let shape: Vec<usize> = match node.op_type() {
            "Reshape" => {
                let target = given("shape")?;
                let fixed = |(i, &d): (usize, &i64)| match d {
                    0 if node.int("allowzero") != Some(1) => self.shape.get(i).copied(),
                    -1 => Some(1),
                    d => usize::try_from(d).ok(),
                };
                let mut shape = target.iter().enumerate().map(fixed).collect::<Option<Vec<_>>>()?;
                if let Some(free) = target.iter().position(|&d| d == -1) {
                    let rest = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
                    shape[free] = total.checked_div(rest)?;
                }
                shape
            }
            "Flatten" => {
                let at = axis(node.int("axis").unwrap_or(1), rank + 1)?;
                vec![self.shape[..at].iter().product(), self.shape[at..].iter().product()]
            }
            "Squeeze" => {
                let gone: Option<Vec<usize>> = given("axes").map(|axes| axes.iter().map(|&a| axis(a, rank)).collect()).unwrap_or(None);
                let stays = |(i, d): (usize, &usize)| (gone.as_ref().map_or(*d != 1, |g| !g.contains(&i))).then_some(*d);
                self.shape.iter().enumerate().filter_map(stays).collect()
            }
            _ => {
                let given = given("axes")?;
                let wide = rank + given.len();
                let new: Vec<usize> = given.iter().map(|&a| axis(a, wide)).collect::<Option<_>>()?;
                let mut old = self.shape.iter();
                (0..wide).map(|i| if new.contains(&i) { Some(1) } else { old.next().copied() }).collect::<Option<_>>()?
            }
        };
        let same = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) == Some(total);
        same.then_some(shape)
    }

    /// Name of the constant.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dimensions as the operator reads them.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// For each axis that the operator reads, the axis of the constant; `None` when a Reshape stands between.
    pub fn axes(&self) -> Option<&[usize]> {
        self.axes.as_deref()
    }

    /// Operators between the constant and its reader, the nearest to the constant first.
    pub fn through(&self) -> &[&'m str] {
        &self.through
    }

    /// Dimensions of the constant (of packed storage: of the integers in it).
    pub fn stored_shape(&self) -> &[usize] {
        &self.stored
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.stored.iter().fold(1, |n, &d| n.saturating_mul(d))
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when something says which numbers its integers stand for.
    pub fn is_quantized(&self) -> bool {
        self.numbers.is_some()
    }

    /// What identifies the constant within the model: two sources with the same are one.
    pub(super) fn identity(&self) -> *const pb::TensorProto {
        self.constant
    }

    fn elements(&self) -> Result<Elements<'m>> {
        match self.numbers.and_then(|n| n.packed) {
            Some((_, rows, packing)) => Elements::packed(self.constant, rows, packing),
            None => Elements::new(self.constant),
        }
    }

    fn storage(&self) -> Option<Storage> {
        match self.numbers.and_then(|n| n.packed) {
            Some((storage, ..)) => Some(storage),
            None => Storage::of(dtype_from_onnx(self.constant.data_type())?),
        }
    }

    /// What sort of code the constant is in; `None` for integers that stand for nothing but themselves, and unknown types.
    /// Integers of 8 bits are looked at: they count as the fewest bits of two's complement that hold all of them.
    ///
    /// # Errors
    /// The constant's data is not there.
    pub fn format(&self) -> Result<Option<Format>> {
        let Some(numbers) = self.numbers.filter(|_| self.storage().is_some()) else {
            return Ok(dtype_from_onnx(self.constant.data_type()).and_then(FloatFormat::of).map(Format::Float));
        };
        let Some(storage) = self.storage() else { return Ok(None) };
        let bits = if storage == Storage::I8 { self.levels(storage, &numbers)?.bits() } else { storage.bits() };
        Ok(Some(Format::Integer { storage, bits, scheme: numbers.scheme(storage), granularity: numbers.granularity }))
    }

    /// The levels of the fewest bits (from 2) that hold every integer and zero point of an int8 constant; all of other storage.
    fn levels(&self, storage: Storage, numbers: &Numbers<'_>) -> Result<Levels> {
        if storage != Storage::I8 {
            return Levels::of_bits(storage, storage.bits());
        }
        let needed = |v: i32| 33 - if v < 0 { !v } else { v }.leading_zeros();
        let (low, high) = self.elements()?.range().unwrap_or((0.0, 0.0));
        let zeros = numbers.zero_range().unwrap_or((0, 0));
        let bits = [low as i32, high as i32, zeros.0, zeros.1].map(needed).into_iter().max().unwrap_or(8);
        Levels::of_bits(storage, bits.clamp(2, 8))
    }

    /// The complete encoding; `None` when a scale is computed in the graph, and for integers that are not quantized numbers.
    ///
    /// # Errors
    /// Scales or zero points are not valid, or do not fit the constant's shape.
    pub fn encoding(&self) -> Result<Option<Encoding>> {
        let (Some(numbers), Some(storage)) = (self.numbers, self.storage()) else {
            return Ok(dtype_from_onnx(self.constant.data_type()).and_then(FloatFormat::of).map(Encoding::Float));
        };
        let Some(q) = numbers.encoding(storage, self.levels(storage, &numbers)?)? else { return Ok(None) };
        q.check_fits(&self.stored).map_err(|e| e.context(format!("`{}`", self.name())))?;
        Ok(Some(Encoding::Quantized(q)))
    }

    /// How many weights stand for exactly zero.
    ///
    /// # Errors
    /// The constant's data is not there, or its zero points do not fit it.
    pub fn zeros(&self) -> Result<u64> {
        let elements = self.elements()?;
        // The common cases at the speed of memory, all others a few elements at a time.
        let is_quick = matches!(elements.dtype(), DType::F32 | DType::F16 | DType::BF16 | DType::I8 | DType::U8);
        if self.numbers.is_none() && is_quick && self.constant.raw_data.is_some() {
            return zero_count(self.constant);
        }
        let (zeros, grouping) = match self.encoding() {
            Ok(Some(Encoding::Quantized(q))) => {
                let grouping = Grouping::new(q.granularity(), &self.stored, q.scales().len())?;
                (q.zero_points().to_vec(), grouping)
            }
            // A computed scale: one zero point for all, or none known.
            _ => (self.numbers.and_then(|n| n.zero_range()).map_or(Vec::new(), |(low, _)| vec![low]), Grouping::One),
        };
        let uniform = zeros.first().copied().unwrap_or(0);
        let same = zeros.iter().all(|&z| z == uniform);
        let mut count = 0u64;
        elements.for_each_chunk(|start, chunk| {
            let is_zero = |(i, &q): (usize, &f64)| {
                let z = if same { uniform } else { zeros.get(grouping.of(start + i)).copied().unwrap_or(0) };
                q == f64::from(z)
            };
            count += chunk.iter().enumerate().filter(|&c| is_zero(c)).count() as u64;
        });
        Ok(count)
    }

    /// Reads the weights as the numbers they stand for.
    ///
    /// # Errors
    /// The constant's data is not there, its scales do not fit, or are computed.
    pub(super) fn values(&self) -> Result<Values<'m>> {
        let elements = self.elements()?;
        let code = match self.encoding()? {
            Some(Encoding::Float(_)) => None,
            Some(Encoding::Quantized(q)) => Some((Grouping::new(q.granularity(), &self.stored, q.scales().len())?, q)),
            None => return Err(Error::bad_input(format!("the scale of `{}` is computed in the graph", self.name()))),
        };
        Ok(Values { elements, code })
    }
}

/// Weights as numbers, in the order of the constant.
pub(super) struct Values<'m> {
    elements: Elements<'m>,
    code: Option<(Grouping, Quantized)>,
}

impl Values<'_> {
    /// Number of weights.
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    /// The weights from `start` on.
    pub(super) fn read(&self, start: usize, out: &mut [f64]) {
        self.elements.read(start, out);
        if let Some((grouping, q)) = &self.code {
            for (i, v) in out.iter_mut().enumerate() {
                let group = grouping.of(start + i);
                let zero = q.zero_points().get(group).copied().unwrap_or(0);
                *v = (*v - f64::from(zero)) * f64::from(q.scales().get(group).copied().unwrap_or(1.0));
            }
        }
    }

    /// Weights that are looked at together, at most.
    pub(super) fn chunk(&self) -> usize {
        CHUNK.min(self.len())
    }

    /// Up to [`CHUNK`] weights at a time.
    pub(super) fn chunks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let len = self.len();
        (0..len).step_by(CHUNK).map(move |start| start..len.min(start + CHUNK))
    }
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("name", &self.name()).field("shape", &self.shape).field("through", &self.through).finish()
    }
}
