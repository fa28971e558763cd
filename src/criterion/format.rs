//! Units of energy in ASCII, for terminals and parsers.

use ::criterion::Throughput;
use ::criterion::measurement::ValueFormatter;

/// Values in nanojoules, shown from `pJ` to `J`; throughput per joule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NanojouleFormatter;

/// Upper end, factor and unit.
const UNITS: [(f64, f64, &str); 5] = [(1.0, 1e3, "pJ"), (1e3, 1.0, "nJ"), (1e6, 1e-3, "uJ"), (1e9, 1e-6, "mJ"), (f64::INFINITY, 1e-9, "J")];

impl ValueFormatter for NanojouleFormatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let (_, factor, unit) = UNITS.into_iter().find(|(end, ..)| typical < *end).unwrap_or(UNITS[4]);
        values.iter_mut().for_each(|v| *v *= factor);
        unit
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let (amount, units) = match *throughput {
            Throughput::Elements(n) | Throughput::ElementsAndBytes { elements: n, .. } => (n, ["elem/J", "Kelem/J", "Melem/J", "Gelem/J"]),
            Throughput::Bytes(n) | Throughput::BytesDecimal(n) => (n, ["B/J", "KB/J", "MB/J", "GB/J"]),
            Throughput::Bits(n) => (n, ["b/J", "Kb/J", "Mb/J", "Gb/J"]),
        };
        let per_joule = |nanojoules: f64| amount as f64 * 1e9 / nanojoules;
        let step = ((per_joule(typical).max(1.0).log10() / 3.0) as usize).min(3);
        values.iter_mut().for_each(|v| *v = per_joule(*v) / 1e3f64.powi(step as i32));
        units[step]
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "nJ"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_ascii_words_that_fit_the_value() {
        for (nanojoules, expect) in
            [(0.5, "500.00 pJ"), (12.0, "12.000 nJ"), (1.5e3, "1.5000 uJ"), (2e6, "2.0000 mJ"), (3e9, "3.0000 J"), (f64::INFINITY, "inf J")]
        {
            assert_eq!(NanojouleFormatter.format_value(nanojoules).trim(), expect);
        }
        let mut values = [1e6, 2e6];
        assert_eq!(NanojouleFormatter.scale_values(1e6, &mut values), "mJ");
        assert_eq!(values, [1.0, 2.0]);
        assert_eq!(NanojouleFormatter.scale_for_machines(&mut values), "nJ");
        // 1000 elements in 1 mJ are a million in a joule.
        let mut values = [1e6];
        assert_eq!((NanojouleFormatter.scale_throughputs(1e6, &Throughput::Elements(1000), &mut values), values[0]), ("Melem/J", 1.0));
        let mut values = [1e12];
        assert_eq!((NanojouleFormatter.scale_throughputs(1e12, &Throughput::Bytes(1), &mut values), values[0]), ("B/J", 1e-3));
    }
}
