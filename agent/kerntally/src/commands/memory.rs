//! What the kernel side takes with the configuration in force: each map by the key that sizes it.

use kerntally_probes::MapMemory;
use serde_json::{Value, json};

use crate::config::Hooks;

/// Maps by the key of `hooks` that sizes them; the others are of a size of their own.
const SIZED: [(&str, &[&str]); 4] = [
    ("ring", &["RING"]),
    ("head_slots", &["HEADS", "FREE_HEADS"]),
    ("connections", &["CONNECTIONS"]),
    ("tally_keys", &["TALLY"]),
];

/// A slot has room for the longest head there can be: how much of one is kept changes nothing.
const HEAD_NOTE: &str = "within hooks.head_slots: a slot has 1 KiB, whatever of a head is kept";

/// Rows of all keys, and their sum.
pub(super) fn to_json(maps: &[MapMemory], hooks: &Hooks) -> Value {
    let mut rows = Vec::new();
    for (key, names) in SIZED {
        let of_key = maps.iter().filter(|map| names.contains(&map.name.as_str()));
        let configured = match key {
            "ring" => json!(hooks.ring),
            "head_slots" => json!(hooks.head_slots),
            "connections" => json!(hooks.connections),
            _ => json!(hooks.tally_keys),
        };
        rows.push(row(&format!("hooks.{key}"), &configured, of_key));
        if key == "ring" {
            rows.push(json!({
                "key": "hooks.head", "configured": hooks.head, "bytes": 0, "at_most_bytes": 0,
                "note": HEAD_NOTE,
            }));
        }
    }
    let is_sized = |map: &&MapMemory| {
        let mut sized = SIZED.iter().flat_map(|(_, names)| *names);
        sized.any(|name| *name == map.name)
    };
    rows.push(row(
        "other maps",
        &Value::Null,
        maps.iter().filter(|map| !is_sized(map)),
    ));
    let mut document = row("total", &Value::Null, maps.iter());
    document["rows"] = rows.into();
    document
}

fn row<'a>(key: &str, configured: &Value, maps: impl Iterator<Item = &'a MapMemory>) -> Value {
    let (mut bytes, mut at_most) = (0, 0);
    for map in maps {
        bytes += map.bytes;
        at_most += map.at_most_bytes;
    }
    json!({ "key": key, "configured": configured, "bytes": bytes, "at_most_bytes": at_most })
}

/// Lines for people; none without an account.
pub(super) fn render(document: &Value) -> Vec<String> {
    let Some(rows) = document["rows"].as_array() else {
        return Vec::new();
    };
    let line = |row: &Value| {
        let key = row["key"].as_str().unwrap_or_default();
        let configured = match &row["configured"] {
            Value::Null if key == "hooks.connections" => "default".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if let Some(note) = row["note"].as_str() {
            return format!("  {key:<18} {configured:>9} {note}");
        }
        let size = |key: &str| size(row[key].as_u64().unwrap_or_default());
        format!(
            "  {key:<18} {configured:>9} {:>12} {:>12}",
            size("bytes"),
            size("at_most_bytes")
        )
    };
    let head = format!(
        "  {:<18} {:>9} {:>12} {:>12}",
        "KERNEL MEMORY", "SET TO", "AT ONCE", "AT MOST"
    );
    let lines = rows.iter().chain([document]).map(line);
    std::iter::once(head).chain(lines).collect()
}

/// KiB below one MiB, else MiB with a digit.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if bytes < MIB {
        return format!("{} KiB", bytes.div_ceil(1024));
    }
    let tenths = (bytes * 10).div_ceil(MIB);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, bytes: u64, at_most_bytes: u64) -> MapMemory {
        MapMemory {
            name: name.to_owned(),
            bytes,
            at_most_bytes,
        }
    }

    #[test]
    fn every_map_stands_in_one_row() {
        let maps = [
            map("RING", 2_100_000, 2_100_000),
            map("HEADS", 2_097_152, 2_097_152),
            map("FREE_HEADS", 8192, 8192),
            map("CONNECTIONS", 2_097_152, 27_000_000),
            map("TALLY", 16_384, 1_100_000),
            map("NEGATIVE", 524_288, 524_288),
        ];
        let document = to_json(&maps, &Hooks::default());
        let rows = document["rows"].as_array().unwrap();
        for key in ["bytes", "at_most_bytes"] {
            let sum: u64 = rows.iter().filter_map(|row| row[key].as_u64()).sum();
            assert_eq!(document[key], sum, "{key}");
        }
        let of = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!(of("hooks.head_slots")["bytes"], 2_097_152 + 8192);
        assert_eq!(of("hooks.ring")["configured"], "2MiB");
        assert_eq!(of("other maps")["bytes"], 524_288);
        let text = render(&document).join("\n");
        for says in [
            "hooks.connections",
            "25.8 MiB",
            "hooks.tally_keys",
            "16 KiB",
            "hooks.head ",
            "total",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn without_an_account_nothing_is_said() {
        assert!(render(&Value::Null).is_empty());
    }
}
