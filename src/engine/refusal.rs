//! What an engine says when it refuses a model, turned into a message that names the operator and a way out.

use crate::Error;

/// A known refusal: how to recognise it in the engine's own words, what it is about, and what to do.
struct Known {
    sign: &'static str,
    what: &'static str,
    hint: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        sign: "Unknown DatumType Int4",
        what: "it has no 4-bit integer tensors",
        hint: "store 4-bit weights as `MatMulNBits`, or use 8 bits for this engine",
    },
    Known {
        sign: "only bits=4 and bits=2",
        what: "its `MatMulNBits` has 4 and 2 bits only",
        hint: "use 4 bits, or 8 bits with `DequantizeLinear`",
    },
    Known {
        sign: "block_size",
        what: "it does not take a blocked `DequantizeLinear`",
        hint: "use one scale per tensor or per channel for this engine",
    },
    Known { sign: "does not contain a graph", what: "the file holds no graph", hint: "give a complete model file saved as ONNX" },
    Known {
        sign: "failed to decode Protobuf",
        what: "the file is damaged or no ONNX model",
        hint: "give a complete model file saved as ONNX",
    },
    Known {
        sign: "external data",
        what: "data that the model keeps in another file cannot be read",
        hint: "put that file beside the model, or save the model as one file",
    },
];

/// The error for what `engine` said (the whole chain of causes) when it refused or gave up a model.
pub(super) fn explain(engine: &str, said: &str) -> Error {
    if let Some(op) = unimplemented(said) {
        return Error::engine(format!("{engine} cannot run this model: it has no operator `{op}`"))
            .hint("use another engine or lowering for this model, or replace the operator before the export");
    }
    match KNOWN.iter().find(|k| said.contains(k.sign)) {
        Some(known) => Error::engine(format!("{engine} cannot run this model: {}", known.what)).hint(known.hint),
        None => Error::engine(format!("{engine} cannot run this model: {}", shorten(said)))
            .hint("try another engine or lowering; `inspect` lists which engines load the model"),
    }
}

/// The operator in tract's `Unimplemented(Op)`.
fn unimplemented(said: &str) -> Option<&str> {
    let rest = said.split("Unimplemented(").nth(1)?;
    let op = rest.split([')', '(', ' ']).next()?;
    (!op.is_empty()).then_some(op)
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

    #[test]
    fn refusals_name_the_operator_and_a_way_out() {
        for (said, expect) in [
            ("Translating node #3 \"y\" Unimplemented(QGemm) ToTypedTranslator", "tract cannot run this model: it has no operator `QGemm`"),
            ("Unknown DatumType Int4", "tract cannot run this model: it has no 4-bit integer tensors"),
            ("a\n  b", "tract cannot run this model: a b"),
        ] {
            let e = explain("tract", said);
            assert_eq!(e.to_string(), expect);
            assert!(e.hint_text().is_some());
        }
        assert!(explain("tract", &"é".repeat(9999)).to_string().len() < 700);
    }
}
