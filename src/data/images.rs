//! Image folders: PNG, JPEG, WebP, BMP and PNM files, decoded when they are asked for.
//!
//! A folder of folders is labelled, one folder for each class; a folder of files is not. Samples come in the order of class
//! numbers, and within a class in the order of the files' names (byte by byte). Values are 0 to 255, whatever the file's
//! depth; transparency is dropped. Colour becomes grey by ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B), as Pillow and torchvision
//! do it. Exif orientation is not applied, as it is not in Pillow and torchvision, unless `orientation = "exif"` asks for it.

use super::input::{Frame, Resize};
use super::source::{broken, open_regular, printable, within};
use crate::{Error, Result};
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Endings of the names of images, in lower case.
const ENDINGS: [&str; 10] = ["png", "jpg", "jpeg", "webp", "bmp", "pnm", "ppm", "pgm", "pbm", "pam"];
/// The most images a split may have: their names are kept.
const MAX_FILES: usize = 16 << 20;
/// The most classes a folder may have.
const MAX_CLASSES: usize = 1 << 20;
/// The most bytes an image file may have.
const MAX_FILE_BYTES: u64 = 128 << 20;
/// The most bytes an image may take, decoded and converted: a small file can declare, and deliver, gigabytes. The decoders take up
/// to twice as much for themselves (coefficients of a progressive JPEG).
const MAX_DECODED_BYTES: u64 = 128 << 20;
/// The most pixels an image may have between the steps of resizing, where each takes 16 bytes.
const MAX_RESIZED_PIXELS: u64 = 16 << 20;

/// The images of a split, none of them decoded.
#[derive(Debug)]
pub(super) struct Images {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    /// Class number of each file; none in a folder without classes.
    labels: Option<Vec<u32>>,
    frame: Frame,
}

