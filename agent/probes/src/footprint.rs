//! What the kernel side's maps take, as the kernel accounts for them.

use std::os::fd::RawFd;

/// Memory of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMemory {
    /// Its name in the object.
    pub name: String,
    /// Bytes that it takes now.
    pub bytes: u64,
    /// Bytes that it takes with all its entries in use.
    pub at_most_bytes: u64,
}

/// `BPF_MAP_TYPE_HASH` and `BPF_F_NO_PREALLOC` (`include/uapi/linux/bpf.h`).
const HASH: u64 = 1;
const ON_DEMAND: u64 = 1;

/// A bucket of a hash table, and what an entry has besides key and value: `struct bucket` and `struct htab_elem`
/// (`kernel/bpf/hashtab.c`), with the link by which the kernel's allocator keeps it.
const BUCKET_BYTES: u64 = 16;
const ENTRY_BYTES: u64 = 48 + 8;

/// Memory of the map behind a descriptor.
pub(crate) fn of_map(name: &str, fd: RawFd) -> Option<MapMemory> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let (bytes, at_most_bytes) = account(&text)?;
    Some(MapMemory {
        name: name.to_owned(),
        bytes,
        at_most_bytes,
    })
}

/// What `/proc/self/fdinfo` says: locked now, and with every entry in use.
fn account(text: &str) -> Option<(u64, u64)> {
    let number = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?
            .trim();
        match line.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => line.parse().ok(),
        }
    };
    let bytes: u64 = number("memlock")?;
    if number("map_type") != Some(HASH) || number("map_flags")? & ON_DEMAND == 0 {
        return Some((bytes, bytes));
    }
    let entries = number("max_entries")?;
    let word = |bytes: u64| bytes.next_multiple_of(8);
    let entry = ENTRY_BYTES + word(number("key_size")?) + word(number("value_size")?);
    let full = entries.next_power_of_two() * BUCKET_BYTES + entries * entry;
    // Kernels before 6.4 account for all entries at once.
    Some((bytes, full.max(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fdinfo(kind: u64, flags: &str, memlock: u64) -> String {
        format!(
            "pos:\t0\nflags:\t02000002\nmap_type:\t{kind}\nkey_size:\t8\nvalue_size:\t124\n\
             max_entries:\t1000\nmap_flags:\t{flags}\nmap_extra:\t0x0\nmemlock:\t{memlock}\nmap_id:\t7\n"
        )
    }

    #[test]
    fn tables_that_grow_say_how_far() {
        let full = 1024 * 16 + 1000 * (56 + 8 + 128);
        assert_eq!(account(&fdinfo(1, "0x1", 20_000)), Some((20_000, full)));
        assert_eq!(
            account(&fdinfo(1, "0x1", 1_000_000)),
            Some((1_000_000, 1_000_000))
        );
    }

    #[test]
    fn what_is_allocated_at_once_stays() {
        assert_eq!(account(&fdinfo(1, "0x0", 20_000)), Some((20_000, 20_000)));
        assert_eq!(account(&fdinfo(27, "0x0", 4096)), Some((4096, 4096)));
    }

    #[test]
    fn what_says_nothing_is_none() {
        assert_eq!(account(""), None);
        assert_eq!(account("memlock:\tmuch\n"), None);
    }
}
