//! Several inputs, columns, and the same samples from every format, also from files that are larger than the memory.

use super::*;
use proptest::prelude::*;

const TWO: &str = "name = \"two\"\n[inputs.ids]\nshape = [3]\ndtype = \"int64\"\n[inputs.age]\nshape = [1]\ndtype = \"float32\"\nmean = [40]\n\
                   [splits]\n";

#[test]
fn several_inputs_come_by_name_in_any_order() {
    let ids: Vec<u8> = [1i32, 2, 3, 4, 5, 6].iter().flat_map(|v| v.to_le_bytes()).collect();
    let folder = Folder::new(&format!(
        "{TWO}t = {{ x = {{ ids = \"ids.npy\", age = \"t.csv#age\" }}, y = \"t.csv#kind\" }}\nu = {{ x = {{ ids = \"ids.npy\", age = \"short.csv\" }} }}"
    ))
    .with("ids.npy", &npy("<i4", "False", "(2, 3)", &ids))
    .with("t.csv", b"kind,age,a\n1,30,7\n0,41.5,8\n")
    .with("short.csv", b"age\n1\n");
    let data = folder.open().unwrap();
    assert_eq!(data.inputs().iter().map(Input::name).collect::<Vec<_>>(), ["age", "ids"]);
    let split = data.split("t").unwrap();
    assert_eq!(split.labels(), Some(&[1, 0][..]));
    let batches = split.batches(&["ids", "age"], 0..2).unwrap();
    assert_eq!((batches[0].shape(), batches[0].data()), (&[2, 3][..], &Data::I64((1..=6).collect())));
    assert_eq!((batches[1].shape(), batches[1].as_f32().unwrap()), (&[2, 1][..], &[-10.0, 1.5][..]));
    assert_eq!(split.batches(&["age"], [1, 0]).unwrap()[0].as_f32().unwrap(), [1.5, -10.0]);
    refused(split.batches(&["sex"], 0..1), "the dataset has no input `sex`");
    refused(split.batch(0..1), "has 2 inputs where one is expected");
    refused(data.input(), "dataset `two` has 2 inputs");
    refused(data.split("u"), "input `ids`: it has 2 samples, the first input has 1");
    assert_ne!(data.split_digest("t").unwrap(), data.split_digest("u").unwrap());
}

#[test]
fn sources_must_be_those_of_the_inputs() {
    let with = |splits: &str| Folder::new(&format!("{TWO}{splits}")).open();
    refused(with("t = { x = \"a.npy\" }"), "`x` is one file, but there are several inputs");
    refused(with("t = { x = { ids = \"a.npy\" } }"), "`x` has no file for the input `age`");
    refused(with("t = { x = { ids = \"a.npy\", age = \"b.npy\", sex = \"c.npy\" } }"), "`x` has a file for `sex`, which is no input");
    refused(with("t = { x = { ids = 3, age = \"b.npy\" } }"), "of type integer");
    refused(with("t = { x = { ids = \"a.csv\", age = \"b.csv\" }, label = \"kind\" }"), "`label` is ambiguous");
    assert!(with("t = { x = { ids = \"a.csv#a..c\", age = \"a.csv#d\" }, label = \"kind\" }").is_ok());
    let both =
        format!("{TWO}t = {{ x = {{ ids = \"a.npy\", age = \"b.npy\" }} }}\n[input]\nname = \"x\"\nshape = [1]\ndtype = \"float32\"");
    refused(Folder::new(&both).open(), "both `[input]` and `[inputs.NAME]`");
    let named = TWO.replace("[inputs.ids]", "[inputs.ids]\nname = \"ids\"");
    refused(Folder::new(&(named + "t = { x = { ids = \"a.npy\", age = \"b.npy\" } }")).open(), "`[inputs.ids]`: `name` is given twice");
}

