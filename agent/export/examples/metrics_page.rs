//! Prints the page `docs/metrics.md`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

fn main() {
    print!("{}", kerntally_export::catalogue::page());
}
