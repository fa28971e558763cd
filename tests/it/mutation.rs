//! Valid files, damaged in every way that bytes and structure can be: each is read or refused, without a panic and within a budget
//! of memory. The same changes in every run; chance is left to the fuzz targets.

mod analyse;
mod structure;

use crate::budget::peak;
use crate::seeds;
use analyse::survive;
use joulefront::data::Dataset;
use joulefront::onnx::{Model, pb};
use joulefront::recipe::Recipe;
use protobuf::Message;
use std::path::Path;
use structure::{Dice, change};

/// What loading and analysing a model of at most 16 KiB may take.
const MODEL_BUDGET: usize = 8 << 20;
/// What reading a few samples of a small file may take: 64 MiB is where unpacked data moves from memory to a file, and a list
/// that doubles holds as much again.
const DATA_BUDGET: usize = 160 << 20;
/// An image and what it is converted to, 128 MiB, and twice as much for the decoder: a small file may declare as much as is allowed.
const IMAGE_BUDGET: usize = 3 * (128 << 20);
/// Text of a few kilobytes.
const TEXT_BUDGET: usize = 8 << 20;

/// Bits, bytes and the places where lengths are; parts cut out, doubled, or taken from another file.
fn damage(file: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len());
        let length = dice.below(1 + (bytes.len() - at).min(64));
        match dice.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let twice = bytes[at..at + length].to_vec();
                bytes.splice(at..at, twice);
            }
            3 => {
                let from = dice.below(other.len());
                let part = &other[from..other.len().min(from + 64)];
                bytes.splice(at..at + length.min(8), part.iter().copied());
            }
            // A length field: the largest numbers that 1, 2, 4 and 8 bytes hold, in both orders, and protobuf's.
            4 => put(&mut bytes, at, &[0xFF; 8][..1 << dice.below(4)]),
            5 => put(&mut bytes, at, &dice.number().to_le_bytes()[..1 << dice.below(4)]),
            6 => put(&mut bytes, at, &dice.number().to_be_bytes()[8 - (1 << dice.below(4))..]),
            7 => put(&mut bytes, at, [&[0xFF, 0xFF, 0xFF, 0xFF, 0x07][..], &[0x80, 0x80, 0x80, 0x80, 0x10]][dice.below(2)]),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
        }
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes.iter_mut().skip(at).zip(new).for_each(|(slot, byte)| *slot = *byte);
}

/// Whether the model could be read.
#[track_caller]
fn read_model(bytes: &[u8]) -> bool {
    let (read, taken) = peak(|| survive(bytes));
    assert!(taken <= MODEL_BUDGET, "{taken} bytes for a file of {}", bytes.len());
    read
}

#[test]
fn damaged_models_are_read_or_refused_within_a_budget() {
    let (models, mut dice) = (seeds::models(), Dice::new(1));
    let mut read = 0;
    for model in &models {
        for _ in 0..6 {
            let other = dice.pick(&models).unwrap();
            read += usize::from(read_model(&damage(model, other, &mut dice)));
        }
    }
    assert!(read > models.len() / 4, "only {read} were still models: the test tests little");
}

#[test]
fn models_with_other_numbers_names_and_types_are_read_or_refused_within_a_budget() {
    let (models, mut dice) = (seeds::models(), Dice::new(2));
    let mut read = 0;
    for bytes in &models {
        let model = pb::ModelProto::parse_from_bytes(bytes).unwrap();
        for _ in 0..10 {
            let mut model = model.clone();
            (0..1 + dice.below(3)).for_each(|_| change(&mut model, &mut dice));
            read += usize::from(read_model(&model.write_to_bytes().unwrap()));
        }
    }
    assert!(read > models.len(), "only {read} were still models: the test tests little");
}

