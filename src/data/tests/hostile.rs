//! Files that lie, are damaged, or lead elsewhere.

use super::*;
use proptest::prelude::*;

#[test]
fn paths_stay_within_the_folder() {
    for path in ["../a.npz#x", "/etc/passwd", "b/../../a.npy", "", "..", "a\\u0000.npy"] {
        refused(Folder::new(&manifest(&format!("test = {{ x = \"{path}\" }}"))).open(), "not a path within the dataset's folder");
    }
    let outside = toy("test = { x = \"a.npz#x\" }");
    let folder = Folder::new(&manifest("test = { x = \"link.npz#x\" }\nfolder = { x = \"sub\" }\nself = { x = \"inner.npz#x\" }"))
        .with("real.npz", &std::fs::read(outside.0.path().join("a.npz")).unwrap());
    std::fs::create_dir(folder.0.path().join("sub")).unwrap();
    refused(folder.split("folder"), "is a folder | an image folder is written with a slash");
    refused(folder.split("test"), "cannot read");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.0.path().join("a.npz"), folder.0.path().join("link.npz")).unwrap();
        std::os::unix::fs::symlink("real.npz", folder.0.path().join("inner.npz")).unwrap();
        refused(folder.split("test"), "`link.npz` is a link that leads out of the dataset's folder");
        assert!(folder.open().unwrap().split_digest("test").is_err());
        assert_eq!(folder.split("self").unwrap().len(), 3);
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let two =
        |x: &[u8], y: &[u8]| Folder::new(&manifest("t = { x = \"x.npy\", y = \"y.npy\" }")).with("x.npy", x).with("y.npy", y).split("t");
    let x = npy("|u1", "False", "(3, 4)", &[0; 12]);
    let y = npy("|u1", "False", "(3,)", &[0, 1, 2]);
    assert!(two(&x, &y).is_ok());
    refused(two(&npy("|u1", "False", "(3, 5)", &[0; 15]), &y), "do not have the 4 elements of `shape` [2, 2]");
    refused(two(&npy("|u1", "False", "()", &[0]), &y), "is a single number");
    refused(two(&npy("|u1", "False", "(0, 4)", &[]), &y), "there are no samples");
    refused(two(&x, &npy("|u1", "False", "(3, 1)", &[0; 3])), "labels: the array has shape [3, 1] for 3 samples");
    refused(two(&x, &npy("|u1", "False", "(2,)", &[0; 2])), "has shape [2] for 3 samples");
    refused(two(&x, &npy("|i1", "False", "(3,)", &[0, 255, 0])), "sample 1 has the label -1, which is not in 0..");
    refused(two(&x, &npy("<f4", "False", "(3,)", &[0; 12])), "class numbers are integers, these are float32");
    let nan: Vec<u8> = [0.0f32, 0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let y2 = npy("|u1", "False", "(2,)", &[0, 1]);
    let split = two(&npy("<f4", "False", "(2, 4)", &nan), &y2).unwrap();
    assert!(split.batch(0..1).is_ok(), "samples are checked when they are read");
    refused(split.batch(0..2), "sample 1 holds a value that is not a finite number");

    let named = manifest("t = { x = \"x.npy\", y = \"y.npy\" }").replace("task", "classes = [\"a\", \"b\"]\ntask");
    refused(Folder::new(&named).with("x.npy", &x).with("y.npy", &y).split("t"), "sample 2 has the label 2, which is not in 0..2");
    refused(toy("t = { x = \"a.npz#x\", range = [1, 4] }").split("t"), "`range` [1, 4] goes beyond the 3 samples");
    refused(toy("t = { x = \"a.npz#z\" }").split("t"), "there is no array `z` in the file | its arrays are `x`, `y`");
    refused(toy("t = { x = \"a.npz#x\" }").split("val"), "has no split `val` | its splits are `t`");
}

