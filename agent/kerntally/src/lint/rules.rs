//! The rules of the emission contract: a stable name each, how grave it is, and what is expected.

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The contract is broken.
    Error,
    /// It holds, but something downstream may stumble.
    Warning,
}

impl Severity {
    /// As reports say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! rules {
    ($($variant:ident = $id:literal, $severity:ident, $expected:literal;)+) => {
        /// A rule. Names are promised to users: they may be added and never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Rule { $($variant),+ }

        impl Rule {
            /// All of them, in the order of reports.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its stable name.
            pub(crate) fn id(self) -> &'static str {
                match self { $(Self::$variant => $id),+ }
            }

            /// How grave it is to break it.
            pub(crate) fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),+ }
            }

            /// What it expects.
            pub(crate) fn expected(self) -> &'static str {
                match self { $(Self::$variant => $expected),+ }
            }
        }
    };
}

rules! {
    JsonForm = "json.form", Error,
        "fields of the types that OTLP's JSON gives them";
    JsonTruncated = "json.truncated", Warning,
        "a whole request on the last line; it may still be being written";

    ResourceServiceName = "resource.service_name", Error,
        "a `service.name` on every resource";
    ResourceUnknownService = "resource.unknown_service", Warning,
        "a `service.name` that says which service it is";
    ResourceInstance = "resource.instance_id", Error,
        "a `service.instance.id` on resources with cumulative points, so that two writers differ";
    ResourceDuplicate = "resource.duplicate", Error,
        "each combination of service.namespace, service.name and service.instance.id once in a push";
    ResourceSdk = "resource.reserved_sdk_name", Error,
        "a `telemetry.sdk.name` of its own: `opentelemetry` is reserved for OpenTelemetry's SDKs";
    ScopeSchema = "scope.schema_url", Error,
        "the schema https://opentelemetry.io/schemas/1.44.0 on kerntally's own scope";

    InstrumentName = "instrument.name", Error,
        "a letter, then letters, digits, `_`, `.`, `-` or `/`, at most 255";
    InstrumentUnknown = "instrument.unknown", Error,
        "a name that the semantic conventions have in the namespaces `http.` and `rpc.`";
    InstrumentDeprecated = "instrument.deprecated", Error,
        "the name that replaced it in the semantic conventions";
    InstrumentUnit = "instrument.unit", Error,
        "the unit of the semantic conventions";
    InstrumentType = "instrument.type", Error,
        "the kind of the semantic conventions: histograms for durations and sizes, a sum that is not monotonic for active requests";
    InstrumentMixed = "instrument.mixed", Error,
        "one kind of data under one name";
    InstrumentRepeated = "instrument.repeated", Error,
        "each name once in a scope";

    TemporalityUnknown = "temporality.unknown", Error,
        "cumulative or delta";
    TemporalityMixed = "temporality.mixed", Error,
        "one temporality for one instrument of a service";

    AttributeUnexpected = "attribute.unexpected", Error,
        "only attributes that the semantic conventions have for the instrument";
    AttributeDeprecated = "attribute.deprecated", Error,
        "the name that replaced it in the semantic conventions";
    AttributeUnbounded = "attribute.unbounded", Error,
        "no attribute that holds whole paths, queries, addresses of clients or user agents";
    AttributeOptIn = "attribute.opt_in", Warning,
        "not to rely on attributes that the semantic conventions leave out by default";
    AttributeMissing = "attribute.missing", Error,
        "the attributes that the semantic conventions require";
    AttributeDuplicate = "attribute.duplicate", Error,
        "each key once";
    AttributeType = "attribute.type", Error,
        "the type of the semantic conventions";
    AttributeEmpty = "attribute.empty", Error,
        "keys and values that are not empty";
    AttributeLength = "attribute.length", Error,
        "values of at most 1024 bytes";

    MethodUnknown = "method.unknown", Error,
        "a registered method, PATCH, QUERY, or `_OTHER`";
    StatusUnknown = "status.unknown", Error,
        "a status code from 100 to 599, or a class from 1xx to 5xx";
    StatusClass = "status.class", Warning,
        "`http.response.status_code`; the class is a deviation that was asked for by `status: class`";
    StatusMissing = "status.missing", Error,
        "a status code, or an `error.type` that says why there is none";
    ErrorTypeMissing = "error_type.missing", Error,
        "an `error.type` on errors: 5xx on servers, 4xx and 5xx on clients";
    ErrorTypeUnexpected = "error_type.unexpected", Error,
        "no `error.type` on success; on servers 4xx is success";
    ErrorTypeMismatch = "error_type.mismatch", Error,
        "the status code as a string, or `truncated_response`";
    ErrorTypeUnknown = "error_type.unknown", Warning,
        "client_disconnected, no_response, connection_reset or process_exit where there is no status";
    SchemeUnknown = "scheme.unknown", Error,
        "`http` or `https`";
    ProtocolVersion = "protocol_version.unknown", Error,
        "1.0, 1.1, 2 or 3";
    ServerPort = "server_port.range", Error,
        "a port from 1 to 65535";
    ServerAddress = "server_address.form", Error,
        "a host name or an address in lower case, at most 64 bytes, without scheme and port; or a Unix socket's name";
    RouteRaw = "route.raw", Error,
        "a template: numbers, UUIDs, hexadecimal ids, dates and addresses stand for parameters";
    RouteQuery = "route.query", Error,
        "no query string and no fragment";
    OverflowForm = "overflow.form", Error,
        "`otel.metric.overflow: true` as the only attribute of an overflow series";
    CardinalityDistinct = "cardinality.distinct", Error,
        "few distinct values of one attribute within one service and instrument (--max-distinct)";

    SeriesDuplicate = "series.duplicate", Error,
        "each set of attributes once in a push";
    SeriesOverlap = "series.overlap", Error,
        "windows of one series that do not overlap";
    SeriesDecrease = "series.decrease", Error,
        "cumulative counts that never fall without a new start time";
    SeriesOrder = "series.order", Error,
        "points of one series in the order of time";

    PointTime = "point.time", Error,
        "a time in nanoseconds since the Unix epoch";
    PointStart = "point.start", Error,
        "a start time on sums and histograms";
    PointWindow = "point.window", Error,
        "a start that is not after the time";
    PointFlags = "point.flags", Error,
        "no flag but no-recorded-value";
    PointEnded = "point.ended", Error,
        "no-recorded-value on cumulative points only, without values";
    PointValue = "point.value", Error,
        "a finite value; not below zero where things are counted";

    HistogramCount = "histogram.count", Error,
        "a count that is the sum of the buckets and the zero count";
    HistogramBuckets = "histogram.buckets", Error,
        "at most 160 buckets a side";
    HistogramScale = "histogram.scale", Error,
        "a scale from -10 to 20";
    HistogramNegative = "histogram.negative", Error,
        "no negative values where durations or sizes are measured";
    HistogramBounds = "histogram.bounds", Error,
        "finite bounds in ascending order, and one bucket more than bounds";
    HistogramSum = "histogram.sum", Error,
        "a finite sum between count times min and count times max, 0 without values";
    HistogramMinMax = "histogram.min_max", Error,
        "a finite min that is not above max, both within the buckets";

    ExemplarWindow = "exemplar.window", Error,
        "a time within the point's window";
    ExemplarBucket = "exemplar.bucket", Error,
        "a value that fell into one of the point's buckets, from min to max";
    ExemplarValue = "exemplar.value", Error,
        "a finite value";
    ExemplarTrace = "exemplar.trace_id", Error,
        "a trace id of 16 bytes that are not all zero";
    ExemplarSpan = "exemplar.span_id", Error,
        "a span id of 8 bytes that are not all zero, or none; none on servers, where the header's is the caller's";
    ExemplarAttributes = "exemplar.filtered_attributes", Error,
        "no filtered attributes on kerntally's exemplars";
    ExemplarOrder = "exemplar.order", Error,
        "exemplars of a point in the order of time";
    ExemplarRepeated = "exemplar.repeated", Error,
        "each exemplar sent once";
    ExemplarRequired = "exemplar.required", Error,
        "exemplars on each duration of each service (--require-exemplars)";

    BackendWantsCumulative = "config.delta_to_cumulative_only", Error,
        "cumulative points, or a deltatocumulative processor before this back end";
    BackendWantsDelta = "config.cumulative_to_delta_only", Error,
        "delta points, or a cumulativetodelta processor before this back end";
    PullWantsCumulative = "config.pull_of_delta", Error,
        "cumulative points where they are pulled: a scrape shows totals";
    ConfigIdentity = "config.cumulative_without_identity", Error,
        "delta points where resources have no identity: totals of two writers look like resets";
    ConversionPartial = "config.partial_conversion", Warning,
        "explicit histograms, or a collector whose cumulativetodelta converts exponential ones";
    ConfigUndefined = "config.undefined_component", Error,
        "every component that a pipeline names, defined in its section";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_what_is_expected() {
        let ids: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(ids.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(rule.id().contains('.'), "{rule:?}");
            assert!(!rule.expected().is_empty() && !rule.expected().ends_with('.'));
        }
    }

    #[test]
    fn every_rule_is_explained_to_users() {
        let document = include_str!("../../../../docs/commands.md");
        for rule in Rule::ALL {
            assert!(
                document.contains(&format!("`{}`", rule.id())),
                "docs/commands.md does not explain `{}`",
                rule.id()
            );
        }
    }
}
