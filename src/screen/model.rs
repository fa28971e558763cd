//! Whole models: the original on every engine × threads × batch, then each form against the float form of its engine.

use super::form::{by_layer, forms_of, forms_on, in_form};
use super::run::Session;
use super::table::{Figures, ORIGINAL, Outcome, Screening, Way};
use crate::lower::Form;
use crate::make::{Variant, make};
use crate::measure::{Measurement, Subject};
use crate::model::Graph;
use crate::onnx::Model;
use crate::recipe::Recipe;
use crate::{Error, ErrorKind, Result};

/// A quantized model.
pub(super) struct Made {
    pub(super) recipe: Recipe,
    pub(super) variant: Variant,
    pub(super) model: Model,
    /// Top classes of the probe by the reference execution; empty where accuracy is not checked.
    pub(super) classes: Vec<u32>,
}

/// Subjects to be measured, with the rows that they make and the places of those that they are compared with.
#[derive(Default)]
struct Round {
    ways: Vec<Way>,
    subjects: Vec<Subject>,
    pairs: Vec<(usize, usize)>,
}

impl Round {
    /// Adds a way; compared with the subject at `with`. Returns its place.
    fn push(&mut self, way: Way, subject: Subject, with: Option<usize>) -> usize {
        let place = self.subjects.len();
        self.ways.push(way);
        self.subjects.push(subject);
        self.pairs.extend(with.map(|with| (place, with)));
        place
    }

    /// Measures all; rows in their order.
    fn measure(self, session: &mut Session<'_, '_>, share: f64) -> Result<Vec<Way>> {
        let Round { mut ways, subjects, pairs } = self;
        let measured = session.measure(&subjects, pairs, share)?;
        ways.iter_mut().zip(measured).for_each(|(way, m)| way.outcome = outcome(m));
        Ok(ways)
    }
}

/// A measurement, or why there is none, as a row keeps it.
pub(super) fn outcome(measured: Result<Measurement>) -> Outcome {
    match measured {
        Ok(m) => Outcome::Measured(Figures::of(&m)),
        Err(e) => Outcome::Refused { reason: e.to_string() },
    }
}

fn pending() -> Outcome {
    Outcome::Refused { reason: "it was not measured".to_owned() }
}

/// The original on every engine × threads × batch, and with its batch left open.
pub(super) fn originals(session: &mut Session<'_, '_>) -> Result<Vec<Way>> {
    let target = session.target;
    let path = session.store(target.bytes)?;
    let (base, open) = (session.base(), has_open_batch(target.model));
    let way = |engine: &str, (threads, batch): (usize, usize), symbolic| Way {
        recipe: ORIGINAL.to_owned(),
        engine: engine.to_owned(),
        form: Form::Float,
        layers: None,
        threads,
        batch,
        symbolic,
        outcome: pending(),
    };
    session.stage("checking the original on each engine");
    let classes = session.classes(target.model, ORIGINAL);
    let (mut round, mut faults) = (Round::default(), Vec::new());
    for (number, engine) in target.engines.iter().enumerate() {
        let fault = session.fault((target.model, &path, Form::Float), engine, &classes)?;
        if number == 0
            && let Some(Outcome::Refused { reason }) = &fault
        {
            return Err(Error::new(ErrorKind::Engine, reason.clone()).context(format!("the original cannot be run on {engine}")));
        }
        if let Some(outcome) = fault {
            faults.push(Way { outcome, ..way(engine, base, false) });
            // The reference is what it is: what others are measured against.
            if number > 0 {
                continue;
            }
        }
        let label =
            |(threads, batch), open: bool| format!("{engine}, {threads} threads, batch {batch}{}", if open { ", open" } else { "" });
        let options = session.options(base.0, base.1);
        let first = round.push(way(engine, base, false), session.subject(label(base, false), &path, engine, options.clone())?, None);
        let settings = target.threads.iter().flat_map(|&t| target.batches.iter().map(move |&b| (t, b)));
        for setting in settings.filter(|&s| s != base) {
            let options = session.options(setting.0, setting.1);
            round.push(way(engine, setting, false), session.subject(label(setting, false), &path, engine, options)?, Some(first));
        }
        if open {
            let options = crate::engine::LoadOptions { symbolic: true, ..options };
            round.push(way(engine, base, true), session.subject(label(base, true), &path, engine, options)?, Some(first));
        }
    }
    session.stage("the original on each engine");
    let mut ways = round.measure(session, 0.4)?;
    ways.retain(|w| !faults.iter().any(|f| f.engine == w.engine));
    ways.extend(faults);
    Ok(ways)
}

