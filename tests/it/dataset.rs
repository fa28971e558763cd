//! Datasets through the binary; the shipped one bit for bit as NumPy makes the model's input of it.

use crate::support::{Judged, array, joulefront, repository, small_data, synthetic};
use joulefront::data::Dataset;
use joulefront::onnx::{Attributes, dtype_to_onnx, pb, tensor_to_proto};
use joulefront::stats::Scores;
use joulefront::tensor::{DType, Tensor};
use protobuf::Message;
use sha2::{Digest, Sha256};
use std::path::Path;

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

/// A model of two inputs: token ids [N, length] (int64) whose rows of the unit matrix are averaged, and `age` [N, 1], which adds
/// its multiple of (0, 0, 0, 0, 0, 1). So the scores are the shares of each token, the last one's plus the age.
fn tokens(length: Option<i64>) -> Vec<u8> {
    let info = |name: &str, dtype, dims: &[Option<i64>]| {
        let mut info = pb::ValueInfoProto::new();
        info.set_name(name.into());
        let tensor = info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default();
        tensor.set_elem_type(dtype_to_onnx(dtype));
        for (axis, size) in dims.iter().enumerate() {
            let mut dim = pb::tensor_shape_proto::Dimension::new();
            match size {
                Some(size) => dim.set_dim_value(*size),
                None => dim.set_dim_param(if axis == 0 { "N".into() } else { "length".into() }),
            }
            tensor.shape.mut_or_insert_default().dim.push(dim);
        }
        info
    };
    let node = |op: &str, inputs: &[&str], output: &str| {
        let mut node = pb::NodeProto::new();
        node.set_op_type(op.into());
        node.input = inputs.iter().map(|&i| i.to_owned()).collect();
        node.output.push(output.to_owned());
        node
    };
    let mut model = pb::ModelProto::new();
    model.set_ir_version(8);
    let mut import = pb::OperatorSetIdProto::new();
    import.set_version(13);
    model.opset_import.push(import);
    let graph = model.graph.mut_or_insert_default();
    graph.set_name("tokens".into());
    graph.input = vec![info("ids", DType::I64, &[None, length]), info("age", DType::F32, &[None, Some(1)])];
    graph.output = vec![info("scores", DType::F32, &[None, Some(6)])];
    let unit = (0..36).map(|i| if i / 6 == i % 6 { 1.0 } else { 0.0 }).collect();
    graph.initializer.push(tensor_to_proto("embedding", &Tensor::f32([6, 6], unit).unwrap()));
    graph.initializer.push(tensor_to_proto("weight", &Tensor::f32([1, 6], vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap()));
    let mut mean = node("ReduceMean", &["rows"], "shares");
    mean.set_ints("axes", vec![1]);
    mean.set_int("keepdims", 0);
    graph.node = vec![
        node("Gather", &["embedding", "ids"], "rows"),
        mean,
        node("MatMul", &["age", "weight"], "older"),
        node("Add", &["shares", "older"], "scores"),
    ];
    model.write_to_bytes().unwrap()
}

/// Four samples for [`tokens`], which predicts 1, 4, 5 (by age), 0; the labels are 1, 4, 2, 3.
fn token_data(folder: &Path) -> (String, String) {
    let file = |name: &str| folder.join(name);
    std::fs::write(file("model.onnx"), tokens(None)).unwrap();
    let toml = "name = \"tokens\"\n[inputs.ids]\nshape = [4]\ndtype = \"int64\"\n[inputs.age]\nshape = [1]\ndtype = \"float32\"\n[splits]\n\
                test = { x = { ids = \"t.csv#w0..w3\", age = \"t.csv#age\" }, label = \"class\" }\n\
                bare = { x = { ids = \"t.csv#w0..w3\", age = \"t.csv#age\" } }\n";
    std::fs::write(file("dataset.toml"), toml).unwrap();
    std::fs::write(file("t.csv"), "class,w0,w1,w2,w3,age\n1,1,1,1,0,0\n4,4,4,2,4,0.1\n2,2,2,2,5,0.9\n3,0,0,3,0,0\n").unwrap();
    (file("model.onnx").display().to_string(), folder.display().to_string())
}

#[test]
fn a_model_of_token_ids_and_a_number_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = token_data(folder.path());
    let eval = |more: &[&str]| joulefront(&[&["eval", &model, "--data", &data, "--quiet", "--json"][..], more].concat());
    let json = eval(&["--top-k", "2"]).json();
    assert_eq!((&json["accuracy_is"], json["accuracy"].as_f64(), json["samples"].as_u64()), (&"labels".into(), Some(0.5), Some(4)));
    // Labels 2 and 3 have the second largest score.
    let top: Vec<(u64, f64)> =
        json["top_k"].as_array().unwrap().iter().map(|t| (t["k"].as_u64().unwrap(), t["accuracy"].as_f64().unwrap())).collect();
    assert_eq!(top, [(1, 0.5), (2, 1.0)]);
    assert_eq!(json["scores_are"], "logits");
    // Classes 0 to 5: three right guesses are none for 0, 2, 3 and 5, whose F1 is 0; those of 1 and 4 are 1.
    assert!((json["macro_f1"].as_f64().unwrap() - 2.0 / 6.0).abs() < 1e-12, "{json}");
    assert_eq!(json["confusion"].as_array().unwrap().len(), 4);
    // −ln softmax of the first sample's scores (1/4, 3/4, 0, 0, 0, 0) and so on, by hand.
    let surprise = |own: f64, all: [f64; 6]| all.iter().map(|x| x.exp()).sum::<f64>().ln() - own;
    let nll = (surprise(0.75, [0.25, 0.75, 0.0, 0.0, 0.0, 0.0])
        + surprise(0.75, [0.0, 0.0, 0.25, 0.0, 0.75, 0.1])
        + surprise(0.75, [0.0, 0.0, 0.75, 0.0, 0.0, 1.15])
        + surprise(0.25, [0.75, 0.0, 0.0, 0.25, 0.0, 0.0]))
        / 4.0;
    assert!((json["negative_log_likelihood"].as_f64().unwrap() - nll).abs() < 1e-6);
    assert_eq!(eval(&["--batch", "3"]).json()["accuracy"], 0.5);

    // Without labels the accuracy is the agreement with the reference.
    eval(&["--split", "bare"]).refused(2, &["has no labels", "--reference"]);
    let json = eval(&["--split", "bare", "--reference", &model]).json();
    assert_eq!((&json["accuracy_is"], &json["accuracy"], &json["agreement"]), (&"agreement".into(), &1.0.into(), &1.0.into()));
    assert!(json["expected_calibration_error"].is_null() && json["negative_log_likelihood"].is_null());
    let text = joulefront(&["eval", &model, "--data", &data, "--split", "bare", "--reference", &model]);
    assert!(text.stdout.starts_with("model.onnx: same class as `"), "{}", text.stdout);
    let text = joulefront(&["eval", &model, "--data", &data]).stdout;
    assert!(
        text.contains("top-5 accuracy 100.00 %") && text.contains("macro F1 0.3333") && text.contains("softmax of the scores"),
        "{text}"
    );
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = token_data(folder.path());
    let toml = std::fs::read_to_string(folder.path().join("dataset.toml")).unwrap();
    let with = |from: &str, to: &str, words: &[&str]| {
        assert!(toml.contains(from));
        std::fs::write(folder.path().join("dataset.toml"), toml.replace(from, to)).unwrap();
        joulefront(&["eval", &model, "--data", &data]).refused(2, words);
    };
    with("int64", "int32", &["the input `ids` takes int64, the dataset gives int32", "dtype = \"int64\""]);
    with("shape = [1]", "shape = [2]", &["the input `age` takes samples of shape [1], the dataset gives [2]"]);
    with("shape = [4]", "shape = [2, 2]", &["the input `ids` takes samples of shape [length], the dataset gives [2, 2]"]);
    let renamed = toml.replace("age]", "years]").replace("age =", "years =");
    with(&toml, &renamed, &["the model takes the input `age`", "gives `ids`, `years`", "[inputs.age]"]);
    let message = "an index that no row has";
    std::fs::write(folder.path().join("t.csv"), "class,w0,w1,w2,w3,age\n1,1,1,1,77,0\n").unwrap();
    std::fs::write(folder.path().join("dataset.toml"), &toml).unwrap();
    let out = joulefront(&["eval", &model, "--data", &data]);
    assert_eq!(out.code, Some(2), "{message}: {}", out.stderr);
    assert!(!out.stderr.contains("77"), "samples stay out of messages: {}", out.stderr);
}

