#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::array::Array;
use super::bytes::Limits;
use super::*;
use crate::tensor::{DType, Data, Tensor};
use flate2::write::GzEncoder;
use std::io::{Cursor, Write};
use tempfile::TempDir;

mod hostile;
mod images;
mod sources;

/// A dataset in a temporary folder, built file by file.
struct Folder(TempDir);

impl Folder {
    fn new(manifest: &str) -> Self {
        Folder(tempfile::tempdir().unwrap()).with(MANIFEST, manifest.as_bytes())
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    fn open(&self) -> Result<Dataset> {
        Dataset::open(self.0.path())
    }

    fn split(&self, name: &str) -> Result<Split> {
        self.open()?.split(name)
    }
}

/// Samples of shape [2, 2] in two channels, as `dataset.toml` describes them, with the given splits.
fn manifest(splits: &str) -> String {
    format!(
        "name = \"toy\"\ntask = \"classification\"\n\n[input]\nname = \"x\"\nshape = [2, 2]\ndtype = \"float32\"\n\
         scale = 0.5\nmean = [1.0, 2.0]\nstd = [2.0, 4.0]\n\n[splits]\n{splits}\n"
    )
}

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn idx(kind: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| d.to_be_bytes()).collect();
    [&[0, 0, kind, (dims.len() / 4) as u8], &dims[..], data].concat()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut z = GzEncoder::new(Vec::new(), flate2::Compression::default());
    z.write_all(bytes).unwrap();
    z.finish().unwrap()
}

/// The limits of a reader that may unpack this much and keeps all of it in memory.
fn up_to(bytes: u64) -> Limits {
    Limits { unpacked: bytes, memory: bytes }
}

fn read_npy(mut bytes: &[u8], limit: u64) -> Result<Tensor> {
    npy::header(&mut bytes)?.unpack(&mut bytes, up_to(limit)).map(tensor)
}

fn read_idx(mut reader: impl Read, limit: u64) -> Result<Tensor> {
    idx::header(&mut reader)?.unpack(&mut reader, up_to(limit)).map(tensor)
}

fn read_npz(bytes: &[u8], name: &str, limits: Limits) -> Result<Tensor> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    npz::open(file, name, limits).map(tensor)
}

fn read_csv(reader: impl Read, limit: u64) -> Result<Tensor> {
    table::samples(reader, &table::Columns::All, None, false, up_to(limit)).map(tensor)
}

/// All elements of an array.
fn tensor(array: Array) -> Tensor {
    let mut bytes = Vec::new();
    array.read(0..array.shape().first().copied().unwrap_or(1), &mut bytes).unwrap();
    let element = array.element();
    let (mut whole, mut real) = (Vec::new(), Vec::new());
    element.integers(&bytes, |v| whole.push(v));
    element.floats(&bytes, |v| real.push(v));
    let data = match element.dtype {
        DType::U8 => Data::U8(whole.iter().map(|&v| v as u8).collect()),
        DType::I8 => Data::I8(whole.iter().map(|&v| v as i8).collect()),
        DType::U16 => Data::U16(whole.iter().map(|&v| v as u16).collect()),
        DType::I16 => Data::I16(whole.iter().map(|&v| v as i16).collect()),
        DType::U32 => Data::U32(whole.iter().map(|&v| v as u32).collect()),
        DType::I32 => Data::I32(whole.iter().map(|&v| v as i32).collect()),
        DType::U64 => Data::U64(whole.iter().map(|&v| v as u64).collect()),
        DType::I64 => Data::I64(whole.iter().map(|&v| v as i64).collect()),
        DType::F32 => Data::F32(real.iter().map(|&v| v as f32).collect()),
        DType::F64 => Data::F64(real),
        DType::Bool => Data::Bool(whole.iter().map(|&v| v != 0).collect()),
        other => panic!("no reader yields {}", other.name()),
    };
    Tensor::new(array.shape().to_vec(), data).unwrap()
}

