//! What an engine says when it refuses a model, turned into a message that names the operator and a way out.

use crate::Error;

/// How engines name an operator that they do not have: what stands before its name, and one of the characters after it.
const NO_OPERATOR: &[(&str, &[char])] = &[
    // tract.
    ("Unimplemented(", &[')', '(', ' ']),
    // ONNX Runtime, for names of ONNX's own domain and of others.
    ("Error No Op registered for ", &[' ']),
    ("Fatal error: ", &['(']),
];

/// A known refusal: how to recognise it in the engine's own words, what it is about, and what to do.
struct Known {
    sign: &'static str,
    what: &'static str,
    hint: &'static str,
}

const SAVE_AGAIN: &str = "give a complete model file saved as ONNX";
const LESS_MEMORY: &str = "use a smaller batch or model, or allow it more with `--max-memory`";
const NO_INT4: &str = "it has no 4-bit integer tensors";
const INSTEAD_OF_INT4: &str = "store 4-bit weights as `MatMulNBits`, or use 8 bits for this engine";
const NO_PADDING: &str = "it takes no last block that is not full in `MatMulNBits`";
const INSTEAD_OF_PADDING: &str = "leave layers in float whose inputs are no multiple of the block (32), or use another engine";

const KNOWN: &[Known] = &[
    // tract.
    Known { sign: "Unknown DatumType Int4", what: NO_INT4, hint: INSTEAD_OF_INT4 },
    Known { sign: "Unknown DatumType Uint4", what: NO_INT4, hint: INSTEAD_OF_INT4 },
    Known {
        sign: "only bits=4 and bits=2",
        what: "its `MatMulNBits` has 4 and 2 bits only",
        hint: "use 4 bits, or 8 bits with `DequantizeLinear`",
    },
    Known { sign: "does not contain a graph", what: "the file holds no graph", hint: SAVE_AGAIN },
    Known { sign: "failed to decode Protobuf", what: "the file is damaged or no ONNX model", hint: SAVE_AGAIN },
    // rten.
    Known { sign: "unsupported data type INT4", what: NO_INT4, hint: INSTEAD_OF_INT4 },
    Known { sign: "unsupported data type UINT4", what: NO_INT4, hint: INSTEAD_OF_INT4 },
    Known {
        sign: "error in attribute \"bits\"",
        what: "its `MatMulNBits` has 4 bits only",
        hint: "use 4 bits, or 8 bits with `DequantizeLinear`",
    },
    Known { sign: "Expected 1D `scales` size", what: NO_PADDING, hint: INSTEAD_OF_PADDING },
    Known { sign: "Columns of first matrix does not match rows", what: NO_PADDING, hint: INSTEAD_OF_PADDING },
    Known {
        sign: "zero_points, g_idx and bias inputs are unsupported",
        what: "its `MatMulNBits` takes no zero points and no bias",
        hint: "quantize symmetrically and add the bias with `Add`",
    },
    // ONNX Runtime.
    Known {
        sign: "Unsupported model IR version",
        what: "the file's IR version is newer than this ONNX Runtime",
        hint: "use a newer ONNX Runtime, or save the model with an older IR version",
    },
    Known {
        sign: "official released onnx opset versions",
        what: "the file's operator set is newer than this ONNX Runtime",
        hint: "use a newer ONNX Runtime, or export the model with an older operator set",
    },
    Known { sign: "Only 2b, 4b and 8b quantization", what: "its `MatMulNBits` has 2, 4 and 8 bits only", hint: "use 4 or 8 bits" },
    Known { sign: "Protobuf parsing failed", what: "the file is damaged or no ONNX model", hint: SAVE_AGAIN },
    Known { sign: "bad_alloc", what: "it needs more memory than it may have", hint: LESS_MEMORY },
    Known { sign: "Failed to allocate memory", what: "it needs more memory than it may have", hint: LESS_MEMORY },
    // Words of several.
    Known {
        sign: "blocked quantization is not supported",
        what: "it does not take a blocked `DequantizeLinear`",
        hint: "use one scale per tensor or per channel for this engine",
    },
    Known {
        sign: "block_size",
        what: "it does not take a blocked `DequantizeLinear`",
        hint: "use one scale per tensor or per channel for this engine",
    },
    Known {
        sign: "xternal data",
        what: "data that the model keeps in another file cannot be read",
        hint: "put that file beside the model, or save the model as one file",
    },
];

