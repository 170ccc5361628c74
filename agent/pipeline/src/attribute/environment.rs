//! What a process says about itself: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.

use percent_encoding::percent_decode_str;

/// Longest value taken over, in bytes.
const VALUE_BYTES: usize = 255;

/// Resource attributes found in an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) version: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) others: Vec<(String, String)>,
}

/// Reads the variables; of the attributes only the four standing ones and those in `allow` are taken.
pub(super) fn declared(environment: &[(String, String)], allow: &[String]) -> Declared {
    let variable = |wanted: &str| {
        let found = environment.iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value.trim())
    };
    let mut declared = Declared::default();
    for item in variable("OTEL_RESOURCE_ATTRIBUTES").split(',') {
        let Some((key, value)) = item.split_once('=') else {
            continue;
        };
        let Some(value) = decoded(value) else {
            continue;
        };
        match key.trim() {
            "service.name" => declared.name = Some(value),
            "service.namespace" => declared.namespace = Some(value),
            "service.version" => declared.version = Some(value),
            "deployment.environment.name" => declared.environment = Some(value),
            key if allow.iter().any(|allowed| allowed == key) => {
                declared.others.push((key.to_owned(), value));
            }
            _ => {}
        }
    }
    if let Some(name) = bounded(variable("OTEL_SERVICE_NAME")) {
        declared.name = Some(name);
    }
    declared
}

fn decoded(value: &str) -> Option<String> {
    bounded(&percent_decode_str(value.trim()).decode_utf8().ok()?)
}

/// A value that can stand as an attribute; `None` if nothing of it can.
pub(super) fn bounded(value: &str) -> Option<String> {
    let value = value.trim();
    let end = value.floor_char_boundary(VALUE_BYTES);
    let value: String = value[..end]
        .chars()
        .filter(|char| !char.is_control())
        .collect();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], allow: &[&str]) -> Declared {
        let owned: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let allow: Vec<_> = allow.iter().map(|name| (*name).to_owned()).collect();
        declared(&owned, &allow)
    }

    #[test]
    fn reads_the_standing_attributes_decoded() {
        let found = of(
            &[(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=a%20b, service.namespace = shop ,service.version=1,\
                 deployment.environment.name=prod,team=x,host.name=y,broken,bad=%ff",
            )],
            &["team"],
        );
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found.name, text("a b"));
        assert_eq!(found.namespace, text("shop"));
        assert_eq!(found.version, text("1"));
        assert_eq!(found.environment, text("prod"));
        assert_eq!(found.others, [("team".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn the_service_name_variable_goes_first_unless_empty() {
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a");
        assert_eq!(
            of(&[attributes, ("OTEL_SERVICE_NAME", "b")], &[])
                .name
                .as_deref(),
            Some("b")
        );
        assert_eq!(
            of(&[attributes, ("OTEL_SERVICE_NAME", " ")], &[])
                .name
                .as_deref(),
            Some("a")
        );
    }

    #[test]
    fn values_are_bounded() {
        let name = of(&[("OTEL_SERVICE_NAME", &"\u{e9}".repeat(300))], &[])
            .name
            .unwrap();
        assert!(name.len() <= VALUE_BYTES);
        assert_eq!(bounded("a\nb"), Some("ab".to_owned()));
        assert_eq!(bounded("\u{7}"), None);
    }
}
