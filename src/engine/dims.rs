//! Every dimension of an input gets a number before an engine sees the model.

use super::LoadOptions;
use crate::{Error, Result};

/// A dimension as a file states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// A name, the same wherever the value is the same.
    Symbol(String),
    /// Nothing is said.
    Unknown,
}

/// `options` with the batch as the value of every symbol that is some input's first dimension: elsewhere it is the batch too.
pub fn with_batch<'a>(options: &LoadOptions, inputs: impl IntoIterator<Item = &'a [Dim]>) -> LoadOptions {
    let mut options = options.clone();
    for dims in inputs {
        if let Some(Dim::Symbol(symbol)) = dims.first() {
            options.dims.entry(symbol.clone()).or_insert(options.batch);
        }
    }
    options
}

/// The shapes of all inputs, names with what the file states, by [`fix`]. Figures for one sample are those of a run divided by the
/// batch, so the inputs must show that a run takes that many: by a symbolic first dimension; or, where a file fixes everything, by
/// the first dimension of each input, which for a batch of 1 that of one input shows (the others are a state, say).
///
/// # Errors
/// As [`fix`], or nothing shows the batch.
pub fn fix_all(inputs: &[(&str, &[Dim])], options: &LoadOptions) -> Result<Vec<Vec<usize>>> {
    let options = with_batch(options, inputs.iter().map(|(_, dims)| *dims));
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|(name, dims)| fix(name, dims, &options)).collect::<Result<_>>()?;
    let symbolic = inputs.iter().any(|(_, dims)| matches!(dims.first(), Some(Dim::Symbol(_))));
    let firsts: Vec<usize> = shapes.iter().filter_map(|shape| shape.first().copied()).collect();
    let shown = match options.batch {
        1 => firsts.is_empty() || firsts.contains(&1),
        batch => !firsts.is_empty() && firsts.iter().all(|&n| n == batch),
    };
    if symbolic || shown {
        return Ok(shapes);
    }
    Err(Error::bad_input(format!(
        "the inputs, with {firsts:?} as first dimensions, do not show that a run takes {} samples, so figures for one sample would be wrong",
        options.batch
    ))
    .hint("run it with the batch that the file fixes, or export the model with a symbolic batch"))
}

/// The shape of input `name` with numbers for all of `dims`: the first one is the batch, the others take the values that
/// the options give to their names, or stand in their places in a whole shape. An input whose first dimension is a number other
/// than the batch, or is not stated, is no batch if the options give its whole shape: every run takes all of it (the state of a
/// recurrent network, for instance).
///
/// ```
/// use joulefront::engine::{LoadOptions, dims::{Dim, fix}};
/// let options = LoadOptions { batch: 4, ..LoadOptions::default() };
/// let shape = fix("input", &[Dim::Symbol("N".into()), Dim::Fixed(28)], &options);
/// assert_eq!(shape.ok(), Some(vec![4, 28]));
/// ```
///
/// # Errors
/// The file fixes another batch, or a dimension has no value.
pub fn fix(name: &str, dims: &[Dim], options: &LoadOptions) -> Result<Vec<usize>> {
    let whole = options.shapes.get(name);
    let batched = matches!(dims.first(), Some(Dim::Symbol(_)));
    if let Some(&n) = whole.and_then(|shape| shape.first()).filter(|&&n| n != options.batch && batched) {
        return Err(Error::bad_input(format!("input `{name}` is given {n} samples, {} samples per run were asked for", options.batch))
            .hint(format!("run it with `--batch {n}`")));
    }
    dims.iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Fixed(n) if axis == 0 && *n != options.batch && whole.is_none() => Err(Error::bad_input(format!(
                "input `{name}` is fixed to batches of {n} in the file, {} samples per run were asked for",
                options.batch
            ))
            .hint(format!(
                "run it with batch {n}, export the model with a symbolic batch, or give the whole shape with `--shape {name}=…` if that \
                 dimension is no batch"
            ))),
            Dim::Fixed(n) => Ok(*n),
            _ if axis == 0 && whole.is_none_or(|_| batched) => Ok(options.batch),
            _ if whole.is_some_and(|shape| axis < shape.len()) => Ok(whole.map_or(0, |shape| shape[axis])),
            Dim::Symbol(symbol) => options.dims.get(symbol).copied().ok_or_else(|| unknown(name, axis, &format!("is `{symbol}`"), symbol)),
            Dim::Unknown => Err(unknown(name, axis, "is not stated", name)),
        })
        .collect()
}

