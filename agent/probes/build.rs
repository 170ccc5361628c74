//! Puts the compiled BPF objects where the crate can embed them.
//!
//! They are built by `cargo xtask build` into `target/bpf`, or wherever `KERNTALLY_BPF_DIR` says. Without
//! them the crate still compiles, so that `cargo check` needs no BPF toolchain, and loading says what is
//! missing.

use std::{env, fs, io, path::Path, path::PathBuf};

use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

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
        fs::write(to, without_debugging(&fs::read(from)?)?)
    } else {
        fs::write(to, [])
    }
}

/// The object without what only debuggers read, which is more than half of it.
fn without_debugging(object: &[u8]) -> io::Result<Vec<u8>> {
    let mut builder = Builder::read(object).map_err(io::Error::other)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.delete = true;
        }
    }
    // Names of sections lie among those of symbols, which the builder does not write.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped).map_err(io::Error::other)?;
    Ok(stripped)
}
