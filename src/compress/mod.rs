//! Compression: model → model. Prune channels or connections, quantize weights and activations, repair by least squares.
//!
//! Nothing here knows engines or meters; calibration samples come as data, and each step returns what it did per layer.

mod activation;
mod allocate;
mod blocks;
mod calibration;
mod channels;
mod connections;
mod divergence;
mod factorize;
mod groups;
mod importance;
mod lanes;
mod least_squares;
mod note;
mod prepare;
mod pruned;
mod quantize;
mod repair;
mod rules;
mod sequential;
mod shapes;
mod spool;
mod statistics;

pub use calibration::Calibration;
pub use channels::{ChannelPruning, ChannelShare, cut_channels, cut_channels_by, prune_channels};
pub use connections::{Amount, Sparsity, prune_connections};
pub use factorize::{Factorization, factorize};
pub use groups::{Change, Channel, ChannelAxis, Edit, Group, Groups};
pub use note::{Action, Note};
pub use prepare::{prepare, prepare_within};
pub use pruned::{Cut, Pruned};
pub use quantize::{Activations, Quantization, quantize, quantize_weights};