#[test]
fn models_of_several_inputs_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = token_data(folder.path());
    let fixed = folder.path().join("fixed.onnx");
    std::fs::write(&fixed, tokens(Some(4))).unwrap();
    let short = ["--processes", "2", "--window", "10ms", "--disturbance", "100%", "--quiet", "--json"];
    let rows = |args: &[&str]| {
        joulefront(&[&["bench", "--engine", "tract"][..], args, &short].concat()).json()["results"].as_array().unwrap().len()
    };
    // Made-up token ids are 0 and 1, which every embedding has.
    assert_eq!(rows(&[fixed.to_str().unwrap(), "--batch", "1,2"]), 2);
    std::fs::write(
        folder.path().join("dataset.toml"),
        std::fs::read_to_string(folder.path().join("dataset.toml")).unwrap().replace("bare", "validation"),
    )
    .unwrap();
    // The length that the file leaves open is the samples'.
    assert_eq!(rows(&[&model, "--data", &data]), 1);
}

#[test]
fn an_image_folder_gives_the_figures_of_the_array() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 80);
    let images: Vec<u8> = array(&repository("models/fashion-mnist/test.npz"), "x");
    let labels: Vec<u8> = array(&repository("models/fashion-mnist/test.npz"), "y");
    let toml = std::fs::read_to_string(data.join("dataset.toml")).unwrap();
    let names: Vec<String> = Dataset::open(&data).unwrap().classes().to_vec();
    for (i, (pixels, &label)) in images.chunks(28 * 28).zip(&labels).take(80).enumerate() {
        let class = data.join("folder").join(&names[usize::from(label)]);
        std::fs::create_dir_all(&class).unwrap();
        image::save_buffer(class.join(format!("{i}.png")), pixels, 28, 28, image::ExtendedColorType::L8).unwrap();
    }
    std::fs::write(data.join("dataset.toml"), toml + "folder = { x = \"folder/\" }\n").unwrap();
    let eval = |split: &str| {
        let data = data.to_str().unwrap();
        let mut json = joulefront(&["eval", "models/fashion-dscnn.onnx", "--data", data, "--split", split, "--json", "--quiet"]).json();
        json["split"].take();
        json
    };
    // The images come in another order, which shows in none of the figures.
    assert_eq!(eval("folder"), eval("test"));
}
