//! Image folders: what Pillow reads, sizes, classes, and files that lie.

use super::*;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

fn fixture() -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string("tests/fixtures/images/pillow.json").unwrap()).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

/// A dataset of one split `t`, an image folder `i/`, whose input has these keys.
fn images(input: &str) -> Folder {
    let text = format!("name = \"t\"\n[input]\nname = \"x\"\ndtype = \"uint8\"\n{input}\n[splits]\nt = {{ x = \"i/\" }}\n");
    let folder = Folder::new(&text);
    std::fs::create_dir(folder.0.path().join("i")).unwrap();
    folder
}

impl Folder {
    /// Adds a file of the fixtures to `i/`.
    fn fixture(self, name: &str) -> Self {
        let bytes = std::fs::read(format!("tests/fixtures/images/{name}")).unwrap();
        self.with(&format!("i/{name}"), &bytes)
    }

    fn dir(self, name: &str) -> Self {
        std::fs::create_dir_all(self.0.path().join(name)).unwrap();
        self
    }

    /// All values of split `t`.
    fn values(&self) -> Vec<i64> {
        let split = self.split("t").unwrap();
        match split.batch(0..split.len()).unwrap().into_data() {
            Data::U8(v) => v.into_iter().map(i64::from).collect(),
            _ => panic!("the input is uint8"),
        }
    }
}

fn png(width: u32, height: u32, value: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let pixels = RgbImage::from_pixel(width, height, image::Rgb([value; 3]));
    image::codecs::png::PngEncoder::new(&mut out).write_image(&pixels, width, height, ExtendedColorType::Rgb8).unwrap();
    out
}

/// Fails unless all values are within `tolerance`.
#[track_caller]
fn close(got: &[i64], expect: &[i64], tolerance: i64) {
    assert_eq!(got.len(), expect.len());
    let worst = got.iter().zip(expect).map(|(a, b)| (a - b).abs()).max().unwrap();
    assert!(worst <= tolerance, "values differ by {worst}");
}

#[test]
fn every_format_is_read_as_pillow_reads_it() {
    let fixture = fixture();
    for (name, expect) in fixture["files"].as_object().unwrap() {
        // Decoders of JPEG may round the cosine transform and the colours differently.
        let tolerance = if name.ends_with("jpg") { 3 } else { 0 };
        close(&images("shape = [8, 11, 3]\nlayout = \"HWC\"").fixture(name).values(), &numbers(&expect["rgb"]), tolerance);
        close(&images("shape = [1, 8, 11]").fixture(name).values(), &numbers(&expect["grey"]), tolerance);
    }
}

