//! Puts the compiled BPF objects where the crate can embed them.
//!
//! They are built by `cargo xtask build` into `target/bpf`, or wherever `KERNTALLY_BPF_DIR` says. Without
//! them the crate still compiles, so that `cargo check` needs no BPF toolchain, and loading says what is
//! missing.

use std::{env, fs, io, path::Path, path::PathBuf};

const OBJECTS: [&str; 2] = ["kerntally.bpf.o", "kerntally-5.10.bpf.o"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=KERNTALLY_BPF_DIR");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let default = here.join("../../target/bpf");
    let from = env::var_os("KERNTALLY_BPF_DIR").map_or(default, PathBuf::from);
    let to = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for name in OBJECTS {
        embed(&from.join(name), &to.join(name))?;
    }
    Ok(())
}

fn embed(from: &Path, to: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", from.display());
    if from.exists() {
        fs::copy(from, to).map(|_bytes| ())
    } else {
        fs::write(to, [])
    }
}