/// `key` is what a value is given to: the dimension's name, or the input's.
fn unknown(name: &str, axis: usize, what: &str, key: &str) -> Error {
    Error::bad_input(format!("dimension {axis} of input `{name}` {what} and has no value"))
        .hint(format!("give it with `--shape {key}=…`, or export the model with that dimension fixed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn symbol(s: &str) -> Dim {
        Dim::Symbol(s.into())
    }

    #[test]
    fn the_batch_is_the_first_dimension_and_its_name_elsewhere() {
        let options = LoadOptions { batch: 3, dims: [("L".to_owned(), 16)].into(), ..LoadOptions::default() };
        let inputs = [vec![symbol("N"), symbol("L"), symbol("N"), Dim::Fixed(2)], vec![Dim::Unknown, symbol("N")]];
        let options = with_batch(&options, inputs.iter().map(Vec::as_slice));
        assert_eq!(fix("x", &inputs[0], &options).unwrap(), [3, 16, 3, 2]);
        assert_eq!(fix("y", &inputs[1], &options).unwrap(), [3, 3]);
        assert_eq!(fix("x", &[Dim::Unknown, Dim::Fixed(2)], &options).unwrap(), [3, 2]);
        assert_eq!(fix("scalar", &[], &options).unwrap(), Vec::<usize>::new());
        let whole = LoadOptions { shapes: [("x".to_owned(), vec![3, 6, 9])].into(), ..options };
        assert_eq!(fix("x", &[Dim::Unknown, Dim::Unknown], &whole).unwrap(), [3, 6]);
        assert_eq!(fix("x", &[symbol("N"), Dim::Fixed(2), symbol("L")], &whole).unwrap(), [3, 2, 9]);
        let one = LoadOptions { batch: 1, ..whole };
        let other = fix("x", &[symbol("N")], &one).unwrap_err().to_string();
        assert_eq!(other, "input `x` is given 3 samples, 1 samples per run were asked for");
        // No batch: the state of a recurrent network.
        assert_eq!(fix("x", &[Dim::Fixed(3), Dim::Fixed(1), symbol("H")], &one).unwrap(), [3, 1, 9]);
        assert_eq!(fix("x", &[Dim::Unknown, Dim::Unknown], &one).unwrap(), [3, 6]);
    }

    #[test]
    fn a_batch_that_no_input_shows_is_refused() {
        let fixed = |shape: &[usize]| shape.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>();
        let (sound, state, named) = (fixed(&[1, 576]), fixed(&[2, 1, 128]), vec![symbol("N"), Dim::Fixed(576)]);
        let given = |batch| LoadOptions {
            batch,
            shapes: [("sound".to_owned(), vec![1, 576]), ("state".to_owned(), vec![2, 1, 128])].into(),
            ..LoadOptions::default()
        };
        let both: [(&str, &[Dim]); 2] = [("sound", &sound), ("state", &state)];
        assert_eq!(fix_all(&both, &given(1)).unwrap(), [vec![1, 576], vec![2, 1, 128]]);
        // Neither four samples nor two: the state has two layers.
        for batch in [2, 4] {
            let refused = fix_all(&both, &given(batch)).unwrap_err().to_string();
            assert!(refused.contains(&format!("[1, 2] as first dimensions, do not show that a run takes {batch} samples")), "{refused}");
        }
        assert!(fix_all(&[("state", &state)], &given(1)).is_err());
        let open = LoadOptions { shapes: [("state".to_owned(), vec![2, 1, 128])].into(), ..given(4) };
        assert_eq!(fix_all(&[("x", &named), ("state", &state)], &open).unwrap(), [vec![4, 576], vec![2, 1, 128]]);
        assert!(fix_all(&[("scalar", &[])], &given(1)).is_ok() && fix_all(&[("scalar", &[])], &given(2)).is_err());
    }

    #[test]
    fn what_cannot_be_fixed_is_named() {
        let options = LoadOptions { batch: 3, ..LoadOptions::default() };
        for (dims, expect) in [
            (vec![Dim::Fixed(1)], "input `x` is fixed to batches of 1 in the file, 3 samples per run were asked for"),
            (vec![symbol("N"), symbol("L")], "dimension 1 of input `x` is `L` and has no value"),
            (vec![symbol("N"), Dim::Unknown], "dimension 1 of input `x` is not stated and has no value"),
        ] {
            assert_eq!(fix("x", &dims, &options).unwrap_err().to_string(), expect);
        }
    }
}
