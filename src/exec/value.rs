//! What goes along the edges of a graph: tensors, lists of them, and optionals that may be empty.

use crate::tensor::Tensor;
use crate::{Error, Result};

/// What a node gives.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Tensor(Tensor),
    Sequence(Vec<Tensor>),
    /// An optional that holds nothing; one that holds something is what it holds.
    Nothing,
}

impl From<Tensor> for Item {
    fn from(t: Tensor) -> Self {
        Item::Tensor(t)
    }
}

impl Item {
    pub(super) fn view(&self) -> View<'_> {
        match self {
            Item::Tensor(t) => View::Tensor(t),
            Item::Sequence(list) => View::Sequence(list),
            Item::Nothing => View::Nothing,
        }
    }

    /// # Errors
    /// It is a list or nothing.
    pub(super) fn into_tensor(self) -> Result<Tensor> {
        match self {
            Item::Tensor(t) => Ok(t),
            other => Err(other.view().misfit("a tensor")),
        }
    }
}

/// An [`Item`] that belongs to somebody else.
#[derive(Debug, Clone, Copy)]
pub(super) enum View<'a> {
    Tensor(&'a Tensor),
    Sequence(&'a [Tensor]),
    Nothing,
}

impl<'a> View<'a> {
    /// # Errors
    /// It is a list or nothing.
    pub(super) fn tensor(self) -> Result<&'a Tensor> {
        match self {
            View::Tensor(t) => Ok(t),
            other => Err(other.misfit("a tensor")),
        }
    }

    /// # Errors
    /// It is no list.
    pub(super) fn sequence(self) -> Result<&'a [Tensor]> {
        match self {
            View::Sequence(list) => Ok(list),
            other => Err(other.misfit("a sequence")),
        }
    }

    pub(super) fn item(self) -> Item {
        match self {
            View::Tensor(t) => Item::Tensor(t.clone()),
            View::Sequence(list) => Item::Sequence(list.to_vec()),
            View::Nothing => Item::Nothing,
        }
    }

    fn misfit(self, wanted: &str) -> Error {
        let found = match self {
            View::Tensor(t) => format!("a tensor of shape {:?}", t.shape()),
            View::Sequence(list) => format!("a sequence of {} tensors", list.len()),
            View::Nothing => "an empty optional".to_owned(),
        };
        Error::bad_input(format!("expected {wanted}, found {found}"))
    }
}
