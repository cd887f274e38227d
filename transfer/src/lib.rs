//! placeholder

pub mod error;
pub mod limits;
pub mod pace;
pub mod plan;
#[doc(hidden)]
pub mod progress;
pub mod receipt;