#[test]
fn damaged_and_lying_files_are_refused_without_large_allocations() {
    let limit = 1 << 20;
    let good = npy("<f4", "False", "(2, 4)", &[0; 32]);
    assert!(read_npy(&good[..], limit).is_ok());
    for length in 0..good.len() {
        assert!(read_npy(&good[..length], limit).is_err(), "cut to {length} bytes");
    }
    refused(read_npy(&[&good[..], b"more"].concat()[..], limit), "goes on after the 32 bytes");
    let lie = |descr: &str, shape: &str| read_npy(&npy(descr, "False", shape, &[0; 32])[..], limit);
    refused(lie("<f4", "(4294967296, 4294967296, 4294967296)"), "more than can be loaded");
    refused(lie("<f4", "(0, 18446744073709551615)"), "the file goes on after the 0 bytes");
    refused(lie("<f4", "(18446744073709551616,)"), "not one NumPy writes");
    refused(lie("<f4", "(300000,)"), "more than can be loaded");
    refused(lie("<f4", "(200000,)"), "ends after 32 of 800000 bytes");
    refused(lie("<f4", "(-8,)"), "not one NumPy writes");
    refused(lie("|O", "(8,)"), "Python objects, which are code");
    refused(lie("<c8", "(8,)"), "element type `<c8` is not supported | supported are bool, (u)int8");
    refused(lie("<f2", "(8,)"), "element type `<f2` is not supported");
    refused(read_npy(&b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..], limit), "too long");
    refused(read_npy(&b"\x93NUMPY\x09\x00\x10\x00"[..], limit), "version 9");
    refused(read_npy(&b"PK\x03\x04 not an array"[..], limit), "not a NumPy array");
    let fields = String::from_utf8(npy("<f4", "False", "(2,)", &[])[10..].to_vec()).unwrap().replace("'<f4'", "[('a', '<f4')]");
    let fields = [b"\x93NUMPY\x01\x00", &(fields.len() as u16).to_le_bytes()[..], fields.as_bytes()].concat();
    refused(read_npy(&fields[..], limit), "named fields");

    refused(read_idx(&idx(0x08, &[u32::MAX, u32::MAX, u32::MAX], &[])[..], limit), "more than can be loaded");
    refused(read_idx(&idx(0x07, &[1], &[0])[..], limit), "not an IDX file");
    refused(read_idx(&[0, 0, 8, 255, 0][..], limit), "cut short");
    let compressed = gz(&idx(0x08, &[1000], &[7; 1000]));
    let mut flipped = compressed.clone();
    *flipped.iter_mut().rev().nth(5).unwrap() ^= 1;
    let read_gz = |bytes: &[u8]| read_idx(flate2::read::MultiGzDecoder::new(bytes), limit);
    assert!(read_gz(&compressed).is_ok());
    refused(read_gz(&flipped), "damaged");
    refused(read_gz(&compressed[..compressed.len() - 9]), "the file");
}

#[test]
fn a_bomb_is_not_unpacked() {
    let bomb = |declared: &str, bytes: usize| npz(&[("x", npy("|u1", "False", declared, &vec![0; bytes]))]);
    let limit = 1 << 16;
    // Honest about its size; a small declared array with a long tail; a small file that claims to be large.
    refused(read_npz(&bomb("(10000000,)", 10_000_000), "x", up_to(limit)), "takes 10000");
    refused(read_npz(&bomb("(8,)", 65_600), "x", up_to(limit)), "goes on after the 8 bytes");
    refused(read_npz(&bomb("(60000,)", 8), "x", up_to(limit)), "ends after 8 of 60000 bytes");
    let gz = gz(&idx(0x08, &[50_000_000], &vec![0; 50_000_000]));
    assert!(gz.len() < 100_000);
    refused(read_idx(flate2::read::MultiGzDecoder::new(&gz[..]), limit), "more than can be loaded");
    refused(read_csv("1\n".repeat(10_000).as_bytes(), limit), "more values than can be loaded");
    refused(read_csv(std::io::repeat(b'7'), limit), "a line is too long");
}

/// A valid file of each format and a reader for it.
type Reader = fn(&[u8]) -> Result<Tensor>;
fn formats() -> [(Vec<u8>, Reader); 5] {
    let array = npy("<i2", "True", "(3, 5)", &[9; 30]);
    [
        (array.clone(), |b| read_npy(b, 1 << 16)),
        (idx(0x0B, &[3, 5], &[9; 30]), |b| read_idx(b, 1 << 16)),
        (gz(&idx(0x0B, &[3, 5], &[9; 30])), |b| read_idx(flate2::read::MultiGzDecoder::new(b), 1 << 16)),
        (npz(&[("x", array.clone()), ("y", array)]), |b| read_npz(b, "x", up_to(1 << 16))),
        (b"a,b,c\n1,2,3\n4,5,6\n".to_vec(), |b| table::samples(b, &table::Columns::All, Some("b"), false, up_to(1 << 16)).map(tensor)),
    ]
}

#[test]
fn a_table_of_nothing_but_labels_is_refused() {
    let read = |text: &str| table::samples(text.as_bytes(), &table::Columns::All, Some("b"), false, up_to(1 << 16)).map(tensor);
    refused(read("b"), "no column to read");
    refused(read("b\n1\n"), "no column to read");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        for (_, read) in formats() {
            prop_assert!(read(&bytes).is_err());
        }
        let _ = manifest::Manifest::parse(&text);
        let _ = source::Source::parse(&text);
        let header = [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
        prop_assert!(read_npy(&header[..], 1 << 16).is_err());
    }

    #[test]
    fn mutated_files_never_panic_and_never_exceed_the_limit(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (mut bytes, read) in formats() {
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(cut.map_or(bytes.len(), |at| at.index(bytes.len())));
            if let Ok(t) = read(&bytes) {
                prop_assert!(t.len() * t.dtype().size() <= 1 << 16);
            }
        }
    }

    #[test]
    fn mutated_descriptions_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..6)) {
        let mut text: Vec<char> = manifest("test = { x = \"a.npz#x\", y = \"b.gz\", range = [0, 2] }").chars().collect();
        for (at, c) in edits {
            let at = at.index(text.len());
            text[at] = c;
        }
        let _ = manifest::Manifest::parse(&text.into_iter().collect::<String>());
    }
}
