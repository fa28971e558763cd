//! A model file: parsed, checked, its shapes inferred and constants folded, its layers and groups listed, its operators
//! converted and, where all is small, run.
#![no_main]

use joulefront::onnx::pb;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use protobuf::Message;

#[path = "../../tests/it/mutation/analyse.rs"]
mod analyse;
#[path = "../../tests/it/mutation/structure.rs"]
mod structure;

fuzz_target!(|bytes: &[u8]| {
    analyse::survive(bytes);
});

// Two of three changes keep the bytes readable protobuf.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = structure::Dice::new(u64::from(seed));
    let parsed = pb::ModelProto::parse_from_bytes(data.get(..size).unwrap_or_default());
    let (true, Ok(mut model)) = (dice.below(3) > 0, parsed) else { return fuzzer_mutate(data, size, max_size) };
    for _ in 0..1 + dice.below(3) {
        structure::change(&mut model, &mut dice);
    }
    match model.write_to_bytes() {
        Ok(bytes) if bytes.len() <= max_size.min(data.len()) => {
            data[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
