//! What must hold of every parser whatever bytes it is given. Each function takes one input and panics where
//! something does not hold.

mod conversation;
mod parsers;
#[path = "../../../agent/probes/src/record.rs"]
#[allow(
    dead_code,
    reason = "the parser is taken as it stands, without the loader around it"
)]
mod ring;
#[path = "../../../ebpf/machine/tests/world/mod.rs"]
#[allow(dead_code, reason = "its other users take other parts")]
mod world;

pub use conversation::machine;
pub use parsers::{authority, record, request, target, trace};

#[cfg(test)]
mod tests;
