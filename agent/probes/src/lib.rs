//! Stage 1: loads and attaches the BPF programs, and turns ring bytes into checked record views.
//!
//! The only crate that knows aya, and the only user-space home of `unsafe`.

mod btf;
mod error;
mod footprint;
mod heap;
mod kernel;
mod kernel_run;
mod layout;
mod loading;
mod object;
mod open;
mod options;
mod preemption;
mod programs;
mod readings;
mod record;
mod returns;
mod session;
mod shared;
mod survey;
mod tables;
mod tally;
mod walk;

pub use error::LoadError;
pub use footprint::MapMemory;
pub use heap::return_free_memory;
pub use open::OpenRequests;
pub use options::{Backend, BackendChoice, Options};
pub use readings::{CounterValues, ProgramStat};
pub use record::{ExchangeView, ProcessView, Record};
pub use session::{Decision, Session};
pub use survey::{BackendReport, survey};
pub use tally::TallyDelta;
