//! Small valid files of every kind that the program reads: what mutation starts from, here and in the fuzz targets.

use crate::support::repository;
use crate::zoo::creatures;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use joulefront::onnx::{Model, pb};
use protobuf::Message;
use serde_json::Value;
use std::io::{BufRead, BufReader, Cursor, Write};

/// The fuzz targets (`fuzz/fuzz_targets`), each with what it starts from.
pub(crate) fn seeds() -> [(&'static str, Vec<Vec<u8>>); 8] {
    let texts = |texts: &[String]| texts.iter().map(|t| t.clone().into_bytes()).collect();
    [
        ("model", models()),
        ("external", external()),
        ("dataset", arrays().into_iter().map(|(format, kind, file)| [&[format, kind], &file[..]].concat()).collect()),
        ("images", (0..6).flat_map(|way| images().into_iter().map(move |file| [&[way], &file[..]].concat())).collect()),
        ("manifest", texts(&manifests())),
        ("recipe", texts(&recipes())),
        ("study", vec![study()]),
        ("runner", texts(&replies())),
    ]
}

/// Larger ones would make mutations rare and slow.
const LARGEST_MODEL: usize = 1 << 14;

/// The zoo, and ONNX's own node tests with their inputs as constants, so that they can be worked out.
pub(crate) fn models() -> Vec<Vec<u8>> {
    let zoo = creatures().into_iter().map(|c| c.bytes);
    let file = std::fs::File::open(repository("tests/fixtures/nodes.jsonl.gz")).unwrap();
    let nodes = BufReader::new(GzDecoder::new(file)).lines().skip(1).map(|line| {
        let case: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let mut model = pb::ModelProto::parse_from_bytes(&hex(&case["model"])).unwrap();
        let graph = model.graph.mut_or_insert_default();
        let names: Vec<String> = graph.input.iter().map(|i| i.name().to_owned()).collect();
        for (name, value) in names.into_iter().zip(case["inputs"].as_array().unwrap()) {
            // Sequences and optional values are no tensors.
            if let Ok(mut tensor) = pb::TensorProto::parse_from_bytes(&hex(value)) {
                tensor.set_name(name);
                graph.initializer.push(tensor);
            }
        }
        model.write_to_bytes().unwrap()
    });
    zoo.chain(nodes).filter(|bytes| bytes.len() <= LARGEST_MODEL).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or("").as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Models of the zoo whose constants lie in a file `d` of 4096 bytes.
pub(crate) fn external() -> Vec<Vec<u8>> {
    let moved = |bytes: Vec<u8>| {
        let mut model = pb::ModelProto::parse_from_bytes(&bytes).unwrap();
        let mut offset = 0;
        for tensor in &mut model.graph.mut_or_insert_default().initializer {
            let length = tensor.raw_data().len();
            if length == 0 || offset + length > 4096 {
                continue;
            }
            tensor.raw_data = None;
            tensor.set_data_location(1);
            for (key, value) in [("location", "d".to_owned()), ("offset", offset.to_string()), ("length", length.to_string())] {
                let mut entry = pb::StringStringEntryProto::new();
                entry.set_key(key.into());
                entry.set_value(value);
                tensor.external_data.push(entry);
            }
            offset += length;
        }
        model.write_to_bytes().unwrap()
    };
    creatures().into_iter().filter(|c| c.bytes.len() <= LARGEST_MODEL / 4).map(|c| moved(c.bytes)).collect()
}

/// Arrays and tables for samples of shape [2] and [1, 2, 2]: the format and the kind as `fuzz_targets/dataset.rs` numbers them.
fn arrays() -> Vec<(u8, u8, Vec<u8>)> {
    let floats = npy("<f4", false, "(3, 2)", &[0; 24]);
    let pixels = npy("|u1", true, "(3, 4)", &[7; 12]);
    let numbers = npy(">i8", false, "(3,)", &[0; 24]);
    vec![
        (0, 0, floats.clone()),
        (0, 1, pixels.clone()),
        (7, 32, numbers.clone()),
        (1, 0, npz(&[("x", &floats), ("y", &numbers)], true)),
        (2, 1, npz(&[("x", &pixels), ("y", &numbers)], false)),
        (3, 0, idx(0x0D, &[3, 2], &[0; 24])),
        (3, 9, idx(0x08, &[3, 2, 2], &[9; 12])),
        (4, 0, gz(&idx(0x08, &[3, 2], &[9; 6]))),
        (5, 4, b"a,b\n1,2\n3,4\n5,6\n".to_vec()),
        (6, 0, b"a,label,b\n1,0,2.5\n3,1,-4e3\n\"5\",0,6\n".to_vec()),
    ]
}

pub(crate) fn npy(kind: &str, columns_first: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if columns_first { "True" } else { "False" };
    let header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

pub(crate) fn npz(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(crate) fn idx(kind: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| d.to_be_bytes()).collect();
    [&[0, 0, kind, (dims.len() / 4) as u8], &dims[..], data].concat()
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One image of each format.
pub(crate) fn images() -> Vec<Vec<u8>> {
    let folder = repository("tests/fixtures/images");
    let mut files: Vec<_> =
        folder.read_dir().unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e != "json")).collect();
    files.sort();
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

/// Descriptions for a folder with `a.idx`, bytes [3, 2], and `a.csv`.
pub(crate) fn manifests() -> Vec<String> {
    let input = "name = \"x\"\nshape = [2]\ndtype = \"float32\"\nscale = 0.5\nmean = [1.0, 2.0]\nstd = [2.0]\n";
    vec![
        format!("name = \"a\"\nlicense = \"MIT\"\ntask = \"classification\"\nclasses = [\"p\", \"q\"]\n[input]\n{input}[splits]\ntest = {{ x = \"a.idx\", range = [0, 2] }}\n"),
        "name = \"b\"\n[inputs.i]\nshape = [2]\ndtype = \"int64\"\n[inputs.m]\nshape = [2]\ndtype = \"bool\"\n[splits]\ntest = { x = { i = \"a.csv#p,q\", m = \"a.idx\" }, y = \"a.csv#label\" }\n".to_owned(),
        format!("name = \"c\"\n[input]\n{input}layout = \"HWC\"\n[splits.test]\nx = \"a.csv\"\nlabel = \"label\"\n"),
        std::fs::read_to_string(repository("models/fashion-mnist/dataset.toml")).unwrap(),
    ]
}

/// The recipe that docs/RECIPES.md shows, and the other steps.
pub(crate) fn recipes() -> Vec<String> {
    let text = std::fs::read_to_string(repository("docs/RECIPES.md")).unwrap();
    let shown = text.split("```toml\n").skip(1).map(|t| t.split("```").next().unwrap().to_owned());
    let more = "[[step]]\ndo = \"prune_channels\"\nchannels = 0.25\nround_to = 4\n[[step]]\ndo = \"prune_connections\"\nshare = 0.5\ndistribution = \"per_layer\"\n";
    shown.chain([more.to_owned()]).collect()
}

/// A header and three trials, one a line: the reference, a variant, and one that failed.
pub(crate) fn study() -> Vec<u8> {
    std::fs::read(repository("tests/fixtures/study.jsonl")).unwrap()
}

/// What a child says in its life.
pub(crate) fn replies() -> Vec<String> {
    let spec = "{\"name\":\"x\",\"dtype\":\"float32\",\"shape\":[1,2]}";
    let loaded = format!(
        "{{\"answer\":\"loaded\",\"inputs\":[{spec}],\"outputs\":[{spec}],\"before\":{{\"peak\":1,\"now\":1}},\"load_ns\":1}}\n{{\"answer\":\"prepared\",\"slots\":1}}\n"
    );
    let more = "{\"answer\":\"ran\",\"wall_ns\":7,\"cpu_ns\":6}\n{\"answer\":\"latencies\",\"payload\":8}\n12345678{\"answer\":\"memory\",\"memory\":{\"peak\":1,\"now\":1}}\n";
    let failed = "{\"answer\":\"failed\",\"kind\":\"bad_input\",\"message\":\"m\",\"hint\":null}\n";
    vec![format!("{loaded}{{\"answer\":\"inferred\",\"payload\":8}}\n12345678"), more.to_owned(), failed.to_owned()]
}

/// Seeds are what they say: nothing here is refused before mutation begins. With `JOULEFRONT_FUZZ_CORPUS=FOLDER` they are written
/// there as well, a folder for each fuzz target.
#[test]
fn seeds_are_valid() {
    let seeds = seeds();
    if let Some(folder) = std::env::var_os("JOULEFRONT_FUZZ_CORPUS") {
        for (target, files) in &seeds {
            let folder = std::path::Path::new(&folder).join(target);
            std::fs::create_dir_all(&folder).unwrap();
            files.iter().enumerate().for_each(|(i, bytes)| std::fs::write(folder.join(format!("seed-{i}")), bytes).unwrap());
        }
    }
    let [_, (_, external), _, _, (_, manifests), (_, recipes), ..] = &seeds;
    let refused: Vec<String> = models().iter().filter_map(|m| Model::from_bytes(m, "seed").err()).map(|e| e.to_string()).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(external.iter().any(|m| Model::from_bytes(m, "seed").unwrap().has_external_data()));
    for text in recipes {
        joulefront::recipe::Recipe::from_toml(std::str::from_utf8(text).unwrap()).unwrap();
    }
    assert!(manifests.len() > 3);
    let text = String::from_utf8(study()).unwrap();
    let mut lines = text.lines();
    serde_json::from_str::<joulefront::study::StudyHeader>(lines.next().unwrap()).unwrap();
    let trials: Vec<joulefront::study::Trial> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(trials.len(), 3);
}
