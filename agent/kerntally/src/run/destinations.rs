//! `--export` and `--export-file`: where measurements go, over what the configuration says.

use std::path::Path;

use kerntally_export::pull::DEFAULT_LISTEN;

use crate::cli::{Destination, Run};
use crate::config::{Console, Export, Temporality};
use crate::failure::Failure;

/// Applies the options.
pub(crate) fn choose(export: &mut Export, arguments: &Run) -> Result<(), Failure> {
    let list = &arguments.export;
    if !list.is_empty() {
        if list.contains(&Destination::None) && list.len() > 1 {
            return Err(Failure::usage("--export: none stands alone"));
        }
        choose_otlp(export, list)?;
        choose_console(export, list);
        choose_file(export, arguments)?;
        choose_prometheus(export, list)?;
    }
    if let Some(path) = &arguments.export_file {
        export.file = Some(path.clone());
    }
    if export.file.as_deref() == Some(Path::new("-")) {
        // A table between the lines would spoil both.
        export.console = Console::Off;
    }
    Ok(())
}

fn choose_otlp(export: &mut Export, list: &[Destination]) -> Result<(), Failure> {
    if !list.contains(&Destination::Otlp) {
        export.otlp = None;
    } else if export.otlp.is_none() {
        return Err(Failure::usage(
            "--export otlp: export.otlp is null in the configuration",
        ));
    }
    Ok(())
}

fn choose_prometheus(export: &mut Export, list: &[Destination]) -> Result<(), Failure> {
    if !list.contains(&Destination::Prometheus) {
        export.prometheus.listen = None;
        return Ok(());
    }
    if export.temporality != Temporality::Cumulative {
        return Err(Failure::usage(
            "--export prometheus: the pull requires export.temporality: cumulative",
        ));
    }
    export.prometheus.listen.get_or_insert(DEFAULT_LISTEN);
    Ok(())
}

fn choose_console(export: &mut Export, list: &[Destination]) {
    export.console = match (list.contains(&Destination::Console), export.console) {
        (false, _) => Console::Off,
        (true, Console::Json) => Console::Json,
        (true, Console::Auto | Console::Table | Console::Off) => Console::Table,
    };
}

fn choose_file(export: &mut Export, arguments: &Run) -> Result<(), Failure> {
    if !arguments.export.contains(&Destination::File) {
        export.file = None;
    } else if export.file.is_none() && arguments.export_file.is_none() {
        return Err(Failure::usage(
            "--export file: name it with --export-file or export.file",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(list: &[Destination], file: Option<&str>) -> Result<Export, Failure> {
        let mut export = Export::default();
        let arguments = Run {
            export: list.to_vec(),
            export_file: file.map(Into::into),
            ..Run::default()
        };
        choose(&mut export, &arguments).map(|()| export)
    }

    #[test]
    fn a_list_replaces_what_the_configuration_says() {
        let none = chosen(&[Destination::None], None).unwrap();
        assert_eq!(
            (none.otlp, none.console, none.file),
            (None, Console::Off, None)
        );
        let console = chosen(&[Destination::Console], None).unwrap();
        assert_eq!((console.otlp, console.console), (None, Console::Table));
        let unchanged = chosen(&[], None).unwrap();
        assert_eq!(unchanged, Export::default());
    }

    #[test]
    fn the_export_file_is_written_whatever_the_list_says() {
        let export = chosen(&[Destination::None], Some("/x")).unwrap();
        assert_eq!(export.file, Some("/x".into()));
        let stdout = chosen(&[Destination::Console], Some("-")).unwrap();
        assert_eq!(stdout.console, Console::Off);
    }

    #[test]
    fn the_pull_has_an_address_of_its_own() {
        let export = chosen(&[Destination::Prometheus], None).unwrap();
        let listen = export.prometheus.listen.unwrap().to_string();
        assert_eq!((listen.as_str(), export.otlp), ("127.0.0.1:9470", None));
        let mut export = Export {
            temporality: Temporality::Delta,
            ..Export::default()
        };
        let arguments = Run {
            export: vec![Destination::Prometheus],
            ..Run::default()
        };
        assert!(choose(&mut export, &arguments).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(chosen(&[Destination::None, Destination::Otlp], None).is_err());
        assert!(chosen(&[Destination::File], None).is_err());
    }
}
