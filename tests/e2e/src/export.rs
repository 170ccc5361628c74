//! Reads the agent's export file: OTLP metrics in JSON, one request a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::truth::{Key, Role, as_f64};

/// One exported point of a request duration histogram.
#[derive(Clone, Debug)]
pub struct Series {
    /// `service.name` of its resource.
    pub service: String,
    /// Side, from the instrument's name.
    pub role: Role,
    /// `http.request.method`
    pub method: String,
    /// `http.route`
    pub route: Option<String>,
    /// `http.response.status_code`
    pub status: Option<u16>,
    /// `error.type`
    pub error_type: Option<String>,
    /// `network.protocol.version`
    pub version: String,
    /// `server.address`
    pub server_address: Option<String>,
    /// `server.port`
    pub server_port: Option<i64>,
    /// `url.scheme`
    pub scheme: Option<String>,
    /// Attributes that the contract's list for this instrument does not have.
    pub unexpected: Vec<String>,
    /// Number of values.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
    /// Smallest in seconds.
    pub min: Option<f64>,
    /// Largest in seconds.
    pub max: Option<f64>,
    /// Scale of the buckets.
    pub scale: i32,
    /// Values that are zero.
    pub zero_count: u64,
    /// Index and count of each bucket that is not empty.
    pub buckets: Vec<(i32, u64)>,
    /// Start of the series in nanoseconds since the epoch.
    pub start_unix_ns: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            service: String::new(),
            role: Role::Server,
            method: String::new(),
            route: None,
            status: None,
            error_type: None,
            version: String::new(),
            server_address: None,
            server_port: None,
            scheme: None,
            unexpected: Vec::new(),
            count: 0,
            sum: 0.0,
            min: None,
            max: None,
            scale: 0,
            zero_count: 0,
            buckets: Vec::new(),
            start_unix_ns: 0,
        }
    }
}

impl Series {
    /// What it is compared by.
    pub fn key(&self) -> Key {
        Key {
            role: self.role,
            method: self.method.clone(),
            route: self.route.clone().filter(|_| self.method != "CONNECT"),
            status: self.status,
            error_type: self.error_type.clone(),
            version: self.version.clone(),
        }
    }

    /// What no two series of a collection share.
    fn identity(&self) -> impl Ord + use<> {
        (
            (self.service.clone(), self.key(), self.route.clone()),
            (self.server_address.clone(), self.server_port),
            (self.scheme.clone(), self.unexpected.clone()),
        )
    }

    /// What of this series lies outside the bounds that every single value must keep, and what does not add up.
    pub fn outside<'a>(
        &'a self,
        bounds: &'a RangeInclusive<f64>,
    ) -> impl Iterator<Item = String> + 'a {
        let extremes = [("min", self.min), ("max", self.max)]
            .into_iter()
            .filter_map(move |(name, value)| match value {
                None => Some(format!("{name} is missing")),
                Some(value) if !bounds.contains(&value) => {
                    Some(format!("{name} {value:.6} s outside {bounds:?}"))
                }
                Some(_) => None,
            });
        let bucketed = self.zero_count + self.buckets.iter().map(|(_, count)| count).sum::<u64>();
        let total = (!self.buckets.is_empty() && bucketed != self.count)
            .then(|| format!("buckets hold {bucketed} of {} values", self.count));
        let stray = self.buckets.iter().filter_map(move |(index, count)| {
            let (low, high) = bucket_bounds(self.scale, *index);
            (high < *bounds.start() || low > *bounds.end()).then(|| {
                format!("{count} values in bucket {low:.6}..{high:.6} s outside {bounds:?}")
            })
        });
        extremes.chain(total).chain(stray)
    }
}

/// Reads the last collection, one line or several. It may not be written to its end yet: a series that it lacks is
/// taken from the collection before. An export file that does not exist yet has no series. Right after a rotation
/// the last lines are in the file before.
pub fn last_push(path: &Path) -> Result<Vec<Series>> {
    let mut before = path.as_os_str().to_owned();
    before.push(".1");
    let mut found: Vec<Series> = Vec::new();
    let mut known = BTreeSet::new();
    for path in [path, Path::new(&before)] {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let (series, both) = last_two_in(file)?;
        let newer = series
            .into_iter()
            .filter(|series| known.insert(series.identity()));
        found.extend(newer);
        if both {
            break;
        }
    }
    Ok(found)
}

