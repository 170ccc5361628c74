//! Offsets and enum values of the running kernel, from its BTF.
//!
//! A reader of our own, because the maintained crates either are LGPL or build the whole type graph, and
//! 20 lookups in 5 MB need neither. The format is that of the kernel's
//! `Documentation/bpf/btf.rst`; every access is checked, since the bytes come from a file.

use std::collections::HashMap;

/// Type information of a kernel, found again in its bytes: a few of more than a hundred thousand types are asked for.
#[derive(Debug)]
pub(crate) struct Btf<'a> {
    section: Section<'a>,
    names: &'a [u8],
    /// Where each type begins in its section, by its number.
    types: Vec<usize>,
    structs: HashMap<&'a [u8], u32>,
    /// Numbers of the enumerations.
    enums: Vec<u32>,
}

/// A type's first three words.
#[derive(Clone, Copy, Debug, Default)]
struct Type {
    name: u32,
    kind: u32,
    /// How many members or values follow.
    count: u32,
    /// Members may be bit fields.
    flagged: bool,
    /// For kinds that refer to another type.
    target: u32,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: u32,
    target: u32,
    bit: u32,
}

/// Why type information could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BtfError {
    /// The bytes are not BTF.
    #[error("the kernel's type information is malformed at byte {0}")]
    Malformed(usize),
    /// A field that is needed is not there.
    #[error("the kernel has no field `{0}`")]
    NoField(String),
    /// An enum value that is needed is not there.
    #[error("the kernel has no enum value `{0}`")]
    NoValue(&'static str),
    /// A field does not lie where the programs expect it beside its neighbour.
    #[error("the kernel has its field `{0}` elsewhere than expected")]
    Unexpected(&'static str),
}

const MAGIC: u16 = 0xeb9f;
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Bits of a member's offset that count when its type says that it has bit fields.
const BIT_OFFSET: u32 = 0x00ff_ffff;
/// Nesting of anonymous members that is followed.
const DEPTH: u32 = 8;

/// Bytes that are read as words.
#[derive(Clone, Copy, Debug)]
struct Section<'a>(&'a [u8]);

/// The number of void, which has no entry.
const VOID: usize = 0;
const WORD: usize = 4;
/// Length of what all types begin with.
const TYPE: usize = 3 * WORD;
const MEMBER: usize = 3 * WORD;
const ENUM_VALUE: usize = 2 * WORD;

impl Section<'_> {
    fn word(self, at: usize) -> Result<u32, BtfError> {
        let bytes = at.checked_add(WORD).and_then(|end| self.0.get(at..end));
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or(BtfError::Malformed(at))
    }

    fn head(self, at: usize) -> Result<Type, BtfError> {
        let info = self.word(at + WORD)?;
        Ok(Type {
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            count: info & 0xffff,
            flagged: info >> 31 == 1,
            target: self.word(at + 2 * WORD)?,
        })
    }
}

impl Type {
    /// Bytes that follow its first words.
    fn tail(self) -> usize {
        let count = self.count as usize;
        match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => WORD,
            kind::ARRAY => 3 * WORD,
            kind::STRUCT | kind::UNION => count * MEMBER,
            kind::ENUM => count * ENUM_VALUE,
            kind::FUNC_PROTO => count * 2 * WORD,
            kind::DATASEC | kind::ENUM64 => count * 3 * WORD,
            _ => 0,
        }
    }

    const fn is_transparent(self) -> bool {
        matches!(
            self.kind,
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        )
    }
}

