//! The shipped dataset, bit for bit as NumPy makes the model's input of it.

use crate::support::{Judged, array, repository, synthetic};
use joulefront::data::Dataset;
use joulefront::stats::Scores;
use sha2::{Digest, Sha256};

fn expected(key: &str) -> String {
    let text = std::fs::read_to_string(repository("tests/fixtures/predictions/inputs.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[key].as_str().unwrap().to_owned()
}

fn sha256(values: impl IntoIterator<Item = f32>) -> String {
    let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn test_images_equal_numpys_bit_for_bit() {
    let test = Dataset::open(repository("models/fashion-mnist")).unwrap().split("test").unwrap();
    let batches = (0..test.len()).step_by(250).map(|i| test.batch(i..i + 250).unwrap());
    assert_eq!(sha256(batches.flat_map(|b| b.as_f32().unwrap().to_vec())), expected("test_sha256"));
    let labels: Vec<u8> = array(&repository("models/fashion-mnist/test.npz"), "y");
    assert_eq!(test.labels().unwrap(), labels.into_iter().map(u32::from).collect::<Vec<_>>());
}

#[test]
fn synthetic_inputs_equal_numpys_bit_for_bit() {
    assert_eq!(sha256(synthetic()), expected("synthetic_sha256"));
}

#[test]
fn the_judges_accuracy_is_the_documented_one() {
    let data = Dataset::open(repository("models/fashion-mnist")).unwrap();
    let test = data.split("test").unwrap();
    // models/README.md, 10,000 images.
    for (name, right) in [("fashion-resnet8", 9208), ("fashion-dscnn", 9149), ("fashion-mlp", 9028), ("fashion-vit", 8808)] {
        let scores = Scores::new(&Judged::load(name).predicted, test.labels().unwrap(), data.classes()).unwrap();
        assert_eq!(scores.accuracy.value, f64::from(right) / 10_000.0, "{name}");
        assert_eq!(scores.per_class.iter().map(|c| c.samples).collect::<Vec<_>>(), [1000; 10], "{name}");
        assert_eq!(scores.per_class[9].name.as_deref(), Some("ankle boot"));
    }
}
