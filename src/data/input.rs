//! One input of the model as `dataset.toml` describes it.

use super::source::printable;
use crate::tensor::DType;
use crate::{Error, Result};
use serde::Deserialize;

/// One of the model's inputs and how a raw value becomes it: `(raw * scale - mean) / std` per channel for a float input;
/// integer and bool inputs take raw integers as they are. Channels are the first axis of the shape, or the last one with
/// `layout = "HWC"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    scale: f64,
    layout: Layout,
    resize: Option<Resize>,
    orientation: Orientation,
    /// One per channel, or one for all.
    mean: Vec<f64>,
    /// One per channel, or one for all.
    std: Vec<f64>,
}

/// Which axis of an input holds the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
enum Layout {
    /// The first.
    #[default]
    #[serde(rename = "CHW")]
    Chw,
    /// The last.
    #[serde(rename = "HWC")]
    Hwc,
}

/// What is done to an image that has not the input's size. All scale with an antialiased triangle filter (Pillow's and
/// torchvision's bilinear).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    /// To the input's size, whatever that does to the proportions.
    Stretch,
    /// Until it covers the input, of which the middle is taken.
    Cover,
    /// Until its shorter side has this length; the middle is taken.
    Shorter(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Orientation {
    #[default]
    Stored,
    Exif,
}

/// An input as the reader of images sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// 1 or 3.
    pub(super) channels: usize,
    pub(super) width: u32,
    pub(super) height: u32,
    /// One plane for each channel, not one pixel after the other.
    pub(super) planes: bool,
    pub(super) resize: Option<Resize>,
    /// Turned as Exif says.
    pub(super) upright: bool,
}

impl Input {
    /// The name of the model's input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dimensions of one sample, without the batch axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type the model takes: float32, an integer type or bool.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Elements of one sample.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Factor on raw values.
    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// (mean, std) of each channel, over and over; what is the same for all channels stands there once.
    pub(super) fn channels(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        let many = self.mean.len().max(self.std.len());
        self.mean.iter().copied().cycle().zip(self.std.iter().copied().cycle()).take(many)
    }

    /// Elements that follow each other in one channel before the next one's begin.
    pub(super) fn run(&self) -> usize {
        match self.layout {
            Layout::Chw => self.shape.iter().skip(1).product(),
            Layout::Hwc => 1,
        }
    }

    /// Whether images are resized.
    pub(super) fn resizes(&self) -> bool {
        self.resize.is_some()
    }

    /// The input as one for images.
    pub(super) fn frame(&self) -> Result<Frame> {
        let size = match (self.shape.as_slice(), self.layout) {
            (&[height, width], _) => Some((1, height, width)),
            (&[channels, height, width], Layout::Chw) | (&[height, width, channels], Layout::Hwc) => Some((channels, height, width)),
            _ => None,
        };
        let wrong = || {
            Error::bad_input(format!("`shape` {:?} is not that of an image", self.shape))
                .hint("give [1, H, W] or [3, H, W], or [H, W, 1] or [H, W, 3] with `layout = \"HWC\"`")
        };
        let (channels, height, width) = size.filter(|s| matches!(s.0, 1 | 3)).ok_or_else(wrong)?;
        let side = |n: usize| u32::try_from(n).ok().filter(|&n| n <= 65_535).ok_or_else(wrong);
        Ok(Frame {
            channels,
            width: side(width)?,
            height: side(height)?,
            planes: self.layout == Layout::Chw,
            resize: self.resize,
            upright: self.orientation == Orientation::Exif,
        })
    }
}

/// The table of one input; `name` is the table's own where there are several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputTable {
    name: Option<String>,
    shape: Vec<usize>,
    dtype: String,
    scale: Option<f64>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    #[serde(default)]
    layout: Layout,
    resize: Option<toml::Value>,
    #[serde(default)]
    orientation: Orientation,
}

