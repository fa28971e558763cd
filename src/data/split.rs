//! A loaded split: raw samples, labels, and batches as the model takes them.

use super::manifest::{Input, Labels, SplitFiles};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// Class numbers beyond this are broken labels: memory per class must stay bounded.
const MAX_CLASSES: u32 = 1 << 20;

/// Runs `$body`, which may cast with `as`, with the elements of a raw array as `$v`; readers yield these types only.
macro_rules! with_numbers {
    ($data:expr, $v:ident => $body:expr) => {
        #[allow(clippy::unnecessary_cast, reason = "necessary for all element types but one")]
        match $data {
            Data::U8($v) => $body,
            Data::I8($v) => $body,
            Data::I16($v) => $body,
            Data::I32($v) => $body,
            Data::I64($v) => $body,
            Data::F32($v) => $body,
            Data::F64($v) => $body,
            _ => return Err(Error::bad_input("this element type is not supported")),
        }
    };
}

/// Samples of one split in memory, in their raw element type, and their labels where there are any.
#[derive(Debug, Clone)]
pub struct Split {
    input: Input,
    /// [N, …] with `input.elements()` elements a sample.
    raw: Data,
    range: Range<usize>,
    labels: Option<Vec<u32>>,
    classes: usize,
}

impl Split {
    pub(super) fn load(root: &Path, files: &SplitFiles, input: &Input, names: &[String]) -> Result<Self> {
        let (raw, found) = match &files.labels {
            Labels::None => (files.x.read(root)?, None),
            Labels::Array(y) => (files.x.read(root)?, Some(y.read(root)?)),
            Labels::Column(label) => files.x.read_labelled(root, label, names)?,
        };
        let samples = sample_count(&raw, input)?;
        let range = files.range.clone().unwrap_or(0..samples);
        if range.end > samples {
            return Err(Error::bad_input(format!("`range` [{}, {}] goes beyond the {samples} samples", range.start, range.end)));
        }
        let labels = found.map(|l| labels(l, samples, range.clone(), names).map_err(|e| e.context("labels"))).transpose()?;
        let largest = labels.iter().flatten().max().map_or(0, |&l| l as usize + 1);
        let classes = if names.is_empty() { largest } else { names.len() };
        Ok(Split { input: input.clone(), raw: raw.into_data(), range, labels, classes })
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// True when there are no samples.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Class number of each sample, or `None` for a split without labels.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// Number of classes: that of the dataset's class names, else one more than the largest label here (0 without labels).
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What the model takes and how raw values become it.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Samples `samples.start..samples.end` as the model takes them: shape [n, sample shape…], float32 scaled as
    /// [`Input`] says, or integers unchanged. An error when the range goes beyond the split.
    pub fn batch(&self, samples: Range<usize>) -> Result<Tensor> {
        self.gather(samples)
    }

    /// Like [`Split::batch`], for samples in any order, as shuffled training takes them.
    pub fn gather<I>(&self, samples: I) -> Result<Tensor>
    where
        I: IntoIterator<Item = usize, IntoIter: ExactSizeIterator>,
    {
        let samples = samples.into_iter();
        let mut shape = vec![samples.len()];
        shape.extend(self.input.shape());
        let data = match self.input.dtype() {
            DType::F32 => Data::F32(self.scaled(samples)?),
            dtype => self.integers(dtype, samples)?,
        };
        Tensor::new(shape, data)
    }

    fn scaled(&self, samples: impl ExactSizeIterator<Item = usize>) -> Result<Vec<f32>> {
        let each = self.input.elements();
        let plane = each / self.input.shape().first().copied().unwrap_or(1);
        let scale = self.input.scale();
        // Bounded by what is there: the length is the caller's word.
        let mut out = Vec::with_capacity(samples.len().min(self.len()) * each);
        with_numbers!(&self.raw, v => for sample in samples {
            for (values, (mean, std)) in v[self.elements(sample)?].chunks_exact(plane).zip(self.input.channels()) {
                out.extend(values.iter().map(|&raw| ((raw as f64 * scale - mean) / std) as f32));
            }
        });
        Ok(out)
    }

    fn integers(&self, dtype: DType, samples: impl Iterator<Item = usize>) -> Result<Data> {
        let mut wide: Vec<i64> = Vec::new();
        with_numbers!(&self.raw, v => for sample in samples {
            wide.extend(v[self.elements(sample)?].iter().map(|&raw| raw as i64));
        });
        fn narrow<T: TryFrom<i64>>(wide: Vec<i64>, dtype: DType) -> Result<Vec<T>> {
            let outside = |_| Error::bad_input(format!("a sample holds a value that does not fit `{}`", dtype.name()));
            wide.into_iter().map(T::try_from).collect::<Result<_, _>>().map_err(outside)
        }
        Ok(match dtype {
            DType::U8 => Data::U8(narrow(wide, dtype)?),
            DType::I8 => Data::I8(narrow(wide, dtype)?),
            DType::I16 => Data::I16(narrow(wide, dtype)?),
            DType::I32 => Data::I32(narrow(wide, dtype)?),
            DType::I64 => Data::I64(wide),
            _ => return Err(Error::bad_input(format!("inputs of {} are not supported", dtype.name()))),
        })
    }

    /// Where a sample's elements lie in the raw array.
    fn elements(&self, sample: usize) -> Result<Range<usize>> {
        if sample >= self.len() {
            return Err(Error::bad_input(format!("there is no sample {sample}; the split has {}", self.len())));
        }
        let each = self.input.elements();
        let at = (self.range.start + sample) * each;
        Ok(at..at + each)
    }
}

/// Checks that `raw` is [N, …] with one sample's elements after the first axis, all finite, and returns N.
fn sample_count(raw: &Tensor, input: &Input) -> Result<usize> {
    let each = input.elements();
    let Some((&samples, rest)) = raw.shape().split_first() else {
        return Err(Error::bad_input("the array of samples is a single number"));
    };
    if rest.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(each) {
        return Err(Error::bad_input(format!(
            "the array has shape {:?}: its samples do not have the {each} elements of `shape` {:?}",
            raw.shape(),
            input.shape()
        )));
    }
    if samples == 0 {
        return Err(Error::bad_input("there are no samples"));
    }
    let is_float = matches!(raw.dtype(), DType::F32 | DType::F64);
    if is_float && input.dtype() != DType::F32 {
        return Err(Error::bad_input(format!("the samples are {}, but the model takes {}", raw.dtype().name(), input.dtype().name())));
    }
    let not_finite = match raw.data() {
        Data::F32(v) => v.iter().position(|x| !x.is_finite()),
        Data::F64(v) => v.iter().position(|x| !x.is_finite()),
        _ => None,
    };
    match not_finite {
        Some(at) => Err(Error::bad_input(format!("sample {} holds a value that is not a finite number", at / each))),
        None => Ok(samples),
    }
}

/// Class numbers of the samples in `range`, from an array of one integer per sample.
fn labels(raw: Tensor, samples: usize, range: Range<usize>, names: &[String]) -> Result<Vec<u32>> {
    if raw.shape() != [samples] {
        return Err(Error::bad_input(format!("the array has shape {:?} for {samples} samples", raw.shape()))
            .hint("labels are one class number for each sample"));
    }
    if matches!(raw.data(), Data::F32(_) | Data::F64(_)) {
        return Err(Error::bad_input(format!("class numbers are integers, these are {}", raw.dtype().name()))
            .hint("convert them with `.astype(numpy.int64)` after checking that none is missing"));
    }
    let classes = if names.is_empty() { MAX_CLASSES } else { u32::try_from(names.len()).unwrap_or(MAX_CLASSES) };
    let number = |(sample, label): (usize, i64)| match u32::try_from(label) {
        Ok(label) if label < classes => Ok(label),
        _ => Err(Error::bad_input(format!("sample {sample} has the label {label}, which is not in 0..{classes}"))),
    };
    with_numbers!(raw.data(), v => v[range.clone()].iter().map(|&l| l as i64).enumerate().map(|(i, l)| (range.start + i, l)).map(number).collect())
}
