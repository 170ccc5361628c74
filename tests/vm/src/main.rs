//! PID 1 of a guest kernel: prepares the system, runs the given program, and prints a counted verdict.
//!
//! The words after `--` on the kernel's command line are the program and its arguments; with `check` before
//! them the agent is asked first what it thinks of this kernel. Its lines
//! `case NAME pass|fail|skip|blind ...` are passed on and counted; its exit status has to agree with them.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "the console is the only way out of a guest"
)]

mod cases;
mod link;
mod system;

use std::io::Write as _;

use cases::Count;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = system::prepare() {
        println!("guest: preparing failed: {error:#}");
    }
    println!("guest: start {}", system::release());
    println!("kernel threads: {}", system::kernel_threads().join(", "));
    let mut count = Count::default();
    let (check, program) = match arguments.split_first() {
        Some((first, rest)) if first == "check" => (true, rest),
        _ => (false, arguments.as_slice()),
    };
    if check {
        count.record(cases::check());
    }
    match cases::run(program, &mut count) {
        Ok(()) => {}
        Err(error) => {
            println!("case guest fail {error:#}");
            count.failed += 1;
        }
    }
    println!(
        "guest: verdict passed={} failed={} skipped={}",
        count.passed, count.failed, count.skipped
    );
    // The serial line is slow, and power-off does not wait for it.
    let _unheard = std::io::stdout().flush();
    std::thread::sleep(std::time::Duration::from_millis(300));
    system::power_off();
}
