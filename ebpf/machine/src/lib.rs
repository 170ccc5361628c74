//! Stage 0: the connection state machine. In: bytes that passed on a socket, and closes. Out: finished
//! exchanges.
//!
//! The same code runs in the kernel, inside the BPF programs, and in user space, under test. It follows
//! the framing of both directions of a connection to the byte (RFC 9112, section 6), so that requests
//! and responses pair by order alone, whatever the sends and receives cut or join.
//!
//! It is written for the BPF verifier: one flat loop of small steps whose whole state lies in memory
//! ([`Work`] and [`Connection`]), so that the paths through one step meet again before the next.
#![no_std]
#![forbid(unsafe_code)]
#![allow(
    clippy::inline_always,
    reason = "a call left in a BPF program is walked again by the verifier at each place it is made from"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "fields are as narrow as their documented bounds; a checked cast is a branch for the verifier"
)]

mod body;
mod connection;
mod finish;
mod head;
mod host;
mod sniff;
mod step;
mod whole;
mod window;

pub use connection::{
    Connection, DIRECTIONS, Direction, NO_SLOT, Phase, REQUEST, RESPONSE, Request, bits,
    request_flag,
};
pub use finish::{Close, close_step, finish_all};
pub use host::{Ended, Host};
pub use sniff::{Sniffed, sniff};
pub use step::{Event, MAX_STEPS, MAX_STEPS_LOOPED, Work, on_data, step};
pub use whole::{Whole, scan_head};
pub use window::{WINDOW_BYTES, Window};
