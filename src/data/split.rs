//! An opened split: where its samples are, its labels, and batches as the model takes them.

use super::array::Array;
use super::input::Input;
use super::manifest::{Manifest, SplitFiles};
use super::samples::Samples;
use super::source::printable;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Class numbers beyond this are broken labels: memory per class must stay bounded.
const MAX_CLASSES: u32 = 1 << 20;

/// Samples of one split, read when a batch asks for them, and their labels where there are any.
///
/// Arrays that are stored uncompressed and images are read from their files batch by batch, so a split may be larger than the
/// memory. Compressed arrays and tables are unpacked once, to memory or, from 64 MiB on, to a temporary file.
#[derive(Debug, Clone)]
pub struct Split {
    feeds: Arc<[Feed]>,
    range: Range<usize>,
    labels: Option<Vec<u32>>,
    classes: usize,
}

/// One input and its samples.
#[derive(Debug)]
struct Feed {
    input: Input,
    samples: Samples,
}

impl Split {
    pub(super) fn load(root: &Path, files: &SplitFiles, manifest: &Manifest, names: &[String]) -> Result<Self> {
        let several = manifest.inputs.len() > 1;
        let (mut feeds, mut count) = (Vec::new(), None);
        for (input, source) in manifest.inputs.iter().zip(&files.x) {
            let feed = || {
                let samples = source.samples(root, input, files.labels.as_ref(), names)?;
                let n = samples.count(input)?;
                match count {
                    Some(first) if first != n => Err(Error::bad_input(format!("it has {n} samples, the first input has {first}"))),
                    _ => Ok((Feed { input: input.clone(), samples }, n)),
                }
            };
            let at = |e: Error| if several { e.context(format!("input `{}`", printable(input.name()))) } else { e };
            let (feed, n) = feed().map_err(at)?;
            feeds.push(feed);
            count = Some(n);
        }
        let samples = count.unwrap_or(0);
        let range = files.range.clone().unwrap_or(0..samples);
        if range.end > samples {
            return Err(Error::bad_input(format!("`range` [{}, {}] goes beyond the {samples} samples", range.start, range.end)));
        }
        let folders = || feeds.iter().find_map(|f| if let Samples::Images(images) = &f.samples { images.labels() } else { None });
        let labels = match (&files.labels, folders()) {
            (Some(_), Some(_)) => {
                return Err(Error::bad_input("there are labels beside those of the class folders").hint("leave `y` out"));
            }
            (Some(source), None) => {
                let array = source.labels(root, names)?;
                Some(labels(&array, samples, range.clone(), names).map_err(|e| e.context("labels"))?)
            }
            (None, all) => all.and_then(|all| all.get(range.clone())).map(<[u32]>::to_vec),
        };
        let largest = labels.iter().flatten().max().map_or(0, |&l| l as usize + 1);
        let classes = if names.is_empty() { largest } else { names.len() };
        Ok(Split { feeds: feeds.into(), range, labels, classes })
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
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = &Input> {
        self.feeds.iter().map(|f| &f.input)
    }

    /// Samples `samples.start..samples.end` of the only input as the model takes them: shape [n, sample shape…], float32
    /// scaled as [`Input`] says, or integers unchanged.
    ///
    /// # Errors
    /// The range goes beyond the split, a value is not a finite number or does not fit the input's type, a file cannot be
    /// read, or there are several inputs (see [`Split::batches`]).
    pub fn batch(&self, samples: Range<usize>) -> Result<Tensor> {
        self.gather(samples)
    }

    /// Like [`Split::batch`], for samples in any order, as shuffled training takes them.
    pub fn gather(&self, samples: impl IntoIterator<Item = usize>) -> Result<Tensor> {
        match &*self.feeds {
            [only] => only.tensor(&self.runs(samples)?),
            all => Err(Error::bad_input(format!("the dataset has {} inputs where one is expected", all.len()))),
        }
    }

    /// The same samples of several inputs, in any order: one tensor for each of `names`, in the order of these.
    ///
    /// # Errors
    /// As [`Split::batch`], or there is no such input.
    pub fn batches(&self, names: &[impl AsRef<str>], samples: impl IntoIterator<Item = usize>) -> Result<Vec<Tensor>> {
        let runs = self.runs(samples)?;
        let tensor = |name: &_| {
            let name = AsRef::as_ref(name);
            let feed = self.feeds.iter().find(|f| f.input.name() == name);
            feed.ok_or_else(|| Error::bad_input(format!("the dataset has no input `{}`", printable(name))))?.tensor(&runs)
        };
        names.iter().map(tensor).collect()
    }

    /// Rows of the arrays, neighbours together: one read for each range.
    fn runs(&self, samples: impl IntoIterator<Item = usize>) -> Result<Vec<Range<usize>>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for sample in samples {
            if sample >= self.len() {
                return Err(Error::bad_input(format!("there is no sample {sample}; the split has {}", self.len())));
            }
            let row = self.range.start + sample;
            match runs.last_mut() {
                Some(run) if run.end == row => run.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        Ok(runs)
    }
}

impl Feed {
    fn tensor(&self, runs: &[Range<usize>]) -> Result<Tensor> {
        let count = runs.iter().map(ExactSizeIterator::len).sum();
        let mut shape = vec![count];
        shape.extend(self.input.shape());
        Tensor::new(shape, self.samples.gather(runs, &self.input)?)
    }
}

/// Class numbers of the samples in `range`, from an array of one integer per sample.
fn labels(array: &Array, samples: usize, range: Range<usize>, names: &[String]) -> Result<Vec<u32>> {
    if array.shape() != [samples] {
        return Err(Error::bad_input(format!("the array has shape {:?} for {samples} samples", array.shape()))
            .hint("labels are one class number for each sample"));
    }
    let element = array.element();
    if element.dtype.is_float() {
        return Err(Error::bad_input(format!("class numbers are integers, these are {}", element.dtype.name()))
            .hint("convert them with `.astype(numpy.int64)` after checking that none is missing"));
    }
    let classes = if names.is_empty() { MAX_CLASSES } else { u32::try_from(names.len()).unwrap_or(MAX_CLASSES) };
    let (mut raw, mut numbers, mut wrong) = (Vec::new(), Vec::new(), None);
    array.read(range.clone(), &mut raw)?;
    element.integers(&raw, |label| {
        let number = u32::try_from(label).ok().filter(|&l| l < classes);
        if number.is_none() {
            wrong.get_or_insert((range.start + numbers.len(), label));
        }
        numbers.push(number.unwrap_or(0));
    });
    match wrong {
        Some((sample, label)) => Err(Error::bad_input(format!("sample {sample} has the label {label}, which is not in 0..{classes}"))),
        None => Ok(numbers),
    }
}
