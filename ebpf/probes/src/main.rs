//! Stage 0: the BPF programs. In: what the kernel passes to its hooks. Out: records on the ring.
//!
//! A hook ([`hooks`]) finds a socket, a direction and the caller's buffer, and hands them to [`observe`],
//! which decides whether the socket is of interest; the machine (`kerntally-machine`) follows its bytes;
//! [`emit`] hands over what is finished.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod buffer;
mod counters;
mod emit;
mod filter;
mod hooks;
mod host;
mod kernel;
mod maps;
mod negative;
mod observe;
mod on_demand;
mod process;
mod tally;

/// The kernel lets only programs under a GPL-compatible licence use its tracing helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