#[test]
fn planes_are_the_channels_of_the_pixels() {
    let pixels = images("shape = [8, 11, 3]\nlayout = \"HWC\"").fixture("colour.png").values();
    let planes = images("shape = [3, 8, 11]").fixture("colour.png").values();
    let expect: Vec<i64> = (0..3).flat_map(|c| pixels.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect();
    assert_eq!(planes, expect);
}

#[test]
fn scale_mean_and_std_follow_the_channels_in_both_layouts() {
    let float = |shape: &str, layout: &str| {
        let keys = format!("shape = {shape}\nlayout = \"{layout}\"\nscale = 0.5\nmean = [1, 2, 3]\nstd = [1, 2, 4]");
        let folder = images(&keys).fixture("colour.png");
        let text = std::fs::read_to_string(folder.0.path().join(MANIFEST)).unwrap().replace("uint8", "float32");
        let folder = folder.with(MANIFEST, text.as_bytes());
        folder.split("t").unwrap().batch(0..1).unwrap().as_f32().unwrap().to_vec()
    };
    let (planes, pixels) = (float("[3, 8, 11]", "CHW"), float("[8, 11, 3]", "HWC"));
    let raw = images("shape = [8, 11, 3]\nlayout = \"HWC\"").fixture("colour.png").values();
    for (i, raw) in raw.iter().enumerate() {
        let expect = (*raw as f32 * 0.5 - [1.0, 2.0, 3.0][i % 3]) / [1.0, 2.0, 4.0][i % 3];
        assert_eq!((pixels[i], planes[i % 3 * 88 + i / 3]), (expect, expect));
    }
}

#[test]
fn resizing_is_pillows() {
    let fixture = fixture();
    let values =
        |shape: &str, resize: &str| images(&format!("{shape}\nlayout = \"HWC\"\nresize = {resize}")).fixture("colour.png").values();
    close(&values("shape = [6, 4, 3]", "\"stretch\""), &numbers(&fixture["stretched"]), 1);
    close(&values("shape = [15, 20, 3]", "\"stretch\""), &numbers(&fixture["enlarged"]), 1);
    close(&values("shape = [5, 5, 3]", "6"), &numbers(&fixture["shorter_6"]), 1);
    // 11 × 8 pixels cover 4 × 4 as 5 × 4, of which the middle is taken; that is the shorter side at 4.
    assert_eq!(values("shape = [4, 4, 3]", "\"cover\""), values("shape = [4, 4, 3]", "4"));
    refused(images("shape = [3, 4, 4]").fixture("colour.png").split("t").unwrap().batch(0..1), "has 11×8 pixels, the model takes 4×4");
    let small = images("shape = [3, 8, 8]\nresize = 4").fixture("colour.png");
    refused(small.split("t").unwrap().batch(0..1), "resized to 5×4 pixels the image is smaller than the 8×8");
    refused(images("shape = [3, 4, 4]\nresize = \"magic\"").open(), "`resize` is none of");
    refused(images("shape = [3, 4, 4]\nresize = 0").open(), "`resize` is none of");
    refused(images("shape = [2, 4, 4]").fixture("colour.png").split("t"), "`shape` [2, 4, 4] is not that of an image");
    let arrays = manifest("t = { x = \"a.npy\" }").replace("scale = 0.5", "scale = 0.5\nresize = 3");
    refused(Folder::new(&arrays).open(), "`resize` is for image folders");
}

#[test]
fn exif_turns_an_image_only_when_asked() {
    let stored = images("shape = [1, 8, 11]").fixture("turned.jpg").values();
    let upright = images("shape = [1, 11, 8]\norientation = \"exif\"").fixture("turned.jpg").values();
    // Clockwise: the first column, from below, becomes the first row.
    let turned: Vec<i64> = (0..11).flat_map(|x| (0..8).rev().map(move |y| y * 11 + x)).map(|at| stored[at]).collect();
    assert_eq!(upright, turned);
}

#[test]
fn class_folders_number_the_labels_in_all_splits_alike() {
    let text = "name = \"t\"\n[input]\nname = \"x\"\nshape = [3, 1, 1]\ndtype = \"uint8\"\n\
                [splits]\nt = { x = \"i/\" }\nu = { x = \"j/\" }\nv = { x = \"j/\", range = [1, 2] }\n";
    let folder = Folder::new(text).dir("i/dog").dir("i/ant").dir("j/cow").dir("j/dog");
    let folder = folder.with("i/dog/2.png", &png(1, 1, 2)).with("i/dog/10.PNG", &png(1, 1, 10)).with("i/ant/z.png", &png(1, 1, 0));
    let folder =
        folder.with("i/ant/.hidden", b"").with("i/Thumbs.db", b"").with("j/cow/a.png", &png(1, 1, 5)).with("j/dog/a.png", &png(1, 1, 6));
    let data = folder.open().unwrap();
    assert_eq!(data.classes(), ["ant", "cow", "dog"]);
    let t = data.split("t").unwrap();
    assert_eq!((t.labels(), t.classes()), (Some(&[0, 2, 2][..]), 3));
    assert_eq!(folder.values(), [0, 0, 0, 10, 10, 10, 2, 2, 2], "names are sorted byte by byte");
    assert_eq!(data.split("u").unwrap().labels(), Some(&[1, 2][..]));
    assert_eq!(data.split("v").unwrap().labels(), Some(&[2][..]));
    let digest = data.split_digest("t").unwrap();
    let folder = folder.with("i/dog/2.png", &png(1, 1, 3));
    assert_ne!(folder.open().unwrap().split_digest("t").unwrap(), digest);

    let folder = Folder::new(&format!("classes = [\"dog\", \"cow\"]\n{text}"))
        .dir("j/cow")
        .dir("j/dog")
        .with("j/cow/a.png", &png(1, 1, 5))
        .with("j/dog/a.png", &png(1, 1, 6));
    assert_eq!(folder.split("u").unwrap().labels(), Some(&[0, 1][..]), "in the order of `classes`");
    let folder = folder.dir("j/emu");
    refused(folder.split("u"), "the folder `emu` is none of the `classes`");
    let folder = folder.with("j/stray.png", &png(1, 1, 1));
    refused(folder.split("u"), "there are files beside the class folders");
    refused(folder.split("t"), "cannot read");
}

#[test]
fn a_folder_without_classes_takes_labels_from_elsewhere() {
    let text = "name = \"t\"\n[input]\nname = \"x\"\nshape = [3, 1, 1]\ndtype = \"uint8\"\n\
                [splits]\nt = { x = \"i/\" }\nu = { x = \"i/\", y = \"y.npy\" }\n";
    let folder = Folder::new(text).dir("i").with("i/a.png", &png(1, 1, 1)).with("i/b.png", &png(1, 1, 2));
    let folder = folder.with("y.npy", &npy("|u1", "False", "(2,)", &[4, 1]));
    assert_eq!(folder.split("t").unwrap().labels(), None);
    assert_eq!(folder.split("u").unwrap().labels(), Some(&[4, 1][..]));
    let folder = folder.with("i/c.tif", b"II*");
    refused(folder.split("t"), "`i/c.tif` is not an image of a supported format | supported are .png");
    refused(Folder::new(text).dir("i").split("t"), "there are no samples");
}

#[test]
fn images_that_lie_are_refused_without_large_allocations() {
    let read = |name: &str, bytes: &[u8]| {
        images("shape = [3, 2, 2]\nresize = \"stretch\"").with(&format!("i/{name}"), bytes).split("t").unwrap().batch(0..1)
    };
    assert!(read("a.png", &png(5, 5, 1)).is_ok());
    // A header of 4 GB and no pixels.
    let mut huge = png(2, 2, 1);
    huge[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
    let crc = crc32(&huge[12..29]).to_be_bytes();
    huge[29..33].copy_from_slice(&crc);
    refused(read("a.png", &huge), "an image of 32768×32768 pixels is more than can be decoded");
    refused(read("a.ppm", b"P6 60000 60000 255\n"), "`i/a.ppm`: ");
    refused(read("a.ppm", b"P6 1 4000000000 255\n"), "`i/a.ppm`: ");
    refused(read("a.png", b"not an image"), "cannot be decoded");
    refused(read("a.png", b""), "cannot be decoded");
    for (name, needed) in [("colour.png", 106), ("colour.jpg", 720), ("colour.webp", 86), ("colour.bmp", 342), ("colour.ppm", 276)] {
        let good = std::fs::read(format!("tests/fixtures/images/{name}")).unwrap();
        assert!(good.len() - needed <= 12, "PNG may lack its last chunk, which holds nothing");
        assert!(read(name, &good).is_ok());
        for length in 0..needed {
            assert!(read(name, &good[..length]).is_err(), "{name} cut to {length} bytes");
        }
    }
    // Long and thin: covering a square would take 65,535² pixels and more.
    let thin = images("shape = [3, 2000, 2000]\nresize = \"cover\"").with("i/a.png", &png(1, 60_000, 1));
    refused(thin.split("t").unwrap().batch(0..1), "too large to be resized");
    // What a file is called does not decide what it is.
    let webp = std::fs::read("tests/fixtures/images/colour.webp").unwrap();
    assert!(read("a.jpg", &webp).is_ok());
}

/// The checksum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 }))
}

#[cfg(unix)]
#[test]
fn links_in_an_image_folder_stay_within_the_dataset() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a.png"), png(1, 1, 9)).unwrap();
    let folder = images("shape = [3, 1, 1]").with("inner.png", &png(1, 1, 7));
    std::os::unix::fs::symlink("../inner.png", folder.0.path().join("i/a.png")).unwrap();
    assert_eq!(folder.values(), [7, 7, 7]);
    std::os::unix::fs::symlink(outside.path().join("a.png"), folder.0.path().join("i/b.png")).unwrap();
    refused(folder.split("t"), "leads out of the dataset's folder");
    let folder = images("shape = [3, 1, 1]");
    std::os::unix::fs::symlink(outside.path(), folder.0.path().join("i/class")).unwrap();
    refused(folder.open(), "leads out of the dataset's folder");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn mutated_images_never_panic(
        edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..5),
        cut in proptest::option::of(proptest::prelude::any::<proptest::sample::Index>()),
    ) {
        for name in ["colour.png", "colour.jpg", "colour.webp", "colour.bmp", "colour.ppm"] {
            let mut bytes = std::fs::read(format!("tests/fixtures/images/{name}")).unwrap();
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(cut.map_or(bytes.len(), |at| at.index(bytes.len())));
            let folder = images("shape = [3, 2, 2]\nresize = \"stretch\"").with(&format!("i/{name}"), &bytes);
            if let Ok(batch) = folder.split("t").and_then(|s| s.batch(0..1)) {
                proptest::prop_assert_eq!(batch.shape(), [1, 3, 2, 2]);
            }
        }
    }
}