#[test]
fn external_data_stays_within_the_folder_and_the_budget() {
    const SECRET: [u8; 16] = *b"a secret outside";
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(folder.path().join("secret"), SECRET.repeat(256)).unwrap();
    std::fs::write(inner.join("d"), [7; 4096]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", inner.join("l")).unwrap();
    let places = ["../secret", "l", "d", "./d", "d/../../secret", "/etc/passwd", "", ".", "m.onnx", "\0", "d/d"];
    let (models, mut dice) = (seeds::external(), Dice::new(3));
    let mut read = 0;
    for bytes in models.iter().cycle().take(3000) {
        let mut model = pb::ModelProto::parse_from_bytes(bytes).unwrap();
        let tensors = &mut model.graph.mut_or_insert_default().initializer;
        let at = dice.below(tensors.len());
        let value = if dice.below(2) == 0 { dice.number().to_string() } else { dice.pick(&places).unwrap().to_string() };
        if let Some(tensor) = tensors.get_mut(at)
            && let Some(entry) = dice.pick(&[0, 1, 2]).and_then(|&i: &usize| tensor.external_data.get_mut(i))
        {
            entry.set_value(value);
        }
        let bytes = bytes::Bytes::from(model.write_to_bytes().unwrap());
        let (model, taken) = peak(|| Model::parse(&bytes, "mutated", Some(&inner.join("m.onnx"))));
        assert!(taken <= MODEL_BUDGET, "{taken} bytes");
        if let Ok(model) = model {
            read += 1;
            assert!(!model.external_data().iter().any(|data| data.windows(SECRET.len()).any(|w| w == SECRET)));
        }
    }
    assert!(read > 300, "only {read} were still models");
}

/// The samples, the labels and the digest of a dataset's split.
#[track_caller]
fn read_split(folder: &Path, budget: usize) -> bool {
    let (read, taken) = peak(|| {
        let Ok(data) = Dataset::open(folder) else { return false };
        let _ = data.split_digest("test");
        let Ok(split) = data.split("test") else { return false };
        split.batch(0..split.len().min(4)).is_ok()
    });
    assert!(taken <= budget, "{taken} bytes");
    read
}

fn dataset(folder: &Path, input: &str, test: &str) {
    let manifest = format!("name = \"f\"\n[input]\nname = \"x\"\n{input}\n[splits]\ntest = {{ {test} }}\n");
    std::fs::write(folder.join("dataset.toml"), manifest).unwrap();
}

#[test]
fn damaged_arrays_and_tables_are_read_or_refused_within_a_budget() {
    let floats = seeds::npy("<f4", false, "(3, 4)", &[0; 48]);
    let labels = seeds::npy("<i8", true, "(3,)", &[0; 24]);
    let members: [(&str, &[u8]); 2] = [("x", &floats), ("y", &labels)];
    let pixels = seeds::idx(0x08, &[3, 2, 2], &[9; 12]);
    let table = b"a,b,label,c,d\n1,2,0,3.5,4\n1,2,1,3e2,4\n1,2,0,-3,4\n".to_vec();
    let files = [
        ("f.npy", "x = \"f.npy\"", floats.clone()),
        ("f.npz", "x = \"f.npz#x\", y = \"f.npz#y\"", seeds::npz(&members, false)),
        ("f.npz", "x = \"f.npz#x\", y = \"f.npz#y\"", seeds::npz(&members, true)),
        ("f.idx", "x = \"f.idx\"", pixels.clone()),
        ("f.gz", "x = \"f.gz\"", seeds::gz(&pixels)),
        ("f.csv", "x = \"f.csv\", label = \"label\"", table),
    ];
    let (folder, mut dice) = (tempfile::tempdir().unwrap(), Dice::new(4));
    for (name, test, file) in &files {
        dataset(folder.path(), "shape = [1, 2, 2]\ndtype = \"float32\"\nmean = [0.5]", test);
        std::fs::write(folder.path().join(name), file).unwrap();
        assert!(read_split(folder.path(), DATA_BUDGET), "{name}");
        for _ in 0..1500 {
            std::fs::write(folder.path().join(name), damage(file, &files[dice.below(files.len())].2, &mut dice)).unwrap();
            read_split(folder.path(), DATA_BUDGET);
        }
    }
}

/// Files that are honest about being large, and small on disk.
#[test]
fn files_that_unpack_to_gigabytes_stay_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let declared = seeds::idx(0x08, &[300, 1 << 20], &vec![0; 300 << 20]);
    let input = "shape = [1048576]\ndtype = \"uint8\"";
    dataset(folder.path(), input, "x = \"f.gz\"");
    std::fs::write(folder.path().join("f.gz"), seeds::gz(&declared)).unwrap();
    drop(declared);
    assert!(read_split(folder.path(), DATA_BUDGET), "300 MiB of zeros go to a file, a few samples to memory");
    // What one number of the description could make large.
    for input in [
        "shape = [4294967296]\ndtype = \"float32\"",
        "shape = [4294967296]\ndtype = \"float32\"\nmean = [1.0]\nstd = [2.0]",
        "shape = [1, 1, 4294967296]\ndtype = \"float32\"\nlayout = \"HWC\"",
        "shape = [3, 65535, 21845]\ndtype = \"uint8\"\nresize = \"stretch\"",
        "shape = [3, 4, 4]\ndtype = \"uint8\"\nresize = 65535",
    ] {
        let test = if input.contains("resize") { "x = \"i/\"" } else { "x = \"f.idx\"" };
        dataset(folder.path(), input, test);
        std::fs::create_dir_all(folder.path().join("i/class")).unwrap();
        std::fs::write(folder.path().join("i/class/a.png"), &seeds::images()[0]).unwrap();
        std::fs::write(folder.path().join("f.idx"), seeds::idx(0x08, &[1, u32::MAX], &[0; 64])).unwrap();
        assert!(!read_split(folder.path(), DATA_BUDGET), "{input}");
    }
}