impl<'a> Btf<'a> {
    /// Parses the content of `/sys/kernel/btf/vmlinux`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = Section(bytes);
        if header.word(0)? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Malformed(0));
        }
        let begins = header.word(WORD)? as usize;
        let part = |at: usize| {
            let (from, len) = (header.word(at)? as usize, header.word(at + WORD)? as usize);
            let from = begins + from;
            bytes
                .get(from..from + len)
                .ok_or(BtfError::Malformed(begins))
        };
        let mut btf = Self {
            section: Section(part(2 * WORD)?),
            names: part(4 * WORD)?,
            types: vec![VOID],
            structs: HashMap::new(),
            enums: Vec::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.section.0.len() {
            let head = self.section.head(at)?;
            let id = u32::try_from(self.types.len()).map_err(|_large| BtfError::Malformed(at))?;
            match head.kind {
                kind::STRUCT | kind::UNION => {
                    if let Some(name) = text(self.names, head.name) {
                        self.structs.entry(name).or_insert(id);
                    }
                }
                kind::ENUM => self.enums.push(id),
                _ => {}
            }
            self.types.push(at);
            at += TYPE + head.tail();
        }
        if at == self.section.0.len() {
            Ok(())
        } else {
            Err(BtfError::Malformed(at))
        }
    }

    /// Whether the kernel has a structure of this name.
    pub(crate) fn has_struct(&self, name: &str) -> bool {
        self.structs.contains_key(name.as_bytes())
    }

    /// Value of an enum constant.
    pub(crate) fn value(&self, name: &'static str) -> Result<i64, BtfError> {
        let found = self.enums.iter().find_map(|id| self.value_in(*id, name));
        found.ok_or(BtfError::NoValue(name))
    }

    fn value_in(&self, id: u32, name: &str) -> Option<i64> {
        let (at, head) = self.entry(id)?;
        let mut values = (0..head.count as usize).map(|index| at + TYPE + index * ENUM_VALUE);
        let at = values.find(|at| {
            let found = self.section.word(*at);
            found.is_ok_and(|found| text(self.names, found) == Some(name.as_bytes()))
        })?;
        let value = self.section.word(at + WORD).ok()?;
        Some(i64::from(value.cast_signed()))
    }

    /// Offset in bytes of a field, given as `struct.field` with further `.field`s into nested structures;
    /// anonymous members are looked through.
    pub(crate) fn offset(&self, path: &str) -> Result<u32, BtfError> {
        self.find(path)
            .ok_or_else(|| BtfError::NoField(path.to_owned()))
    }

    fn find(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let mut current = *self.structs.get(parts.next()?.as_bytes())?;
        let mut bits = 0u32;
        for part in parts {
            let (bit, target) = self.member(current, part, DEPTH)?;
            bits = bits.checked_add(bit)?;
            current = self.resolve(target);
        }
        Some(bits / 8)
    }

    /// Where a type lies, and how it begins.
    fn entry(&self, id: u32) -> Option<(usize, Type)> {
        if id as usize == VOID {
            return None;
        }
        let at = *self.types.get(id as usize)?;
        Some((at, self.section.head(at).ok()?))
    }

    fn members(&self, id: u32) -> impl Iterator<Item = Member> {
        let composite = |head: &Type| matches!(head.kind, kind::STRUCT | kind::UNION);
        let found = self.entry(id).filter(|(_, head)| composite(head));
        let (at, head) = found.unwrap_or_default();
        (0..head.count as usize).filter_map(move |index| {
            let at = at + TYPE + index * MEMBER;
            let offset = self.section.word(at + 2 * WORD).ok()?;
            Some(Member {
                name: self.section.word(at).ok()?,
                target: self.section.word(at + WORD).ok()?,
                bit: if head.flagged {
                    offset & BIT_OFFSET
                } else {
                    offset
                },
            })
        })
    }

    /// Offset in bits and type of a member.
    fn member(&self, within: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let named = self
            .members(within)
            .find(|member| text(self.names, member.name) == Some(name.as_bytes()));
        if let Some(member) = named {
            return Some((member.bit, member.target));
        }
        let depth = depth.checked_sub(1)?;
        let mut anonymous = self
            .members(within)
            .filter(|member| text(self.names, member.name).is_none());
        anonymous.find_map(|member| {
            let (bit, target) = self.member(self.resolve(member.target), name, depth)?;
            Some((member.bit.checked_add(bit)?, target))
        })
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, id: u32) -> u32 {
        let mut id = id;
        for _ in 0..DEPTH {
            match self.entry(id) {
                Some((_, found)) if found.is_transparent() => id = found.target,
                _ => break,
            }
        }
        id
    }
}