#[test]
fn columns_are_taken_in_the_order_in_which_they_are_named() {
    let text = |x: &str, more: &str| {
        format!("name = \"t\"\n[input]\nname = \"x\"\nshape = [3]\ndtype = \"int64\"\n[splits]\nt = {{ x = \"{x}\"{more} }}\n")
    };
    let table = b"a,b,c,kind\n1,2,3,0\n4,5,6,1\n";
    let values = |x: &str, more: &str| {
        let split = Folder::new(&text(x, more)).with("t.csv", table).split("t")?;
        Ok(split.batch(0..2)?.as_i64()?.to_vec())
    };
    assert_eq!(values("t.csv#c,a..b", "").unwrap(), [3, 1, 2, 6, 4, 5]);
    assert_eq!(values("t.csv#b..kind", "").unwrap(), [2, 3, 0, 5, 6, 1]);
    assert_eq!(values("t.csv", ", label = \"kind\"").unwrap(), [1, 2, 3, 4, 5, 6]);
    // Labels in the same table never become samples by themselves.
    assert_eq!(values("t.csv", ", y = \"t.csv#kind\"").unwrap(), [1, 2, 3, 4, 5, 6]);
    refused(values("t.csv#a..z", ""), "there is no column `z` | its columns are `a`, `b`");
    refused(values("t.csv#c..a", ""), "column `c` does not come before `a`");
    refused(values("t.csv#a..c,a..c", ""), "more columns are named than there are");
    refused(values("t.csv#a,b", ""), "do not have the 3 elements");
    refused(values("t.csv#a..c", ", y = \"t.csv\""), "name the column that holds the labels");
    let half = Folder::new(&text("t.csv", "")).with("t.csv", b"a,b,c\n1,2,0.5\n");
    refused(half.split("t"), "line 2, column `c`: this is not an integer");
}

#[test]
fn bool_and_unsigned_inputs_take_what_fits() {
    let read = |dtype: &str, descr: &str, bytes: &[u8]| {
        let text = format!("name = \"t\"\n[input]\nname = \"x\"\nshape = []\ndtype = \"{dtype}\"\n[splits]\nt = {{ x = \"x.npy\" }}\n");
        Folder::new(&text).with("x.npy", &npy(descr, "False", "(2,)", bytes)).split("t")?.batch(0..2)
    };
    assert_eq!(read("bool", "|b1", &[1, 0]).unwrap().data(), &Data::Bool(vec![true, false]));
    assert_eq!(read("bool", "|i1", &[0, 1]).unwrap().data(), &Data::Bool(vec![false, true]));
    refused(read("bool", "|u1", &[0, 2]), "sample 1 holds a value that does not fit `bool`");
    assert_eq!(read("uint16", "<u2", &[0xff, 0xff, 1, 0]).unwrap().data(), &Data::U16(vec![65_535, 1]));
    assert_eq!(read("uint64", "<u8", &[0xff; 16]).unwrap().data(), &Data::U64(vec![u64::MAX; 2]));
    refused(read("int64", "<u8", &[0xff; 16]), "sample 0 holds a value that does not fit `int64`");
    refused(read("uint8", "|i1", &[0, 0xff]), "sample 1 holds a value that does not fit `uint8`");
}

#[test]
fn a_file_larger_than_the_memory_is_not_read_whole() {
    // 8 GiB of zeros that take no space, and at their end one sample of ones.
    let text = "name = \"t\"\n[input]\nname = \"x\"\nshape = [1024]\ndtype = \"float32\"\n\
                [splits]\nt = { x = \"x.npy\", range = [8388600, 8388608] }\nall = { x = \"x.npy\", y = \"y.npy\" }\n";
    let folder = Folder::new(text).with("x.npy", &npy("|u1", "False", "(8388608, 1024)", &[]));
    let mut file = std::fs::OpenOptions::new().append(true).open(folder.0.path().join("x.npy")).unwrap();
    let header = file.metadata().unwrap().len();
    file.set_len(header + (8 << 30) - 1024).unwrap();
    file.write_all(&[1; 1024]).unwrap();
    let split = folder.split("t").unwrap();
    assert_eq!(split.len(), 8);
    let batch = split.batch(6..8).unwrap();
    let (zeros, ones) = batch.as_f32().unwrap().split_at(1024);
    assert!(zeros.iter().all(|&v| v == 0.0) && ones.iter().all(|&v| v == 1.0));
    // All of them, without labels for as many.
    let folder = folder.with("y.npy", &npy("|u1", "False", "(2,)", &[0, 1]));
    refused(folder.split("all"), "labels: the array has shape [2] for 8388608 samples");
    // A byte less than was declared, or more.
    let file = std::fs::OpenOptions::new().write(true).open(folder.0.path().join("x.npy")).unwrap();
    file.set_len(header + (8 << 30) - 1).unwrap();
    refused(folder.split("t"), "the file ends after 8589934591 of 8589934592 bytes");
    file.set_len(header + (8 << 30) + 1).unwrap();
    refused(folder.split("t"), "the file goes on after the 8589934592 bytes");
}

