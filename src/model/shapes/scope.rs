//! What is known of the tensors of a graph, a subgraph or a function's body while it is walked.

use crate::model::infer::Fact;
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

/// Values are carried only for tensors this small: shapes, axes, per-channel constants, not weights.
pub(in crate::model) const MAX_FOLDED: usize = 4096;

/// Facts by tensor name. A subgraph sees what is around it, a function's body does not.
#[derive(Debug, Default)]
pub(in crate::model) struct Scope<'p> {
    pub(in crate::model) parent: Option<&'p Scope<'p>>,
    pub(in crate::model) facts: HashMap<String, Fact>,
    pub(in crate::model) values: HashMap<String, Tensor>,
    /// The first cause of every tensor that stays unknown.
    pub(in crate::model) causes: HashMap<String, Arc<str>>,
}

impl<'p> Scope<'p> {
    /// An empty scope within `parent`.
    pub(in crate::model) fn within(parent: &'p Scope<'p>) -> Self {
        Scope { parent: Some(parent), ..Scope::default() }
    }

    /// From the innermost scope that has anything to say of `name`.
    fn find(&self, name: &str) -> Option<&Scope<'p>> {
        let mut scope = self;
        while !scope.facts.contains_key(name) && !scope.causes.contains_key(name) {
            scope = scope.parent?;
        }
        Some(scope)
    }

    /// Type and dimensions of `name`.
    pub(in crate::model) fn fact(&self, name: &str) -> Option<&Fact> {
        self.find(name)?.facts.get(name)
    }

    /// The value of a small tensor that is the same for every input.
    pub(in crate::model) fn value(&self, name: &str) -> Option<&Tensor> {
        self.find(name)?.values.get(name)
    }

    /// Why `name` is not known.
    pub(in crate::model) fn cause(&self, name: &str) -> Option<&Arc<str>> {
        self.find(name)?.causes.get(name)
    }

    /// Notes that `name` is not known, because of `cause`.
    pub(in crate::model) fn give_up(&mut self, name: &str, cause: &Arc<str>) {
        self.causes.insert(name.to_owned(), cause.clone());
    }

    /// Notes a value, and with it type and dimensions.
    pub(in crate::model) fn learn(&mut self, name: &str, value: Tensor) {
        self.facts.insert(name.to_owned(), Fact { dtype: Some(value.dtype()), shape: value.shape().to_vec() });
        if value.len() <= MAX_FOLDED {
            self.values.insert(name.to_owned(), value);
        }
    }
}
