//! Samples without labels, for calibration.

use super::Dataset;
use crate::tensor::Tensor;
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

impl Dataset {
    /// `count` samples of the split `calibration`, filled up from `train` where it has fewer; with a seed they are drawn at random
    /// from both. No labels are read. Fewer come when there are no more.
    ///
    /// ```
    /// # fn main() -> joulefront::Result<()> {
    /// let data = joulefront::data::Dataset::open("models/fashion-mnist")?;
    /// assert_eq!(data.calibration(2000, None)?.shape(), [2000, 1, 28, 28]);
    /// assert_eq!(data.calibration(64, Some(3))?, data.calibration(64, Some(3))?);
    /// assert_ne!(data.calibration(64, Some(3))?, data.calibration(64, Some(4))?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// There is no split `calibration`, it cannot be read, or its values are not float32.
    pub fn calibration(&self, count: usize, seed: Option<u64>) -> Result<Tensor> {
        let parts = self.calibration_parts(count, seed, usize::MAX)?.collect::<Result<Vec<Tensor>>>()?;
        let sample = parts.first().map(|p| p.shape()[1..].to_vec());
        let sample = sample.ok_or_else(|| Error::bad_input("the calibration split is empty"))?;
        let samples: usize = parts.iter().map(|p| p.shape()[0]).sum();
        Tensor::f32([&[samples], &sample[..]].concat(), parts.iter().map(Tensor::as_f32).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The same samples in parts of `portion` at most, each read when it is asked for.
    ///
    /// # Errors
    /// As [`Dataset::calibration`].
    pub fn calibration_parts(&self, count: usize, seed: Option<u64>, portion: usize) -> Result<impl Iterator<Item = Result<Tensor>>> {
        let calibration = self.split("calibration")?;
        let own = calibration.len();
        let more = (seed.is_some() || count > own) && self.splits().any(|s| s == "train");
        let train = if more { Some(self.split("train")?) } else { None };
        let mut order: Vec<usize> = (0..own + train.as_ref().map_or(0, |t| t.len())).collect();
        if let Some(seed) = seed {
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        }
        order.truncate(count);
        let (first, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|&i| i < own);
        let parts = |samples: Vec<usize>| samples.chunks(portion.max(1)).map(<[usize]>::to_vec).collect::<Vec<_>>();
        let rest = parts(rest.into_iter().map(|i| i - own).collect());
        let first = parts(first).into_iter().map(move |part| calibration.gather(part));
        Ok(first.chain(train.into_iter().flat_map(move |t| rest.clone().into_iter().map(move |part| t.gather(part)))))
    }
}