/// Three samples 0..4, 4..8, 8..12 with the labels 2, 0, 1.
fn toy(splits: &str) -> Folder {
    let x = npy("|u1", "False", "(3, 4)", &(0..12).collect::<Vec<u8>>());
    let labels: Vec<u8> = [2i64, 0, 1].iter().flat_map(|l| l.to_le_bytes()).collect();
    Folder::new(&manifest(splits)).with("a.npz", &npz(&[("x", x), ("y", npy("<i8", "False", "(3,)", &labels))]))
}

#[track_caller]
fn refused<T>(result: Result<T>, expect: &str) {
    let Err(e) = result else { panic!("accepted; expected an error with: {expect}") };
    let text = format!("{e} | {}", e.hint_text().unwrap_or(""));
    assert!(text.contains(expect), "expected `{expect}` in: {text}");
    assert_eq!(e.kind(), crate::ErrorKind::BadInput, "{text}");
}

#[test]
fn a_batch_is_scaled_per_channel_and_a_range_takes_a_part() {
    let folder = toy(
        "all = { x = \"a.npz#x\", y = \"a.npz#y\" }\nend = { x = \"a.npz#x\", y = \"a.npz#y\", range = [1, 3] }\nbare = { x = \"a.npz#x\" }",
    );
    let all = folder.split("all").unwrap();
    assert_eq!((all.len(), all.labels(), all.classes()), (3, Some(&[2, 0, 1][..]), 3));
    let batch = all.batch(1..2).unwrap();
    // (raw/2 − 1)/2 of 4 and 5; (raw/2 − 2)/4 of 6 and 7.
    assert_eq!((batch.shape(), batch.as_f32().unwrap()), (&[1, 2, 2][..], &[0.5, 0.75, 0.25, 0.375][..]));
    let end = folder.split("end").unwrap();
    assert_eq!((end.len(), end.labels()), (2, Some(&[0, 1][..])));
    assert_eq!(end.batch(0..2).unwrap(), all.batch(1..3).unwrap());
    assert_eq!(all.gather([2, 0]).unwrap().as_f32().unwrap()[..4], *all.batch(2..3).unwrap().as_f32().unwrap());
    assert_eq!(all.batch(1..1).unwrap().shape(), [0, 2, 2]);
    refused(end.batch(1..3), "there is no sample 2");
    refused(all.batch(0..usize::MAX), "there is no sample 3");
    let bare = folder.split("bare").unwrap();
    assert_eq!((bare.labels(), bare.classes()), (None, 0));
}

#[test]
fn the_shipped_dataset_opens() {
    let data = Dataset::open("models/fashion-mnist").unwrap();
    assert_eq!((data.name(), data.license(), data.classes().len()), ("fashion-mnist", Some("MIT"), 10));
    assert_eq!(data.splits().collect::<Vec<_>>(), ["calibration", "test", "train", "validation"]);
    let split = data.split("calibration").unwrap();
    assert_eq!((split.len(), split.classes(), split.labels().unwrap().len()), (512, 10, 512));
    let batch = split.batch(0..512).unwrap();
    let mean = batch.as_f32().unwrap().iter().sum::<f32>() / batch.len() as f32;
    assert!(mean.abs() < 0.1, "normalised pixels have mean {mean}");
}

