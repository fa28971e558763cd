//! The command that makes and measures a trial again.

use crate::study::{Configuration, StudyHeader};

/// A line for a POSIX shell: make the variant, then measure it beside the original under the same conditions.
pub fn command(header: &StudyHeader, id: u64, c: &Configuration) -> String {
    let model = quote(&header.model);
    let conditions = format!("--engine {} --threads {} --batch {}", quote(&c.engine), c.threads, c.batch);
    if c.reproduce.is_empty() {
        return format!("joulefront bench {model} {conditions}");
    }
    let variant = format!("trial-{id}.onnx");
    format!("joulefront compress {model} -o {variant} {} && joulefront bench {model} {variant} {conditions}", c.reproduce)
}

/// `text` as one word of a POSIX shell.
pub fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b':' | b'=' | b'%' | b'+' | b',');
    // A leading `-` would be read as an option whatever the quotes.
    let text = if text.starts_with('-') { format!("./{text}") } else { text.to_owned() };
    if !text.is_empty() && text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::samples::{configuration, header};

    #[test]
    fn commands() {
        let mut h = header();
        let w8 = configuration("w8a8", "--weight-bits 8 --activation-bits 8 --form qdq", "ort");
        assert_eq!(
            command(&h, 5, &w8),
            "joulefront compress fashion-resnet8.onnx -o trial-5.onnx --weight-bits 8 --activation-bits 8 --form qdq \
             && joulefront bench fashion-resnet8.onnx trial-5.onnx --engine ort --threads 1 --batch 1"
        );
        h.model = "my model's; rm -rf $HOME.onnx".into();
        assert_eq!(
            command(&h, 0, &configuration("original", "", "tract")),
            r"joulefront bench 'my model'\''s; rm -rf $HOME.onnx' --engine tract --threads 1 --batch 1"
        );
        assert_eq!(quote("-x.onnx"), "./-x.onnx");
        assert_eq!(quote(""), "''");
    }
}
