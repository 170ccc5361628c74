//! End-to-end checks that know the truth: what was really sent is counted here and held against what the
//! agent exports.
//!
//! [`conversation`] plays byte-level scripts between processes of its own; the tests in `tests/` use real
//! servers and clients. Nothing here looks into the agent: only its files, its commands and its exit codes.
#![forbid(unsafe_code)]

pub mod agent;
pub mod conversation;
pub mod export;
pub mod far_end;
pub mod install;
pub mod kernel_objects;
pub mod ledger;
pub mod load;
pub mod mix;
pub mod packages;
pub mod pairing;
pub mod plain;
pub mod rig;
pub mod servers;
pub mod truth;