#[test]
fn a_long_stored_member_stays_in_the_archive_and_a_long_unpacked_one_goes_to_a_file() {
    let values: Vec<u8> = (0..200).collect();
    let member = npy("|u1", "False", "(20, 10)", &values);
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["w.npy", "x.npy"] {
            zip.start_file(name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(&member).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        for memory in [10, 1 << 20] {
            let t = read_npz(&bytes, "x", Limits { unpacked: 1 << 20, memory }).unwrap();
            assert_eq!((t.shape(), t.data()), (&[20, 10][..], &Data::U8(values.clone())), "{method:?} {memory}");
        }
    }
}

/// The same samples [n, 2, 2, 3 channels last] as one split of each format.
fn in_every_format(values: &[u8], count: usize) -> Folder {
    let names = ["npy", "fortran", "npz", "idx", "gz", "csv", "images"];
    let sources = ["x.npy", "f.npy", "x.npz#x", "x.idx", "x.gz", "x.csv", "i/"];
    let splits: String = names
        .iter()
        .zip(sources)
        .map(|(n, s)| format!("{n} = {{ x = \"{s}\" }}\nend_{n} = {{ x = \"{s}\", range = [1, {count}] }}\n"))
        .collect();
    let text = format!(
        "name = \"t\"\n[input]\nname = \"x\"\nshape = [2, 2, 3]\nlayout = \"HWC\"\ndtype = \"float32\"\nscale = 0.1\nmean = [1, 2, 3]\n[splits]\n{splits}"
    );
    let dims = [count as u32, 2, 2, 3];
    let mut fortran = vec![0; values.len()];
    for (at, &v) in values.iter().enumerate() {
        let (n, h, w, c) = (at / 12, at / 6 % 2, at / 3 % 2, at % 3);
        fortran[n + count * (h + 2 * (w + 2 * c))] = v;
    }
    let rows: String = values.chunks(12).map(|r| r.iter().map(u8::to_string).collect::<Vec<_>>().join(",") + "\n").collect();
    let shape = format!("({count}, 2, 2, 3)");
    let folder = Folder::new(&text)
        .with("x.npy", &npy("|u1", "False", &shape, values))
        .with("f.npy", &npy("|u1", "True", &shape, &fortran))
        .with("x.npz", &npz(&[("x", npy("|u1", "False", &shape, values))]))
        .with("x.idx", &idx(0x08, &dims, values))
        .with("x.gz", &gz(&idx(0x08, &dims, values)))
        .with("x.csv", format!("a,b,c,d,e,f,g,h,i,j,k,l\n{rows}").as_bytes());
    std::fs::create_dir(folder.0.path().join("i")).unwrap();
    values.chunks(12).enumerate().fold(folder, |folder, (i, pixels)| {
        let path = folder.0.path().join(format!("i/{i:03}.png"));
        image::save_buffer(path, pixels, 2, 2, image::ExtendedColorType::Rgb8).unwrap();
        folder
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_format_gives_the_same_batches(
        samples in prop::collection::vec(any::<[u8; 12]>(), 2..9),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let count = samples.len();
        let data = in_every_format(&samples.concat(), count).open_kept();
        let expect = |at: usize| -> Vec<f32> {
            samples[at].iter().enumerate().map(|(i, &v)| (f64::from(v) * 0.1 - [1.0, 2.0, 3.0][i % 3]) as f32).collect()
        };
        let picks: Vec<usize> = picks.iter().map(|i| i.index(count)).collect();
        let picked: Vec<f32> = picks.iter().flat_map(|&i| expect(i)).collect();
        for name in ["npy", "fortran", "npz", "idx", "gz", "csv", "images"] {
            let split = data.1.split(name).unwrap();
            prop_assert_eq!(split.len(), count);
            let (batch, gathered) = (split.batch(0..count).unwrap(), split.gather(picks.clone()).unwrap());
            prop_assert_eq!(batch.as_f32().unwrap(), (0..count).flat_map(expect).collect::<Vec<_>>(), "{}", name);
            prop_assert_eq!(gathered.as_f32().unwrap(), &picked[..], "{}", name);
            let end = data.1.split(&format!("end_{name}")).unwrap();
            prop_assert_eq!(end.batch(0..count - 1).unwrap(), split.batch(1..count).unwrap(), "{}", name);
        }
    }
}

impl Folder {
    /// The dataset with the folder that has to live as long.
    fn open_kept(self) -> (TempDir, Dataset) {
        let data = self.open().unwrap();
        (self.0, data)
    }
}
