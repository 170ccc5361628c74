//! The guest's root file system: a cpio archive in the `newc` form, with the programs it runs and the
//! shared libraries they need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Directories the guest's init mounts something on, or that programs expect.
const DIRECTORIES: [&str; 10] = [
    "bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "var/log",
];

/// Writes an archive with `programs` (name in the guest, file on the host); the first becomes `/init`.
pub(crate) fn write(programs: &[(&str, PathBuf)], archive: &Path) -> Result<()> {
    let mut cpio = Cpio::default();
    for directory in DIRECTORIES {
        cpio.directory(directory);
    }
    let mut libraries = BTreeSet::new();
    for (name, file) in programs {
        libraries.extend(shared_libraries(file)?);
        cpio.file(name, &read(file)?);
    }
    cpio.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
    cpio.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n");
    for library in libraries {
        let name = library.strip_prefix("/").unwrap_or(&library).to_path_buf();
        cpio.parents(&name);
        cpio.file(&name.display().to_string(), &read(&library)?);
    }
    std::fs::write(archive, cpio.finish()).with_context(|| format!("writing {}", archive.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

/// The shared libraries a program starts with, its loader included, as the host's loader finds them.
pub(crate) fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let Ok(text) = command::capture(Command::new("ldd").arg(program)) else {
        // ldd fails on programs without a loader, which need nothing.
        return Ok(Vec::new());
    };
    if text.contains("not found") {
        bail!(
            "{} needs a library that is not there: {}",
            program.display(),
            text.trim()
        );
    }
    Ok(library_paths(&text))
}

fn library_paths(text: &str) -> Vec<PathBuf> {
    let words = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

/// A `newc` archive in the making: headers of hexadecimal fields, names and data padded to four bytes.
#[derive(Debug, Default)]
struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
    written: BTreeSet<PathBuf>,
}

impl Cpio {
    fn directory(&mut self, name: &str) {
        if self.written.insert(PathBuf::from(name)) {
            self.entry(name, 0o040_755, &[]);
        }
    }

    fn parents(&mut self, name: &Path) {
        let mut parents: Vec<&Path> = name
            .ancestors()
            .skip(1)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        parents.reverse();
        for parent in parents {
            self.directory(&parent.display().to_string());
        }
    }

    fn file(&mut self, name: &str, data: &[u8]) {
        self.entry(name, 0o100_755, data);
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, owner, group, links, time, size, device twice, special device twice, name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_sized() {
        let mut cpio = Cpio::default();
        cpio.file("init", b"abcde");
        let bytes = cpio.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[94..102], b"00000005");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"abcde");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn parent_directories_come_before_files_and_once() {
        let mut cpio = Cpio::default();
        cpio.parents(Path::new("lib/x/libc.so.6"));
        cpio.parents(Path::new("lib/x/libm.so.6"));
        let names = [PathBuf::from("lib"), PathBuf::from("lib/x")];
        assert_eq!(cpio.written, BTreeSet::from(names));
        assert_eq!(cpio.inode, 2);
    }

    #[test]
    fn libraries_and_the_loader_are_found() {
        let text = "\tlinux-vdso.so.1 (0x00007)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ]
        .map(PathBuf::from);
        assert_eq!(library_paths(text), paths);
        assert!(library_paths("\tstatically linked\n").is_empty());
    }
}