/// Points of the last two collections, the newer before the older, and whether there were two.
fn last_two_in(mut file: File) -> Result<(Vec<Series>, bool)> {
    let length = file.metadata()?.len();
    // The file grows by a line a second: only its end is read, as much of it as two collections take.
    let mut tail = TAIL_BYTES;
    loop {
        let start = length.saturating_sub(tail);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut file).take(length - start).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let (lines, both) = lines_of_last_two(&text, start == 0);
        if both || start == 0 {
            let mut series = Vec::new();
            for line in lines {
                let request = serde_json::from_str(line).context("the export file's last lines")?;
                series.extend(parse_request(&request)?);
            }
            return Ok((series, both));
        }
        tail *= 4;
    }
}

const TAIL_BYTES: u64 = 1024 * 1024;

/// The last whole lines that have request durations, of two times, from the last on; the first line is whole only at
/// the file's beginning. Not both if there may be more of them before this text.
fn lines_of_last_two(text: &str, from_beginning: bool) -> (Vec<&str>, bool) {
    let whole_from = if from_beginning {
        Some(0)
    } else {
        text.find('\n').map(|end| end + 1)
    };
    let whole = whole_from
        .zip(text.rfind('\n'))
        .and_then(|(from, to)| text.get(from..=to));
    let mut found = Vec::new();
    let mut times = Vec::new();
    let lines = whole.unwrap_or_default().lines().rev();
    for line in lines.filter(|line| line.contains(".request.duration")) {
        let time = time_of(line);
        if times.last() != Some(&time) {
            times.push(time);
        }
        if times.len() > 2 {
            return (found, true);
        }
        found.push(line);
    }
    (found, from_beginning && times.len() == 2)
}

/// The member that says when a line's first point was collected.
fn time_of(line: &str) -> Option<&str> {
    let from = line.find("\"timeUnixNano\":")?;
    let member = line.get(from..)?;
    member.get(..member.find(',')?)
}

/// All request duration points in one `ExportMetricsServiceRequest`.
pub fn parse_request(request: &Value) -> Result<Vec<Series>> {
    let mut found = Vec::new();
    for resource in list(request, "resourceMetrics") {
        let attributes = attributes(&resource["resource"])?;
        let service = attributes
            .get("service.name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        for scope in list(resource, "scopeMetrics") {
            for metric in list(scope, "metrics") {
                let role = match metric["name"].as_str() {
                    Some("http.server.request.duration") => Role::Server,
                    Some("http.client.request.duration") => Role::Client,
                    _ => continue,
                };
                if metric["unit"] != "s" {
                    bail!("{} has unit {}, expected s", metric["name"], metric["unit"]);
                }
                for point in list(&metric["exponentialHistogram"], "dataPoints") {
                    found.push(parse_point(service, role, point)?);
                }
            }
        }
    }
    Ok(found)
}

fn parse_point(service: &str, role: Role, point: &Value) -> Result<Series> {
    let mut series = Series {
        service: service.to_owned(),
        role,
        ..Series::default()
    };
    for (name, value) in attributes(point)? {
        let text = || value.as_str().map(str::to_owned);
        match name.as_str() {
            "http.request.method" => series.method = text().unwrap_or_default(),
            "http.route" if role == Role::Server => series.route = text(),
            "http.response.status_code" => {
                series.status = value.as_u64().and_then(|v| u16::try_from(v).ok());
            }
            "error.type" => series.error_type = text(),
            "network.protocol.version" => series.version = text().unwrap_or_default(),
            "server.address" if role == Role::Client => series.server_address = text(),
            "server.port" if role == Role::Client => series.server_port = value.as_i64(),
            "url.scheme" if role == Role::Server => series.scheme = text(),
            _ => series.unexpected.push(name),
        }
    }
    series.count = integer(&point["count"])?;
    series.sum = point["sum"].as_f64().unwrap_or(0.0);
    series.min = point["min"].as_f64();
    series.max = point["max"].as_f64();
    series.scale = i32::try_from(point["scale"].as_i64().unwrap_or(0))?;
    series.zero_count = integer(&point["zeroCount"])?;
    series.start_unix_ns = integer(&point["startTimeUnixNano"])?;
    let offset = i32::try_from(point["positive"]["offset"].as_i64().unwrap_or(0))?;
    for (index, count) in list(&point["positive"], "bucketCounts").iter().enumerate() {
        let count = integer(count)?;
        if count > 0 {
            series.buckets.push((offset + i32::try_from(index)?, count));
        }
    }
    if integer(&point["flags"])? & 1 == 1 {
        series.count = 0;
    }
    Ok(series)
}

