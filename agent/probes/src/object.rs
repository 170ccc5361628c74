//! The compiled BPF objects inside this binary. In: which programs are wanted. Out: an object that has no others.

use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind,
    elf::{SHT_SYMTAB, STT_NOTYPE, Sym64},
    read::elf::{ElfFile64, SectionHeader as _},
};

use crate::LoadError;

/// For kernels from 6.1.
static MODERN: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kerntally.bpf.o"));
/// For older ones.
static LEGACY: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kerntally-5.10.bpf.o"));

/// Where the functions lie that programs share.
const SHARED: &str = ".text";
/// Where a symbol says what it is: the byte after its name (`Elf64_Sym`).
const INFO: u64 = 4;

/// An object in memory, aligned as its structures are.
pub(crate) struct Object {
    words: Vec<u64>,
    len: usize,
}

impl Object {
    /// The object for this kernel, with only the programs whose names are `wanted`.
    ///
    /// The loader links each program with all that it calls, and keeps that for as long as it lives: a few hundred
    /// kilobytes for each back end that is not in use.
    pub(crate) fn with(modern: bool, wanted: impl Fn(&str) -> bool) -> Result<Self, LoadError> {
        let embedded = if modern { MODERN } else { LEGACY };
        if embedded.is_empty() {
            return Err(LoadError::NotBuilt);
        }
        let mut object = Self::copy(embedded);
        // What cannot be read the loader refuses, and says why.
        for place in unwanted(object.bytes(), wanted).unwrap_or_default() {
            object.hide(place);
        }
        Ok(object)
    }

    /// What the loader takes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: that many bytes lie in the words, which have no padding.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    fn copy(bytes: &[u8]) -> Self {
        let words = bytes.chunks(size_of::<u64>()).map(|chunk| {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        Self {
            words: words.collect(),
            len: bytes.len(),
        }
    }

    /// Makes a symbol's type unknown: the loader takes only functions for programs.
    fn hide(&mut self, info: u64) {
        const TYPE: u8 = 0xf;
        const _: () = assert!(STT_NOTYPE == 0);
        let Ok(place) = usize::try_from(info) else {
            return;
        };
        if let Some(word) = self.words.get_mut(place / size_of::<u64>()) {
            let mut bytes = word.to_ne_bytes();
            bytes[place % size_of::<u64>()] &= !TYPE;
            *word = u64::from_ne_bytes(bytes);
        }
    }
}

/// Where the symbols of programs that are not wanted say that they are functions.
fn unwanted(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> object::Result<Vec<u64>> {
    let file = ElfFile64::<LittleEndian>::parse(bytes)?;
    let mut sections = file.elf_section_table().iter();
    let table = sections.find(|section| section.sh_type(LittleEndian) == SHT_SYMTAB);
    let Some(table) = table.map(|section| section.sh_offset(LittleEndian)) else {
        return Ok(Vec::new());
    };
    let shared = file.section_by_name(SHARED).map(|section| section.index());
    let mut places = Vec::new();
    for symbol in file.symbols() {
        let is_program = symbol.kind() == SymbolKind::Text
            && symbol.is_definition()
            && symbol.section_index() != shared;
        if is_program && !wanted(symbol.name()?) {
            let entry = symbol.index().0 * size_of::<Sym64<LittleEndian>>();
            places.push(table + entry as u64 + INFO);
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(object: &Object) -> Vec<String> {
        let parsed = aya_obj::Object::parse(object.bytes()).unwrap();
        let mut names: Vec<_> = parsed.programs.keys().cloned().collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_is_wanted_is_a_program() {
        let Ok(all) = Object::with(true, |_| true) else {
            // Built without the BPF objects.
            return;
        };
        assert!(programs(&all).len() > 20);
        let wanted = ["sock_send_length", "sweep"];
        let some = Object::with(true, |name| wanted.contains(&name)).unwrap();
        assert_eq!(programs(&some), wanted);
        let old = Object::with(false, |name| name == "fexit_inet_sendmsg").unwrap();
        assert_eq!(programs(&old), ["fexit_inet_sendmsg"]);
    }

    #[test]
    fn a_copy_is_the_same_whatever_its_length() {
        for len in 0..20 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(Object::copy(&bytes).bytes(), bytes);
        }
    }
}
