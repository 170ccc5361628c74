//! The control socket: how commands talk to the running agent.

pub(crate) mod client;
mod protocol;
pub(crate) mod server;

pub(crate) use protocol::{Answer, Request};