#[test]
fn damaged_images_are_read_or_refused_within_a_budget() {
    let (folder, images, mut dice) = (tempfile::tempdir().unwrap(), seeds::images(), Dice::new(5));
    std::fs::create_dir_all(folder.path().join("i/class")).unwrap();
    let file = folder.path().join("i/class/a.png");
    for input in ["shape = [3, 4, 4]\nresize = \"cover\"\norientation = \"exif\"", "shape = [4, 4, 1]\nlayout = \"HWC\"\nresize = 5"] {
        dataset(folder.path(), &format!("dtype = \"uint8\"\n{input}"), "x = \"i/\"");
        for image in &images {
            std::fs::write(&file, image).unwrap();
            assert!(read_split(folder.path(), IMAGE_BUDGET));
            for _ in 0..150 {
                std::fs::write(&file, damage(image, &images[dice.below(images.len())], &mut dice)).unwrap();
                read_split(folder.path(), IMAGE_BUDGET);
            }
        }
    }
}

#[test]
fn damaged_descriptions_recipes_and_studies_are_read_or_refused_within_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.idx"), seeds::idx(0x08, &[3, 2], b"abcdef")).unwrap();
    std::fs::write(folder.path().join("a.csv"), "p,q,label\n1,2,0\n3,4,1\n").unwrap();
    let (manifests, recipes, study, mut dice) = (seeds::manifests(), seeds::recipes(), seeds::study(), Dice::new(6));
    for _ in 0..2000 {
        let manifest = damage(dice.pick(&manifests).unwrap().as_bytes(), recipes[0].as_bytes(), &mut dice);
        std::fs::write(folder.path().join("dataset.toml"), manifest).unwrap();
        read_split(folder.path(), DATA_BUDGET);
        let recipe = damage(dice.pick(&recipes).unwrap().as_bytes(), manifests[0].as_bytes(), &mut dice);
        let ((), taken) = peak(|| drop(Recipe::from_toml(&String::from_utf8_lossy(&recipe)).map(|r| (r.options(), r.to_string()))));
        assert!(taken <= TEXT_BUDGET, "{taken} bytes for a recipe");
        let study = damage(&study, &study, &mut dice);
        let ((), taken) = peak(|| report(&String::from_utf8_lossy(&study)));
        assert!(taken <= TEXT_BUDGET, "{taken} bytes for a study");
    }
}

/// Tables and text from a header and trials, one a line.
fn report(text: &str) {
    use joulefront::report::{Report, csv, json, rows, table};
    let mut lines = text.lines();
    let Some(Ok(header)) = lines.next().map(serde_json::from_str) else { return };
    let trials = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let report = Report::new(header, Default::default(), trials);
    let rows = rows(&report.trials, &report.fronts);
    let _ = (csv(&rows), json(&report), table(&report), report.verdict());
}

/// A study's file itself: SQLite's pages, its header, its tables.
#[test]
fn damaged_study_files_are_read_or_refused() {
    use joulefront::study::{Inserted, Study, StudyHeader, Trial};
    let folder = tempfile::tempdir().unwrap();
    let (path, text) = (folder.path().join("s.study"), String::from_utf8(seeds::study()).unwrap());
    let mut lines = text.lines();
    let header: StudyHeader = serde_json::from_str(lines.next().unwrap()).unwrap();
    let study = Study::create(&path, &header).unwrap();
    for line in lines {
        let trial: Trial = serde_json::from_str(line).unwrap();
        study.insert_environment(&trial.environment, &serde_json::json!({})).unwrap();
        assert_eq!(study.insert(&trial, &trial.id.to_string()).unwrap(), Inserted::New);
    }
    drop(study);
    let (whole, mut dice, mut read) = (std::fs::read(&path).unwrap(), Dice::new(7), 0);
    let damaged = folder.path().join("d.study");
    for _ in 0..300 {
        std::fs::write(&damaged, damage(&whole, &whole, &mut dice)).unwrap();
        let (found, taken) = peak(|| Study::open_read_only(&damaged).and_then(|s| Ok((s.trials()?, s.environments()?, s.next_id()?))));
        assert!(taken <= TEXT_BUDGET, "{taken} bytes");
        read += usize::from(found.is_ok());
    }
    assert!((1..300).contains(&read), "{read} of 300 damaged studies were read");
}