impl InputTable {
    /// Checks the table; `given` is the name it stands under in `[inputs]`.
    pub(super) fn check(self, given: Option<String>) -> Result<Input> {
        let name = match (given, self.name) {
            (Some(given), None) => given,
            (None, Some(name)) => name,
            (Some(_), Some(_)) => return Err(Error::bad_input("`name` is given twice").hint("the table's own name is the input's")),
            (None, None) => return Err(Error::bad_input("missing field `name`").hint("the name of the model's input")),
        };
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n as u64 <= 1 << 32);
        if elements.is_none_or(|n| n == 0) {
            return Err(Error::bad_input(format!("`shape` {:?} is not the shape of a sample", self.shape)));
        }
        let dtype = dtype(&self.dtype)?;
        let axis = if self.layout == Layout::Chw { self.shape.first() } else { self.shape.last() };
        let channels = axis.copied().unwrap_or(1);
        let input = Input {
            name,
            dtype,
            scale: self.scale.unwrap_or(1.0),
            mean: per_channel("mean", self.mean, 0.0, channels)?,
            std: per_channel("std", self.std, 1.0, channels)?,
            layout: self.layout,
            resize: self.resize.as_ref().map(resize).transpose()?,
            orientation: self.orientation,
            shape: self.shape,
        };
        if !input.scale.is_finite() || input.scale == 0.0 {
            return Err(Error::bad_input(format!("`scale` {} makes every value the same", input.scale)));
        }
        if let Some(std) = input.std.iter().find(|s| **s <= 0.0) {
            return Err(Error::bad_input(format!("`std` {std} is not positive")));
        }
        if dtype != DType::F32 && (input.scale != 1.0 || input.channels().any(|c| c != (0.0, 1.0))) {
            return Err(Error::bad_input(format!("`scale`, `mean` and `std` do not apply to `dtype` `{}`", dtype.name()))
                .hint("integers are passed as they are; remove these keys or use `float32`"));
        }
        Ok(input)
    }
}

fn dtype(name: &str) -> Result<DType> {
    use DType::{Bool, F32, I8, I16, I32, I64, U8, U16, U32, U64};
    const DTYPES: [DType; 10] = [F32, U8, I8, U16, I16, U32, I32, U64, I64, Bool];
    DTYPES.into_iter().find(|d| d.name() == name).ok_or_else(|| {
        let known = DTYPES.map(|d| format!("`{}`", d.name())).join(", ");
        Error::bad_input(format!("unknown `dtype` `{}`", printable(name))).hint(format!("known are {known}"))
    })
}

fn resize(value: &toml::Value) -> Result<Resize> {
    match value {
        toml::Value::String(word) if word == "stretch" => Ok(Resize::Stretch),
        toml::Value::String(word) if word == "cover" => Ok(Resize::Cover),
        toml::Value::Integer(side @ 1..=65_535) => Ok(Resize::Shorter(*side as u32)),
        _ => Err(Error::bad_input("`resize` is none of \"stretch\", \"cover\" and a number of pixels")
            .hint("a number is the length of the shorter side, from which the middle is taken")),
    }
}

/// One number for each channel, or one for all. It is not repeated: a shape may declare billions of channels.
fn per_channel(key: &str, given: Option<Vec<f64>>, default: f64, channels: usize) -> Result<Vec<f64>> {
    let given = given.unwrap_or_else(|| vec![default]);
    if let Some(x) = given.iter().find(|x| !x.is_finite()) {
        return Err(Error::bad_input(format!("`{key}` holds {x}, which is not a finite number")));
    }
    match given.as_slice() {
        [_] => Ok(given),
        all if all.len() == channels => Ok(given),
        all => Err(Error::bad_input(format!(
            "`{key}` has {} numbers for {channels} channels (first axis of `shape`, or last with `layout = \"HWC\"`)",
            all.len()
        ))
        .hint("give one number for each channel, or one for all")),
    }
}
