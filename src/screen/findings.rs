//! What was found, in sentences for people.

use super::Pays;
use super::form::by_layer;
use super::table::{Figures, LayerWay, Outcome, Screening, Way};
use crate::lower::Form;
use crate::measure::Compared;
use crate::stats::{Interval, Verdict};

/// What a reader should know, one sentence each: what an open batch costs, which forms pay or cost and where, what more threads and
/// larger batches do, what is wrong or refused. Only what was shown beyond the noise is said.
pub fn findings(s: &Screening) -> Vec<String> {
    let mut out = Vec::new();
    out.extend(s.ways.iter().filter(|w| w.symbolic).filter_map(open_batch));
    out.extend(s.ways.iter().filter(|w| w.is_original()).filter_map(setting));
    // Of a form that takes the model as a whole the whole says what it is worth: a layer alone pays for bringing its operands into order.
    let whole_says =
        |l: &LayerWay| !by_layer(l.form) && s.ways.iter().any(|w| w.form == l.form && w.engine == l.engine && w.figures().is_some());
    let layers: Vec<LayerWay> = s.layers.iter().filter(|l| !whole_says(l)).cloned().collect();
    out.extend(by_operator(&layers));
    out.extend(s.ways.iter().filter(|w| w.form != Form::Float).filter_map(whole));
    out.extend(s.ways.iter().filter_map(fault));
    out.extend(s.remarks.iter().cloned());
    out
}

/// `1.9× (1.7…2.1)`.
fn times(i: Interval) -> String {
    format!("{:.2}× ({:.2}…{:.2})", i.value, i.lo, i.hi)
}

fn shown(figures: &Figures) -> Option<(Compared, &'static str)> {
    let own = figures.own?;
    let differs = |c: &Compared| matches!(c.verdict, Verdict::Better | Verdict::Worse);
    own.energy.filter(differs).map(|c| (c, "joules")).or(own.latency.filter(differs).map(|c| (c, "time")))
}

fn open_batch(way: &Way) -> Option<String> {
    let (c, what) = shown(way.figures()?)?;
    let ratio = times(c.ratio);
    Some(match c.verdict {
        Verdict::Worse => {
            format!("a service that loads this model with its batch left open on {} uses {ratio} the {what}: fix it", way.engine)
        }
        _ => format!("with its batch left open this model takes {ratio} the {what} on {}", way.engine),
    })
}

fn setting(way: &Way) -> Option<String> {
    let figures = way.figures()?;
    let (c, what) = shown(figures)?;
    let time = figures.own.and_then(|o| o.latency).map_or_else(String::new, |l| format!(" and {} the time of a sample", times(l.ratio)));
    let time = if what == "time" { String::new() } else { time };
    let threads = if way.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", way.threads) };
    Some(format!("{threads} with batch {} take {} the {what}{time} on {}", way.batch, times(c.ratio), way.engine))
}

/// One sentence for each operator, form and engine: the mean over its layers.
fn by_operator(layers: &[LayerWay]) -> Vec<String> {
    let mut groups: Vec<(&str, &str, Form)> = Vec::new();
    for l in layers {
        let group = (l.engine.as_str(), l.operator.as_str(), l.form);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let sentence = |(engine, operator, form): (&str, &str, Form)| {
        let all: Vec<(f64, Compared)> = layers
            .iter()
            .filter(|l| (l.engine.as_str(), l.operator.as_str(), l.form) == (engine, operator, form))
            .filter_map(|l| match &l.outcome {
                Outcome::Measured(f) => f.own.and_then(|o| o.energy.or(o.latency)).map(|c| (l.macs_share.unwrap_or(1.0), c)),
                _ => None,
            })
            .collect();
        let mean = mean(&all)?;
        let what = format!("{} {} ({form})", kind(form), plural(operator));
        match (mean.lo > 1.0, mean.hi < 1.0) {
            (true, _) => Some(format!("{what} cost {} on {engine} on this CPU", times(mean))),
            (_, true) => Some(format!("{what} pay on {engine}: {} the joules", times(mean))),
            _ => None,
        }
    };
    groups.into_iter().filter_map(sentence).collect()
}

/// The mean of ratios, weighted by the layers' work, on the logarithms. Layers were measured in processes of their own: their errors are
/// independent.
fn mean(all: &[(f64, Compared)]) -> Option<Interval> {
    let weight: f64 = all.iter().map(|(w, _)| w).sum();
    if all.is_empty() || weight <= 0.0 {
        return None;
    }
    let of = |f: &dyn Fn(&Interval) -> f64| all.iter().map(|(w, c)| w / weight * f(&c.ratio)).sum::<f64>();
    let half = |f: &dyn Fn(&Interval) -> f64| all.iter().map(|(w, c)| (w / weight * f(&c.ratio)).powi(2)).sum::<f64>().sqrt();
    let value = of(&|r| r.value.ln());
    let (below, above) = (half(&|r| (r.value / r.lo).ln()), half(&|r| (r.hi / r.value).ln()));
    Some(Interval { value: value.exp(), lo: (value - below).exp(), hi: (value + above).exp() })
}

fn kind(form: Form) -> &'static str {
    match form {
        Form::NBits => "4-bit",
        Form::Half => "float16",
        Form::Float => "float32",
        _ => "int8",
    }
}

fn plural(operator: &str) -> &'static str {
    match operator {
        "Conv" => "convolutions",
        "Gemm" => "fully connected layers",
        _ => "matrix products",
    }
}

fn whole(way: &Way) -> Option<String> {
    let figures = way.figures()?;
    let name = format!("{} as {}", way.recipe, way.form);
    let on = format!("on {}{}", way.engine, at(way));
    let (c, what) = shown(figures)?;
    Some(match figures.pays()? {
        Pays::Saves => format!("{name} pays {on}: {} the {what} of float32", times(c.ratio)),
        Pays::Costs => format!("{name} costs {} the {what} of float32 {on}: not offered", times(c.ratio)),
        Pays::NotShown => return None,
    })
}

/// Threads and batch, where they are not 1.
fn at(way: &Way) -> String {
    match (way.threads, way.batch) {
        (1, 1) => String::new(),
        (t, b) => format!(" with {t} thread{} and batch {b}", if t == 1 { "" } else { "s" }),
    }
}

fn fault(way: &Way) -> Option<String> {
    let name = if way.recipe == super::table::ORIGINAL { "the original".to_owned() } else { way.recipe.clone() };
    let form = if way.form == Form::Float { String::new() } else { format!(" as {}", way.form) };
    match &way.outcome {
        Outcome::Measured(_) => None,
        Outcome::Refused { reason } => Some(format!("{name}{form} does not run on {}: {reason}", way.engine)),
        Outcome::Wrong { reason } => Some(format!("{name}{form} is wrong on {} and not offered: {reason}", way.engine)),
    }
}
