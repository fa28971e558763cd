//! The search: which recipes to try, and running them as the trials of a study, resumably.

mod budget;
mod config;
mod front;
mod key;
mod space;
mod sure;
mod sweep;
mod task;
mod trial;
mod walk;

pub use budget::Budget;
pub use config::{Measuring, SweepConfig};
pub use front::{Basis, Front, Point, fronts, non_dominated};
pub use space::{Space, Strategy};
pub use sure::Bounds;
pub use sweep::{Event, Stop, Summary, Sweep};
pub use task::{Conditions, Task};
