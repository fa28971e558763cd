//! A made-up study for tests.

use super::Report;
use crate::study::samples::{header, trials};
use crate::study::{Outcome, Trial};

pub(crate) fn report() -> Report {
    with(trials())
}

pub(crate) fn with(trials: Vec<Trial>) -> Report {
    let environment = serde_json::json!({
        "cpu": { "model": "AMD EPYC 9R14", "cores": 2, "governor": null, "flags": ["avx2", "avx512f", "avx512_vnni"] },
        "kernel": "6.1.0",
        "virtual_machine": true,
        "build": { "rustflags": "-C target-cpu=native", "profile": "release", "opt_level": "3" },
        "engines": { "tract": "0.23.9", "rten": "0.24.0", "ort": "1.22.0" },
    });
    Report::new(header(), [("host".to_owned(), environment)].into(), trials)
}

/// What an attacker might put into a recipe, a model's name or an error of an engine.
pub(crate) const HOSTILE: &str = "</script><script>alert(1)</script>\" onload='x' & <b>µ</b> \u{202e}\u{7}";

/// A study whose every text is hostile.
pub(crate) fn hostile() -> Report {
    let mut all = trials();
    for t in &mut all {
        t.configuration.recipe = HOSTILE.into();
        t.configuration.engine = HOSTILE.into();
        t.configuration.lowering = HOSTILE.into();
        t.environment = HOSTILE.into();
        match &mut t.outcome {
            Outcome::Failed { reason } => *reason = HOSTILE.into(),
            Outcome::Done(r) => {
                r.measurement.warnings.push(HOSTILE.into());
                r.measurement.invalid_windows.push((HOSTILE.into(), 1));
                if let Some(e) = &mut r.measurement.energy {
                    e.meter = HOSTILE.into();
                    e.systematic.source = HOSTILE.into();
                }
            }
        }
    }
    let mut report = with(all);
    report.header.model = HOSTILE.into();
    report.header.dataset = HOSTILE.into();
    report.environments = [(HOSTILE.to_owned(), serde_json::json!({ HOSTILE: HOSTILE }))].into();
    report
}
