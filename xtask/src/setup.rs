//! Makes sure that what the build needs is there: a compiler for the BPF target and its linker.

use std::path::PathBuf;

use anyhow::Result;

use crate::linker;
use crate::packages::{Purpose, ensure_program};
use crate::progress::Step;
use crate::toolchain::{self, Compiler};
use crate::workspace::Workspace;

/// What builds the BPF programs.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// Finds the tools, installing what is lacking.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Tools> {
    let step = Step::begin("set-up");
    ensure_program("cc", Purpose::Compiler)?;
    let compiler = toolchain::ensure(workspace)?;
    println!(
        "BPF compiler: {} ({}), LLVM {}",
        compiler.rustc.display(),
        compiler.origin,
        compiler.llvm
    );
    let linker = linker::ensure(workspace, compiler.llvm)?;
    println!("BPF linker: {}", linker.display());
    step.end("done");
    Ok(Tools { compiler, linker })
}
