//! Stage 2, parsers without I/O: kept bytes of a request head in, a parsed message that borrows them out.
//!
//! The bytes may be cut anywhere, and may be anything. Nothing here allocates, copies or panics.
#![forbid(unsafe_code)]

mod authority;
mod header;
mod request;
mod target;
mod trace;

pub use authority::{ADDRESS_BYTES, Address, Authority, AuthorityError};
pub use header::{Header, Headers};
pub use request::{RequestError, RequestHead, Version};
pub use target::{TargetForm, split_path};
pub use trace::{Sampled, TraceContext, TraceFormat, TraceFormats};