fn bucket_bounds(scale: i32, index: i32) -> (f64, f64) {
    let power = |index: i32| (f64::from(index) * 2f64.powi(-scale)).exp2();
    (power(index), power(index + 1))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// 64-bit integers are strings in OTLP's JSON; absent means zero.
fn integer(value: &Value) -> Result<u64> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => text
            .parse()
            .with_context(|| format!("{text:?} is no integer")),
        other => other
            .as_u64()
            .with_context(|| format!("{other} is no integer")),
    }
}

fn attributes(of: &Value) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for attribute in list(of, "attributes") {
        let key = attribute["key"]
            .as_str()
            .context("an attribute has no key")?
            .to_owned();
        let value = &attribute["value"];
        let plain = if value["intValue"].is_null() {
            value["stringValue"].clone()
        } else {
            Value::from(integer(&value["intValue"])?)
        };
        if found.insert(key.clone(), plain).is_some() {
            bail!("attribute {key} stands twice on one point");
        }
    }
    Ok(found)
}

/// Values of all series of one service and role.
pub fn mean_seconds(series: &[Series]) -> f64 {
    let count: u64 = series.iter().map(|series| series.count).sum();
    series.iter().map(|series| series.sum).sum::<f64>() / as_f64(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeMetrics":[{"metrics":[{"name":"http.server.request.duration","unit":"s","exponentialHistogram":{"dataPoints":[
        {"attributes":[{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"http.response.status_code","value":{"intValue":"200"}},
        {"key":"http.route","value":{"stringValue":"/a"}},{"key":"network.protocol.version","value":{"stringValue":"1.1"}}],
        "startTimeUnixNano":"5","count":"3","sum":0.75,"min":0.25,"max":0.25,"scale":0,"zeroCount":"0",
        "positive":{"offset":-3,"bucketCounts":["3"]}}]}}]}]}]}"#;

    #[test]
    fn reads_a_point_with_its_labels_and_buckets() {
        let series = parse_request(&serde_json::from_str(LINE).unwrap()).unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].service, "shop");
        assert_eq!(
            series[0].key(),
            Key::answered(Role::Server, "GET", "/a", 200)
        );
        assert_eq!((series[0].count, series[0].start_unix_ns), (3, 5));
        assert_eq!(series[0].buckets, [(-3, 3)]);
        assert_eq!(series[0].outside(&(0.2..=0.3)).count(), 0);
        assert!(series[0].outside(&(0.3..=0.4)).count() >= 2);
    }

    #[test]
    fn takes_the_last_line_that_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("export.json");
        assert!(last_push(&file).unwrap().is_empty());
        let one_line = LINE.replace('\n', "");
        std::fs::write(&file, format!("{one_line}\n{}", &one_line[..40])).unwrap();
        assert_eq!(last_push(&file).unwrap()[0].count, 3);
    }

    #[test]
    fn a_collection_that_is_not_written_yet_is_filled_up_from_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("export.json");
        let line = |service: &str, count: &str, time: &str| {
            let time = format!("\"startTimeUnixNano\":\"5\",\"timeUnixNano\":\"{time}\",");
            LINE.replace('\n', "")
                .replace("shop", service)
                .replace("\"count\":\"3\"", &format!("\"count\":\"{count}\""))
                .replace("\"startTimeUnixNano\":\"5\",", &time)
                + "\n"
        };
        let counts = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let series = last_push(&file).unwrap().into_iter();
            series
                .map(|series| (series.service, series.count))
                .collect::<BTreeMap<_, _>>()
        };
        let named = |names: &[(&str, u64)]| {
            let named = names
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            named.collect::<BTreeMap<_, _>>()
        };
        let own = "{\"resourceMetrics\":[]}\n".to_owned();
        let first = [line("old", "1", "1"), own.clone()].concat();
        let second = [line("a", "1", "2"), line("b", "1", "2"), own].concat();
        assert_eq!(counts(&first), named(&[("old", 1)]));
        assert_eq!(
            counts(&[first.as_str(), &second, &line("a", "2", "3")].concat()),
            named(&[("a", 2), ("b", 1)])
        );
        std::fs::rename(&file, directory.path().join("export.json.1")).unwrap();
        assert_eq!(counts(&line("a", "4", "4")), named(&[("a", 4), ("b", 1)]));
    }
}