#[test]
fn every_element_type_and_order_gives_the_same_samples() {
    let values: Vec<i8> = vec![0, 1, 2, 3, 4, 5, 6, 127];
    macro_rules! bytes {
        ($type:ty, $to:ident) => {
            values.iter().flat_map(|&v| (v as $type).$to()).collect::<Vec<u8>>()
        };
    }
    let expect: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    let check = |t: Result<Tensor>, dtype: DType| {
        let t = t.unwrap();
        assert_eq!((t.shape(), t.dtype()), (&[2, 4][..], dtype));
        let got: Vec<f64> = match t.data() {
            Data::U8(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I8(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I16(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::U16(v) => v.iter().map(|&x| x as f64).collect(),
            Data::U32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::U64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::F32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::F64(v) => v.clone(),
            _ => panic!("no reader yields {}", t.dtype().name()),
        };
        assert_eq!(got, expect);
    };
    let big = 1 << 20;
    for (kind, dtype, little, large, code) in [
        ("u1", DType::U8, bytes!(u8, to_le_bytes), bytes!(u8, to_be_bytes), 0x08),
        ("i1", DType::I8, bytes!(i8, to_le_bytes), bytes!(i8, to_be_bytes), 0x09),
        ("i2", DType::I16, bytes!(i16, to_le_bytes), bytes!(i16, to_be_bytes), 0x0B),
        ("i4", DType::I32, bytes!(i32, to_le_bytes), bytes!(i32, to_be_bytes), 0x0C),
        ("f4", DType::F32, bytes!(f32, to_le_bytes), bytes!(f32, to_be_bytes), 0x0D),
        ("f8", DType::F64, bytes!(f64, to_le_bytes), bytes!(f64, to_be_bytes), 0x0E),
    ] {
        check(read_npy(&npy(&format!("<{kind}"), "False", "(2, 4)", &little)[..], big), dtype);
        check(read_npy(&npy(&format!(">{kind}"), "False", "(2, 4)", &large)[..], big), dtype);
        check(read_idx(&idx(code, &[2, 4], &large)[..], big), dtype);
    }
    check(read_npy(&npy("<u2", "False", "(2, 4)", &bytes!(u16, to_le_bytes)), big), DType::U16);
    check(read_npy(&npy(">u4", "False", "(2, 4)", &bytes!(u32, to_be_bytes)), big), DType::U32);
    check(read_npy(&npy("<u8", "False", "(2, 4)", &bytes!(u64, to_le_bytes)), big), DType::U64);
    check(read_npy(&npy("<i8", "False", "(2, 4)", &bytes!(i64, to_le_bytes))[..], big), DType::I64);
    // The same array with the first index running fastest.
    let columns: Vec<u8> = [0, 4, 1, 5, 2, 6, 3, 127].to_vec();
    check(read_npy(&npy("|u1", "True", "(2, 4)", &columns)[..], big), DType::U8);
}

#[test]
fn fortran_order_of_rank_three_and_empty_arrays() {
    // numpy.arange(24).reshape(2, 3, 4), written column-major by npyz.
    let mut file = Vec::new();
    {
        use npyz::WriterBuilder;
        let options = npyz::WriteOptions::<i32>::new().default_dtype().shape(&[2, 3, 4]).order(npyz::Order::Fortran);
        let mut writer = options.writer(&mut file).begin_nd().unwrap();
        for at in 0..24 {
            let (i, j, k) = (at % 2, at / 2 % 3, at / 6);
            writer.push(&(i * 12 + j * 4 + k)).unwrap();
        }
        writer.finish().unwrap();
    }
    let t = read_npy(&file[..], 1 << 20).unwrap();
    assert_eq!((t.shape(), t.data()), (&[2, 3, 4][..], &Data::I32((0..24).collect())));
    assert!(read_npy(&npy("|u1", "True", "(0, 3)", &[])[..], 10).unwrap().is_empty());
    assert_eq!(read_npy(&npy("|u1", "False", "()", &[7])[..], 10).unwrap().data(), &Data::U8(vec![7]));
}

#[test]
fn idx_files_also_compressed_give_a_split() {
    let images = idx(0x08, &[3, 2, 2], &(0..12).collect::<Vec<u8>>());
    let labels = idx(0x08, &[3], &[2, 0, 1]);
    let folder = toy("npz = { x = \"a.npz#x\", y = \"a.npz#y\" }\nplain = { x = \"images-idx3-ubyte\", y = \"labels.idx\" }\n\
         gz = { x = \"images-idx3-ubyte.gz\", y = \"labels.gz\" }\nnpy = { x = \"x.npy\" }")
    .with("images-idx3-ubyte", &images)
    .with("labels.idx", &labels)
    .with("images-idx3-ubyte.gz", &gz(&images))
    .with("labels.gz", &gz(&labels))
    .with("x.npy", &npy("|u1", "False", "(3, 2, 2)", &(0..12).collect::<Vec<u8>>()));
    let expect = folder.split("npz").unwrap();
    for name in ["plain", "gz", "npy"] {
        let split = folder.split(name).unwrap();
        assert_eq!(split.batch(0..3).unwrap(), expect.batch(0..3).unwrap(), "{name}");
        assert!(name == "npy" || split.labels() == expect.labels());
    }
}

#[test]
fn a_table_holds_samples_and_labels() {
    let text =
        manifest("t = { x = \"t.csv\", label = \"kind\" }\nbare = { x = \"u.csv\" }").replace("task", "classes = [\"cat\", \"dog\"]\ntask");
    let table = "a,b,kind,c,d\n0,1, dog ,2,3\n4,5,0,6,7\n";
    let folder = Folder::new(&text).with("t.csv", table.as_bytes()).with("u.csv", b"a,b,c,d\r\n0,1,2,3\r\n4,5,6,7\r\n");
    let split = folder.split("t").unwrap();
    assert_eq!((split.len(), split.labels(), split.classes()), (2, Some(&[1, 0][..]), 2));
    let bare = folder.split("bare").unwrap();
    assert_eq!((bare.labels(), bare.batch(0..2).unwrap()), (None, split.batch(0..2).unwrap()));
    assert_eq!(bare.batch(1..2).unwrap().as_f32().unwrap(), [0.5, 0.75, 0.25, 0.375]);

    let with = |from: &str, to: &str| Folder::new(&text).with("t.csv", table.replace(from, to).as_bytes()).split("t");
    refused(with("kind", "sort"), "`t.csv`: there is no column `kind` | its columns are `a`, `b`, `sort`, `c`, `d`");
    refused(with("dog", "cow"), "line 2, column `kind`: this is neither a class name nor a class number");
    refused(with("dog", "2"), "labels: sample 0 has the label 2, which is not in 0..2");
    refused(with("5", "secret"), "line 3, column `b`: this is not a finite number");
    refused(with("5", ""), "line 3, column `b`");
    refused(with("5", "inf"), "line 3, column `b`");
    refused(with(",7", ""), "line 3 has 4 columns, the header has 5");
    refused(with(",d", ",d,e"), "line 2 has 5 columns, the header has 6");
    refused(Folder::new(&text).with("t.csv", b"a,kind\n1,0\n").split("t"), "do not have the 4 elements");
    refused(Folder::new(&text).with("t.csv", b"kind\n0\n").split("t"), "no column to read beside its labels");
    refused(Folder::new(&text).with("t.csv", b"").split("t"), "there is no column `kind`");
    refused(Folder::new(&text).with("t.csv", b"a,b,kind,c,d\n\xff,1,2,3,4\n").split("t"), "line 2 is not UTF-8 text");
    refused(Folder::new(&text).with("u.csv", b"a,b,c,d\n").split("bare"), "there are no samples");
}

#[test]
fn integers_are_passed_as_they_are() {
    let text = "name = \"t\"\n[input]\nname = \"ids\"\nshape = [2]\ndtype = \"DTYPE\"\n[splits]\ntest = { x = \"x.npy\" }\n";
    let values: Vec<u8> = [1i16, -2, 300, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    let folder = |dtype: &str, descr: &str| {
        Folder::new(&text.replace("DTYPE", dtype)).with("x.npy", &npy(descr, "False", "(2, 2)", &values)).split("test")
    };
    assert_eq!(folder("int64", "<i2").unwrap().batch(0..2).unwrap().as_i64().unwrap(), [1, -2, 300, 4]);
    assert_eq!(folder("int32", "<i2").unwrap().batch(1..2).unwrap().data(), &Data::I32(vec![300, 4]));
    refused(folder("uint8", "<i2").unwrap().batch(0..2), "does not fit `uint8`");
    let floats: Vec<u8> = [1.0f32; 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    let float = Folder::new(&text.replace("DTYPE", "int64")).with("x.npy", &npy("<f4", "False", "(2, 2)", &floats));
    refused(float.split("test"), "the samples are float32, but the model takes int64");
    refused(Folder::new(&text.replace("\"DTYPE\"", "\"int64\"\nscale = 0.5")).open(), "do not apply to `dtype` `int64`");
}

#[test]
fn a_description_with_a_mistake_is_refused_with_its_place() {
    let good = manifest("test = { x = \"a.npz#x\" }");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        Folder::new(&good.replace(from, to)).open()
    };
    Folder::new(&good).open().unwrap();
    refused(with("task", "tusk"), "line 2: unknown field `tusk`, expected one of `name`, `license`, `task`, `classes`");
    refused(with("scale", "scales"), "line 8: unknown field `scales`, expected one of `name`, `shape`, `dtype`");
    refused(with("{ x", "{ z = 1, x"), "unknown field `z`, expected one of `x`, `y`, `label`, `range`");
    refused(with("\"classification\"", "\"regression\""), "unknown variant `regression`, expected `classification`");
    refused(with("name = \"toy\"\n", ""), "missing field `name`");
    refused(with("[input]", "[inputs.a]"), "`[inputs.a]`: `name` is given twice");
    refused(with("x = \"a.npz#x\"", "x = { a = \"a.npz#x\" }"), "`x` has no file for the input `x`");
    refused(with("x = \"a.npz#x\"", "x = 3"), "of type integer");
    refused(with("float32", "float16"), "unknown `dtype` `float16` | known are `float32`, `uint8`");
    refused(with("mean = [1.0, 2.0]", "mean = [1.0, 2.0, 3.0]"), "`mean` has 3 numbers for 2 channels");
    refused(with("mean = [1.0, 2.0]", "mean = []"), "`mean` has 0 numbers");
    refused(with("mean = [1.0, 2.0]", "mean = [nan]"), "`mean` holds NaN");
    refused(with("std = [2.0, 4.0]", "std = [0.0]"), "`std` 0 is not positive");
    refused(with("scale = 0.5", "scale = 0"), "`scale` 0 makes every value the same");
    refused(with("shape = [2, 2]", "shape = [2, 0]"), "is not the shape of a sample");
    refused(with("shape = [2, 2]", "shape = [4611686018427387904, 8]"), "is not the shape of a sample");
    refused(with("task", "classes = []\ntask"), "`classes` is empty");
    refused(with("x = \"a.npz#x\"", "x = \"a.npz#x\", range = [2, 2]"), "`range` [2, 2] is empty");
    refused(with("x = \"a.npz#x\"", "x = \"a.npz#x\", range = [0, -1]"), "line");
    refused(with("test = { x = \"a.npz#x\" }", ""), "names no split");
    refused(with("x = \"a.npz#x\"", "x = \"a.npz#x\", label = \"y\""), "`label` names a column of a .csv file, which `x` is not");
    refused(with("x = \"a.npz#x\"", "x = \"a.csv\", label = \"y\", y = \"y.npy\""), "both `y` and `label` are given");
    refused(with("x = \"a.npz#x\"", "x = \"a.npz#x\", y = \"y.csv\""), "`y` is a .csv file");
    refused(with("a.npz#x", "a.parquet"), "not supported yet | supported are `FILE.npz#ARRAY`");
    refused(with("a.npz#x", "a.npz"), "does not say which array");
    refused(with("a.npz#x", "a.npy#x"), "only .npz and .csv files have names after `#`");
    refused(Dataset::open("models"), "`models` is not a dataset");
    refused(Dataset::open("no such folder"), "cannot read `no such folder`");
    assert!(with("std = [2.0, 4.0]\n", "").is_ok(), "std is 1 where it is not given");
}

#[test]
fn the_digest_changes_with_every_byte_that_is_used() {
    let splits = "t = { x = \"a.npz#x\" }\nu = { x = \"x.npy\" }";
    let folder = toy(splits).with("x.npy", &npy("|u1", "False", "(1, 4)", &[1, 2, 3, 4]));
    let digest = |f: &Folder, split: &str| f.open().unwrap().split_digest(split).unwrap();
    let (t, u) = (digest(&folder, "t"), digest(&folder, "u"));
    assert_eq!((t.len(), &t), (64, &digest(&folder, "t")));
    assert_ne!(t, u);
    let folder = folder.with("x.npy", &npy("|u1", "False", "(1, 4)", &[1, 2, 3, 5]));
    assert_eq!(digest(&folder, "t"), t, "a file of another split does not count");
    assert_ne!(digest(&folder, "u"), u);
    let folder = folder.with(MANIFEST, manifest(splits).replace("0.5", "0.25").as_bytes());
    assert_ne!(digest(&folder, "t"), t, "the scale counts");
}
