//! How well completions match what people really wrote: the figures that `nemoterm eval` prints.
//!
//! A case is a line cut somewhere, with the rest that was expected; a prediction is judged character by
//! character and word by word. Texts are compared as sequences of Unicode scalar values.

mod aggregate;
mod case;
mod confidence;
mod judge;

pub use aggregate::{Aggregate, Groups, Report, report};
pub use case::{Case, CaseContext, Prediction};
pub use confidence::{Threshold, thresholds};
pub(crate) use judge::f1;
pub use judge::{Outcome, judge};
