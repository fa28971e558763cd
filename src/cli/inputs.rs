//! What several subcommands open alike: the shipped model and data, a model with its bytes, a dataset that fits it.

use crate::data::Dataset;
use crate::engine::{Fit, LoadOptions};
use crate::model::{Dims, Facts, Graph, Totals, layers, totals};
use crate::onnx::{Model, sha256_of};
use crate::sys;
use crate::units::Bytes as Size;
use crate::{Error, Result};
use bytes::Bytes;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The model that ships with joulefront, relative to the repository.
pub(super) const SHIPPED_MODEL: &str = "models/fashion-resnet8.onnx";
/// The dataset that ships with joulefront.
pub(super) const SHIPPED_DATA: &str = "models/fashion-mnist";

/// The shipped file or folder, from the current folder or from the sources this program was built from.
pub(super) fn shipped(path: &str) -> Result<PathBuf> {
    let here = PathBuf::from(path);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    [here, source].into_iter().find(|p| p.exists()).ok_or_else(|| {
        Error::bad_input(format!("the shipped `{path}` is not here")).hint("run in joulefront's repository, or name a model and its data")
    })
}

/// A model file: its path and graph, and what identifies it.
#[derive(Debug)]
pub(super) struct ModelFile {
    pub(super) path: PathBuf,
    /// Of the file's bytes; when tensors have their data in other files, of these bytes and then of that data, in the order of the file.
    pub(super) sha256: String,
    /// Of the file and of its tensors in other files.
    pub(super) size: Size,
    pub(super) model: Model,
    file: Bytes,
}

impl ModelFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).and_then(sys::contents).map_err(|e| Error::read(path, e))?;
        let model = Model::parse(&file, &path.display().to_string(), Some(path))?;
        let elsewhere = model.external_data();
        let size = Size(elsewhere.iter().fold(file.len() as u64, |n, data| n + data.len() as u64));
        let sha256 = sha256_of(std::iter::once(&file).chain(&elsewhere).map(|b| &b[..]));
        Ok(ModelFile { path: path.to_owned(), sha256, size, model, file })
    }

    /// The model as one file's bytes: the file itself unless tensors have their data in others.
    pub(super) fn bytes(&self) -> Result<Bytes> {
        if self.model.has_external_data() { self.model.to_bytes().map(Bytes::from) } else { Ok(self.file.clone()) }
    }

    /// File name for tables.
    pub(super) fn name(&self) -> String {
        self.path.file_name().map_or_else(|| self.path.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// Parameters, multiply–adds, bits and sparsity of one sample, with the numbers that an engine gets for open dimensions.
    pub(super) fn totals(&self, options: &LoadOptions) -> Result<Totals> {
        let symbols = options.dims.iter().map(|(name, n)| format!("{name}={n}"));
        let graph = Graph::new(&self.model);
        // What the file fixes stays as it is, and so does a first dimension that is no batch.
        let fixes = |name: &str| {
            graph.inputs().any(|i| i.name() == name && i.type_.tensor_type.shape.dim.first().is_some_and(|d| d.dim_value() > 0))
        };
        let shapes = options.shapes.iter().map(|(name, shape)| {
            let batched = shape.first() == Some(&options.batch) && !fixes(name);
            let numbers = shape.iter().enumerate().map(|(axis, &n)| if axis == 0 && batched { 1 } else { n });
            format!("{name}={}", numbers.map(|n| n.to_string()).collect::<Vec<_>>().join("x"))
        });
        let given = symbols.chain(shapes).map(|g| g.parse()).collect::<Result<Vec<_>>>()?;
        let facts = Facts::infer_with(&self.model, &given.into_iter().fold(Dims::batch(1), Dims::with))?;
        totals(&graph, &layers(&graph, &facts)?)
    }

    /// Checks that the dataset's samples are what the model takes, and says how it takes them.
    pub(super) fn check_fits(&self, data: &Dataset) -> Result<Fit> {
        Fit::check(&self.model, data).map_err(|e| e.context(format!("`{}`", self.name())))
    }
}

/// Where the report of a study goes unless a folder is named: `study.sqlite` → `study-report`.
pub(super) fn report_folder(study: &Path) -> PathBuf {
    let stem = study.file_stem().map_or_else(Default::default, |s| s.to_string_lossy().into_owned());
    study.with_file_name(stem + "-report")
}
