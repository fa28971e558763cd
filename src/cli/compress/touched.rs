//! What a recipe touched: which share of a model's parameters and multiply–adds lies in the layers that were changed.

use crate::Result;
use crate::cli::text;
use crate::compress::{Action, Note};
use crate::model::{Facts, Graph, layers};
use crate::onnx::Model;
use std::collections::{HashMap, HashSet};

/// The original's layers by name, each with its shares.
pub(super) struct Shares {
    by_layer: HashMap<String, Share>,
    layers: usize,
}

/// Of a model's parameters and multiply–adds, 0..1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Share {
    pub(super) params: f64,
    pub(super) macs: f64,
}

/// What was changed in all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Touched {
    pub(super) layers: usize,
    pub(super) of_layers: usize,
    pub(super) share: Share,
}

impl Shares {
    pub(super) fn of(model: &Model) -> Result<Self> {
        let facts = Facts::infer(model, 1)?;
        let list = layers(&Graph::new(model), &facts)?;
        let macs = |l: &crate::model::Layer| l.macs.as_ref().map_or(0.0, |&m| m as f64);
        let params = |l: &crate::model::Layer| l.params as f64;
        let (all_macs, all_params) = (list.iter().map(macs).sum::<f64>(), list.iter().map(params).sum::<f64>());
        let part = |a: f64, of: f64| if of > 0.0 { a / of } else { 0.0 };
        let share = |l| Share { params: part(params(l), all_params), macs: part(macs(l), all_macs) };
        Ok(Shares { by_layer: list.iter().map(|l| (l.name.clone(), share(l))).collect(), layers: list.len() })
    }

    /// The layers that a note speaks of: one, or the producers of a prune group.
    fn named<'n>(&self, note: &'n Note) -> impl Iterator<Item = (&'n str, Share)> {
        let whole = self.by_layer.get(&note.layer).map(|s| vec![(note.layer.as_str(), *s)]);
        let parts = || note.layer.split(" + ").filter_map(|name| Some((name, *self.by_layer.get(name)?))).collect();
        whole.unwrap_or_else(parts).into_iter()
    }

    /// Of what a note speaks of.
    pub(super) fn share(&self, note: &Note) -> Option<Share> {
        let mut named = self.named(note).map(|(_, s)| s).peekable();
        named.peek()?;
        Some(named.fold(Share::default(), |a, b| Share { params: a.params + b.params, macs: a.macs + b.macs }))
    }

    /// Of all layers that were changed, each counted once.
    pub(super) fn touched(&self, notes: &[Note]) -> Touched {
        let changed = notes.iter().filter(|n| n.action == Action::Changed).flat_map(|n| self.named(n).map(|(name, _)| name));
        let changed: HashSet<&str> = changed.collect();
        let of = |get: fn(&Share) -> f64| changed.iter().filter_map(|name| self.by_layer.get(*name)).map(get).sum::<f64>();
        Touched { layers: changed.len(), of_layers: self.layers, share: Share { params: of(|s| s.params), macs: of(|s| s.macs) } }
    }

    /// One line for each note: what, with the shares where a layer is named for the first time; or why not.
    pub(super) fn lines(&self, notes: &[Note]) -> String {
        let mut named = HashSet::new();
        let mut line = |n: &Note| match n.action {
            Action::Step => format!("  {}\n", n.detail),
            Action::Skipped => format!("  {}: left alone: {}\n", n.layer, n.detail),
            Action::Changed => match self.share(n).filter(|_| named.insert(n.layer.clone())) {
                Some(share) => format!("  {}: {} ({share})\n", n.layer, n.detail),
                None => format!("  {}: {}\n", n.layer, n.detail),
            },
        };
        notes.iter().map(&mut line).collect()
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the parameters, {} of the multiply–adds", text::percent(self.params), text::percent(self.macs))
    }
}

impl std::fmt::Display for Touched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "touched: {} of {} layers, {}", self.layers, self.of_layers, self.share)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn note(layer: &str, action: Action) -> Note {
        Note { layer: layer.into(), action, detail: "what".into(), error: None }
    }

    #[test]
    fn layers_are_counted_once_and_only_where_they_were_changed() {
        let shares = Shares::of(&Model::load("models/fashion-mlp.onnx").unwrap()).unwrap();
        let names: Vec<String> = shares.by_layer.keys().cloned().collect();
        let all: Vec<Note> = names.iter().chain(&names).map(|n| note(n, Action::Changed)).collect();
        let touched = shares.touched(&all);
        assert_eq!((touched.layers, touched.of_layers), (3, 3));
        assert!((touched.share.params - 1.0).abs() < 1e-9 && (touched.share.macs - 1.0).abs() < 1e-9, "{touched:?}");
        let group = note(&names[..2].join(" + "), Action::Changed);
        assert_eq!(shares.touched(&[group, note(&names[2], Action::Skipped)]).layers, 2);
        assert_eq!(shares.touched(&[note("", Action::Step)]).layers, 0);
        let lines = shares.lines(&[note(&names[0], Action::Changed), note(&names[0], Action::Changed)]);
        assert_eq!(lines.matches("of the parameters").count(), 1, "{lines}");
    }
}
