//! Stages 3 to 6: records in, series out. No I/O, no clocks, no knowledge of kernels or exporters.
//!
//! [`stitch::exchange`] makes an exchange of a record; [`Pipeline`] attributes, routes and aggregates it.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod attribute;
pub mod config;
mod detail;
pub mod exemplar;
mod learnt;
mod ledger;
mod listing;
mod memory;
mod pipeline;
pub mod route;
mod services;
pub mod stitch;
mod tap;
pub mod traffic;
pub mod view;

pub use config::Config;
pub use learnt::LearntRoutes;
pub use ledger::{Ledger, Outcome, ROLES};
pub use listing::{ExcludedRow, Limit, Pressure, RouteRow, SeriesRow, ServiceRow, SuggestionRow};
pub use pipeline::{ActiveRequests, Collection, Explanation, Pipeline, ProcessNews};
pub use services::Whom;
pub use tap::{Passed, Tap};