/// The error for what `engine` said (the whole chain of causes) when it refused or gave up a model.
pub(super) fn explain(engine: &str, said: &str) -> Error {
    let refused = |what: &str| Error::engine(format!("{engine} cannot run this model: {what}"));
    if let Some(op) = missing_operator(said) {
        return refused(&format!("it has no operator `{op}`")).hint(match op {
            "QGemm" | "QLinearAdd" | "QLinearConv" | "QLinearMatMul" => {
                "make the quantized variant in the form of this engine (`compress --for`), or use another engine"
            }
            _ => "use another engine or lowering for this model, or replace the operator before the export",
        });
    }
    if let Some(op) = between(said, "Could not find an implementation for ", &['(']) {
        return refused(&format!("it has no operator `{op}` for these element types"))
            .hint("use float32 or another lowering for that layer, or another engine");
    }
    if let Some((op, oldest)) = old_operator(said) {
        return refused(&format!("it takes operator `{op}` from operator set {oldest} on"))
            .hint("export the model with a newer operator set, or let `compress` write it anew");
    }
    match KNOWN.iter().find(|k| said.contains(k.sign)) {
        Some(known) => refused(known.what).hint(known.hint),
        None => refused(&shorten(said)).hint("try another engine or lowering; `inspect` lists which engines load the model"),
    }
}

/// The operator that an engine says it does not have.
fn missing_operator(said: &str) -> Option<&str> {
    let named = NO_OPERATOR.iter().find_map(|(before, after)| between(said, before, after));
    // rten names it before the words.
    named.or_else(|| said.split(" operator not supported or not enabled").next().filter(|rest| rest.len() < said.len()).and_then(last_word))
}

/// The operator that the file has in an older version than rten knows, and the oldest that it knows.
fn old_operator(said: &str) -> Option<(&str, &str)> {
    let (before, after) = said.split_once(" operator uses opset version ")?;
    Some((last_word(before)?, between(after, "only version ", &[' '])?))
}

fn last_word(text: &str) -> Option<&str> {
    text.split_whitespace().last()
}

/// What stands between `before` and the next one of `after`.
fn between<'t>(said: &'t str, before: &str, after: &[char]) -> Option<&'t str> {
    let name = said.split_once(before)?.1.split(after).next()?;
    (!name.is_empty()).then_some(name)
}

/// One line of bounded length: engines print whole tensors into their errors.
fn shorten(said: &str) -> String {
    const LONGEST: usize = 300;
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the engines really say is tested with their real refusals (`tests/it/refusals.rs`); here, how it is taken apart.
    #[test]
    fn refusals_name_the_operator_and_a_way_out() {
        for (said, expect) in [
            ("Translating node #3 \"y\" Unimplemented(QGemm) ToTypedTranslator", "it has no operator `QGemm`"),
            ("in node \"c\": operator error: QLinearConv operator not supported or not enabled", "it has no operator `QLinearConv`"),
            ("Error No Op registered for Swish with domain_version of 21", "it has no operator `Swish`"),
            ("Fatal error: com.example:Swish(-1) is not a registered function/op", "it has no operator `com.example:Swish`"),
            ("Could not find an implementation for Max(20) node with name ''", "it has no operator `Max` for these element types"),
            (
                "Pad operator uses opset version 2 but only version 11 and later are supported",
                "it takes operator `Pad` from operator set 11 on",
            ),
            ("Unknown DatumType Int4", "it has no 4-bit integer tensors"),
            ("a\n  b", "a b"),
        ] {
            let e = explain("tract", said);
            assert_eq!(e.to_string(), format!("tract cannot run this model: {expect}"));
            assert!(e.hint_text().is_some());
        }
        assert!(explain("tract", &"é".repeat(9999)).to_string().len() < 700);
        assert!(explain("tract", "Unimplemented(").to_string().ends_with("Unimplemented("));
    }
}