impl Images {
    /// Lists the images below `root/folder`, which gives the number of each class by its place in `names`.
    pub(super) fn list(root: &Path, folder: &Path, names: &[String], frame: Frame) -> Result<Self> {
        let classes = class_folders(root, folder)?;
        let mut files = Vec::new();
        if classes.is_empty() {
            list_files(root, folder, &mut files)?;
            return Ok(Images { root: root.to_owned(), files, labels: None, frame });
        }
        let mut numbered: Vec<(usize, &String)> = Vec::new();
        for class in &classes {
            let number = names.iter().position(|n| n == class).ok_or_else(|| {
                Error::bad_input(format!("the folder `{}` is none of the `classes`", printable(class)))
                    .hint("name every class folder in `classes`, or leave `classes` out to use the folders' names")
            })?;
            numbered.push((number, class));
        }
        numbered.sort();
        let mut labels = Vec::new();
        for (number, class) in numbered {
            list_files(root, &folder.join(class), &mut files)?;
            labels.resize(files.len(), number as u32);
        }
        Ok(Images { root: root.to_owned(), files, labels: Some(labels), frame })
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// The files, relative to the dataset's folder, in the order of the samples.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Puts the values of a range of images, which must be there, in place of those in `buffer`: uint8 in the order of the
    /// input's shape.
    pub(super) fn read(&self, images: Range<usize>, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        self.files.get(images).unwrap_or_default().iter().try_for_each(|file| {
            decode(&within(&self.root, file)?, &self.frame, buffer)
                .map_err(|e| e.context(format!("`{}`", printable(&file.to_string_lossy()))))
        })
    }
}

/// The sorted names of the folders in `root/folder`: its classes; none when it holds images itself.
pub(super) fn class_folders(root: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut classes = Vec::new();
    let mut files = false;
    entries(root, folder, &mut |name, is_folder| {
        files |= !is_folder;
        if is_folder {
            let name = name.to_str().ok_or_else(|| Error::bad_input("the name of a class folder is not UTF-8 text"))?;
            classes.push(name.to_owned());
        }
        if classes.len() > MAX_CLASSES { Err(Error::bad_input("there are too many class folders")) } else { Ok(()) }
    })?;
    if files && !classes.is_empty() {
        return Err(Error::bad_input("there are files beside the class folders").hint("put each image into the folder of its class"));
    }
    classes.sort();
    Ok(classes)
}

/// Adds the sorted image files in `root/folder`.
fn list_files(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let first = files.len();
    entries(root, folder, &mut |name, is_folder| {
        let path = folder.join(name);
        let shown = printable(&path.to_string_lossy());
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if is_folder {
            return Err(Error::bad_input(format!("`{shown}` is a folder within a class")).hint("a class is a folder of images"));
        }
        if !ENDINGS.contains(&ending.as_str()) {
            let hint = format!("supported are .{}; remove or convert the file", ENDINGS.join(", ."));
            return Err(Error::bad_input(format!("`{shown}` is not an image of a supported format")).hint(hint));
        }
        files.push(path);
        if files.len() > MAX_FILES { Err(Error::bad_input(format!("there are more than {MAX_FILES} images"))) } else { Ok(()) }
    })?;
    files[first..].sort();
    Ok(())
}

/// Tells `each` the names in a folder and whether they are folders. Hidden names and Windows' `Thumbs.db` are passed over;
/// links must stay within `root`.
fn entries(root: &Path, folder: &Path, each: &mut dyn FnMut(&Path, bool) -> Result<()>) -> Result<()> {
    let real = within(root, folder)?;
    for entry in real.read_dir().map_err(|e| Error::read(&real, e))? {
        let entry = entry.map_err(|e| Error::read(&real, e))?;
        let name = PathBuf::from(entry.file_name());
        if name.as_os_str().as_encoded_bytes().starts_with(b".") || name.as_os_str() == "Thumbs.db" {
            continue;
        }
        let mut kind = entry.file_type().map_err(|e| Error::read(entry.path(), e))?;
        if kind.is_symlink() {
            let target = within(root, &folder.join(&name))?;
            kind = target.metadata().map_err(|e| Error::read(&target, e))?.file_type();
        }
        each(&name, kind.is_dir())?;
    }
    Ok(())
}

/// Adds the values of one image file to `out`.
fn decode(path: &Path, frame: &Frame, out: &mut Vec<u8>) -> Result<()> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::bad_input("the file is too long for an image"));
    }
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(broken)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(&bytes) {
        return Err(Error::bad_input("the file is cut short").hint("make or copy the file again"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(2 * MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width).saturating_mul(height.into());
    let converted = pixels.saturating_mul(converted_bytes(decoder.color_type(), frame.channels));
    if decoder.total_bytes().saturating_add(converted) > MAX_DECODED_BYTES {
        return Err(
            Error::bad_input(format!("an image of {width}×{height} pixels is more than can be decoded")).hint("make it smaller first")
        );
    }
    let orientation = if frame.upright { decoder.orientation().map_err(damaged)? } else { Orientation::NoTransforms };
    // An image of the wrong size is refused before it is decoded.
    let plan = Plan::new(if turned(orientation) { (height, width) } else { (width, height) }, frame)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    if frame.channels == 1 {
        put(plan.apply(grey(image)).as_raw(), 1, frame, out);
    } else {
        put(plan.apply(image.into_rgb8()).as_raw(), 3, frame, out);
    }
    Ok(())
}

/// Bytes per pixel of the RGB and grey values that a decoded image becomes on its way to one or three channels.
fn converted_bytes(colour: ColorType, channels: usize) -> u64 {
    match (channels, colour) {
        (1, ColorType::L8) | (3, ColorType::Rgb8) => 0,
        (1, ColorType::La8 | ColorType::L16 | ColorType::La16 | ColorType::Rgb8) => 1,
        (1, _) => 4,
        _ => 3,
    }
}

/// Whether width and height change places.
fn turned(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Whether the last scan of a JPEG file has an end. The decoder makes grey of what is missing; within a scan the bytes of the
/// two markers cannot occur (ITU-T T.81, B.1.1.5).
fn jpeg_ends(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    last(0xD9) > last(0xDA)
}

/// Pixels come channel by channel within a pixel; models want that or one plane for each channel.
fn put(pixels: &[u8], channels: usize, frame: &Frame, out: &mut Vec<u8>) {
    match frame.planes {
        true => (0..channels).for_each(|c| out.extend(pixels.iter().skip(c).step_by(channels))),
        false => out.extend_from_slice(pixels),
    }
}

fn grey(image: DynamicImage) -> GrayImage {
    match image {
        DynamicImage::ImageLuma8(grey) => grey,
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => image.into_luma8(),
        image => {
            let colour = image.into_rgb8();
            // BT.601 in 16 bits after the point, which adds up to one.
            let luma =
                |p: &[u8; 3]| ((19_595 * u32::from(p[0]) + 38_470 * u32::from(p[1]) + 7_471 * u32::from(p[2]) + (1 << 15)) >> 16) as u8;
            GrayImage::from_fn(colour.width(), colour.height(), |x, y| image::Luma([luma(&colour.get_pixel(x, y).0)]))
        }
    }
}

/// From an image's size to the input's: resize, then cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Width and height after resizing, where it is done.
    resized: Option<(u32, u32)>,
    /// Left, top, width, height of the part that is kept.
    part: (u32, u32, u32, u32),
}

impl Plan {
    fn new((width, height): (u32, u32), frame: &Frame) -> Result<Self> {
        let (w, h) = (frame.width, frame.height);
        let (tall, wide) = (u64::from(height), u64::from(width));
        // The shorter side becomes `s`, the longer one in proportion, rounded down.
        let shorter = |s: u32| match width <= height {
            true => (u64::from(s), u64::from(s) * tall / wide.max(1)),
            false => (u64::from(s) * wide / tall.max(1), u64::from(s)),
        };
        let resized = match frame.resize {
            None if (width, height) == (w, h) => return Ok(Plan { resized: None, part: (0, 0, w, h) }),
            None => {
                return Err(Error::bad_input(format!("the image has {width}×{height} pixels, the model takes {w}×{h}"))
                    .hint("resize the images, or add `resize = \"stretch\"`, `resize = \"cover\"` or `resize = 256` to the input"));
            }
            Some(Resize::Stretch) => (u64::from(w), u64::from(h)),
            // The smallest size with the image's proportions that covers the input.
            Some(Resize::Cover) => match u64::from(w) * tall >= u64::from(h) * wide {
                true => (u64::from(w), (u64::from(w) * tall / wide.max(1)).max(h.into())),
                false => ((u64::from(h) * wide / tall.max(1)).max(w.into()), u64::from(h)),
            },
            Some(Resize::Shorter(s)) => shorter(s),
        };
        let pixels = [(wide, resized.1), resized].iter().map(|(a, b)| a.saturating_mul(*b)).max();
        let (Ok(rw), Ok(rh)) = (u32::try_from(resized.0), u32::try_from(resized.1)) else { return Err(too_long(width, height)) };
        if pixels.is_none_or(|p| p > MAX_RESIZED_PIXELS) {
            return Err(too_long(width, height));
        }
        if rw < w || rh < h {
            return Err(Error::bad_input(format!("resized to {rw}×{rh} pixels the image is smaller than the {w}×{h} the model takes")));
        }
        // The middle; halves go to the even pixel, as in Python's `round`.
        let middle = |all: u32, part: u32| (f64::from(all - part) / 2.0).round_ties_even() as u32;
        Ok(Plan { resized: Some((rw, rh)), part: (middle(rw, w), middle(rh, h), w, h) })
    }

    fn apply<P>(&self, image: image::ImageBuffer<P, Vec<u8>>) -> image::ImageBuffer<P, Vec<u8>>
    where
        P: image::Pixel<Subpixel = u8> + 'static,
    {
        let (left, top, width, height) = self.part;
        match self.resized {
            None => image,
            Some((w, h)) => imageops::crop_imm(&imageops::resize(&image, w, h, FilterType::Triangle), left, top, width, height).to_image(),
        }
    }
}

fn too_long(width: u32, height: u32) -> Error {
    Error::bad_input(format!("an image of {width}×{height} pixels is too large to be resized"))
}

/// The decoders' own words name the fault, never a pixel.
fn damaged(e: image::ImageError) -> Error {
    match e {
        image::ImageError::IoError(e) => broken(e),
        e => Error::bad_input(format!("the image cannot be decoded: {}", printable(&e.to_string()))),
    }
}