/// The non-empty string at `at`.
fn text(names: &[u8], at: u32) -> Option<&[u8]> {
    let tail = names.get(at as usize..)?;
    let len = tail.iter().position(|byte| *byte == 0)?;
    (len > 0).then(|| &tail[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_garbage() {
        assert!(Btf::parse(b"").is_err());
        assert!(Btf::parse(&[0xff; 64]).is_err());
        let mut truncated = vec![0x9f, 0xeb, 1, 0];
        truncated.extend_from_slice(&24u32.to_le_bytes());
        truncated.extend_from_slice(&[0xff; 16]);
        assert!(Btf::parse(&truncated).is_err());
    }

    /// Types of a made-up kernel: void, then those of `types`, each given as its words.
    fn image(types: &[&[u32]], names: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types
            .iter()
            .flat_map(|words| words.iter().flat_map(|word| word.to_le_bytes()))
            .collect();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut image = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, len(&types), len(&types), len(names)] {
            image.extend_from_slice(&word.to_le_bytes());
        }
        image.extend_from_slice(&types);
        image.extend_from_slice(names);
        image
    }

    const STRUCT_OF_TWO: u32 = kind::STRUCT << 24 | 2;
    const STRUCT_OF_ONE: u32 = kind::STRUCT << 24 | 1;

    /// `enum { V = -1 }; struct in { void b; }; typedef struct in t; struct out { void a; t; };`
    fn small() -> Vec<u8> {
        let names = b"\0V\0in\0b\0t\0out\0a\0";
        let types: [&[u32]; 4] = [
            &[0, kind::ENUM << 24 | 1, 4, 1, u32::MAX],
            &[3, STRUCT_OF_ONE, 8, 6, 0, 32],
            &[8, kind::TYPEDEF << 24, 2],
            &[10, STRUCT_OF_TWO, 16, 14, 0, 0, 0, 3, 64],
        ];
        image(&types, names)
    }

    #[test]
    fn looks_through_anonymous_members_and_typedefs() {
        let image = small();
        let btf = Btf::parse(&image).unwrap();
        assert_eq!(btf.offset("out.b").unwrap(), 12);
        assert_eq!(btf.offset("out.a").unwrap(), 0);
        assert_eq!(btf.offset("in.b").unwrap(), 4);
        assert_eq!(btf.value("V").unwrap(), -1);
        assert!(btf.has_struct("in") && !btf.has_struct("t"));
        for absent in ["out.c", "in.a", "nothing.b", "out.a.b", ""] {
            assert!(btf.offset(absent).is_err(), "{absent}");
        }
        assert!(btf.value("W").is_err());
    }

    #[test]
    fn refuses_types_that_are_cut_or_point_nowhere() {
        let image = small();
        for len in 0..image.len() {
            assert!(Btf::parse(&image[..len]).is_err(), "{len}");
        }
        let loops: [&[u32]; 2] = [
            &[1, STRUCT_OF_ONE, 0, 0, 1, u32::MAX],
            &[1, STRUCT_OF_TWO, 0, 0, 9, 0, 0, 1, u32::MAX],
        ];
        for types in [&loops[..1], &loops[1..]] {
            let image = self::image(types, b"\0s\0");
            assert!(Btf::parse(&image).unwrap().offset("s.x").is_err());
        }
    }

    #[test]
    fn finds_fields_of_the_running_kernel() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("sock.__sk_common.skc_family").unwrap(), 16);
        assert_eq!(btf.offset("sock_common.skc_dport").unwrap(), 12);
        assert!(btf.offset("sock.no_such_field").is_err());
    }
}