/// True when the first dimension of some input has a name and no number.
fn has_open_batch(model: &Model) -> bool {
    let first = |i: &crate::onnx::pb::ValueInfoProto| i.type_.tensor_type.shape.dim.first().is_some_and(|d| !d.dim_param().is_empty());
    Graph::new(model).inputs().any(first)
}

/// The quantized models, made once each; those that cannot be made are remarks.
pub(super) fn quantized(session: &mut Session<'_, '_>) -> Result<Vec<Made>> {
    session.stage("quantizing");
    let target = session.target;
    let mut all = Vec::new();
    for recipe in std::iter::once(&Recipe::default()).chain(&target.recipes) {
        let one = || -> Result<_> {
            let variant = make(target.model, target.bytes, recipe, target.calibration)?;
            let model = Model::from_bytes(&variant.bytes, "the variant")?;
            Ok((variant, model))
        };
        match one() {
            Ok((variant, model)) => {
                let classes = session.classes(&model, &recipe.to_string());
                all.push(Made { recipe: recipe.clone(), variant, model, classes });
            }
            Err(e) => session.remarks.push(format!("{recipe} is not screened: {e}")),
        }
    }
    Ok(all)
}

/// Each form on each engine, at the reference's threads and batch and at the engine's best, beside the float form.
pub(super) fn forms(session: &mut Session<'_, '_>, made: &[Made], screening: &Screening) -> Result<Vec<Way>> {
    session.stage("checking forms on their engines");
    let target = session.target;
    let original = session.store(target.bytes)?;
    let base = session.base();
    let (mut round, mut faults) = (Round::default(), Vec::new());
    let reference = target.engines.first().cloned().unwrap_or_default();
    let float = |engine: &str, (threads, batch): (usize, usize)| Way {
        recipe: ORIGINAL.to_owned(),
        engine: engine.to_owned(),
        form: Form::Float,
        layers: None,
        threads,
        batch,
        symbolic: false,
        outcome: pending(),
    };
    let options = session.options(base.0, base.1);
    round.push(float(&reference, base), session.subject("reference".to_owned(), &original, &reference, options)?, None);
    for engine in &target.engines {
        if screening.offers(engine).is_empty() {
            continue;
        }
        let mut settings = vec![base];
        settings.extend(screening.best_setting(engine).filter(|s| *s != base));
        let mut files = Vec::new();
        for form in forms_on(engine, &target.forms).into_iter().filter(|f| *f != Form::Float) {
            let layers = match by_layer(form) {
                true => match screening.layers_for(engine, form) {
                    Some(layers) if layers.is_empty() => {
                        // Found layer by layer already: nothing to gain as a whole.
                        continue;
                    }
                    layers => layers,
                },
                false => None,
            };
            let able = made.iter().filter(|m| forms_of(&m.recipe).contains(&form));
            let written = able.map(|m| (m, in_form(&m.variant, &m.recipe, form, layers.as_deref())));
            let mut refusal = None;
            let found = written.into_iter().find_map(|(m, low)| low.map_err(|e| refusal = Some(e)).ok().map(|low| (m, low)));
            let row = |recipe: String, (threads, batch): (usize, usize), outcome| Way {
                recipe,
                form,
                layers: layers.clone(),
                outcome,
                ..float(engine, (threads, batch))
            };
            let Some((m, low)) = found else {
                session.remarks.extend(refusal.map(|e| format!("{form} is not tried on {engine}: {e}")));
                continue;
            };
            let (path, model) = (session.store(&low.bytes)?, Model::from_bytes(&low.bytes, "the variant")?);
            match session.fault((&model, &path, form), engine, &m.classes)? {
                Some(outcome) => faults.push(row(m.recipe.to_string(), base, outcome)),
                None => files.push((path, settings.iter().map(|&s| row(m.recipe.to_string(), s, pending())).collect::<Vec<_>>())),
            }
        }
        if files.is_empty() {
            continue;
        }
        for (at, &setting) in settings.iter().enumerate() {
            let label = |form: &str| format!("{engine}, {form}, {} threads, batch {}", setting.0, setting.1);
            let beside = match (*engine == reference, setting == base) {
                (true, true) => 0,
                _ => {
                    let options = session.options(setting.0, setting.1);
                    round.push(float(engine, setting), session.subject(label("float"), &original, engine, options)?, None)
                }
            };
            for (path, rows) in &files {
                let (way, options) = (rows[at].clone(), session.options(setting.0, setting.1));
                let subject = session.subject(label(way.form.name()), path, engine, options)?;
                round.push(way, subject, Some(beside));
            }
        }
    }
    session.stage("forms on their engines");
    if round.subjects.len() > 1 {
        let ways = round.measure(session, 1.0)?;
        faults.extend(ways.into_iter().filter(|w| w.form != Form::Float));
    }
    Ok(faults)
}
