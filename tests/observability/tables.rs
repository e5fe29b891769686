//! The tables against what a busy run emits.

use std::collections::{BTreeMap, BTreeSet};

use metrics_util::MetricKind;

use super::{assert_same, observed, run};

const DOCUMENT: &str = include_str!("../../docs/observability.md");

/// The rows of the table whose head begins like this.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let lines = DOCUMENT.lines();
    let rows = lines.skip_while(|line| !line.starts_with(head)).skip(2);
    let rows: Vec<_> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "the table `{head}` is there");
    rows
}

/// What stands between backquotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

fn first(cell: &str) -> String {
    quoted(cell).into_iter().next().expect("a name")
}

/// Level, layer, message and fields.
type Line = (String, String, String, BTreeSet<String>);

#[test]
fn every_event_that_is_emitted_is_in_the_table_with_its_fields_and_the_other_way_round() {
    let mut documented = BTreeSet::<Line>::new();
    for row in table("| level | layers |") {
        let [level, layers, message, fields, _] = row[..] else {
            panic!("five columns: {row:?}");
        };
        for layer in layers.split(", ") {
            documented.insert((first(level), layer.into(), message.into(), quoted(fields)));
        }
    }
    let (capture, _) = observed(run::everything);
    let mut emitted = BTreeSet::<Line>::new();
    for event in capture.events() {
        let mut fields = event.names.clone();
        assert!(fields.remove("message") && fields.remove("layer"));
        let level = event.level.to_string().to_lowercase();
        emitted.insert((level, event.layer().into(), event.message().into(), fields));
    }
    assert_same(&emitted, &documented);
}

#[test]
fn every_field_is_explained_and_every_explained_field_is_emitted() {
    let rows = table("| field |");
    let documented = rows.iter().flat_map(|row| quoted(row[0])).collect();
    let (capture, _) = observed(run::everything);
    let emitted = capture.events().into_iter().flat_map(|event| event.names);
    let emitted = emitted.filter(|name| name != "message").collect();
    assert_same(&emitted, &documented);
}

#[test]
fn every_value_that_a_field_is_said_to_have_is_written_as_the_code_writes_it() {
    let rows = table("| field |");
    let said: BTreeMap<_, _> = rows
        .iter()
        .map(|row| (first(row[0]), quoted(row[1])))
        .collect();
    let (capture, _) = observed(run::everything);
    for event in capture.events() {
        for name in ["layer", "error.type", "state", "mode", "cause"] {
            if let Some(value) = event.values.get(name) {
                assert!(
                    said[name].contains(value),
                    "`{name}` is `{value}`: {event:?}"
                );
            }
        }
    }
}

#[test]
fn the_span_has_the_fields_of_its_table_and_no_layer_but_one_opens_any() {
    let rows = table("| level | span |");
    let documented = rows
        .iter()
        .map(|row| (first(row[0]), row[1].to_owned(), quoted(row[2])));
    let (capture, _) = observed(run::everything);
    let emitted = capture.spans().into_iter().map(|span| {
        let level = span.level.to_string().to_lowercase();
        (level, span.name.to_owned(), span.names)
    });
    assert_same(&emitted.collect(), &documented.collect());
    assert!(capture.spans().iter().all(|span| span.is_closed));
}

/// Kind, unit and labels, by name.
type Metrics = BTreeMap<String, (String, String, BTreeSet<String>)>;

#[test]
fn every_metric_that_is_emitted_is_in_the_table_with_unit_and_labels_and_the_other_way_round() {
    let mut documented = Metrics::new();
    for row in table("| metric |") {
        let [name, kind, unit, labels, _] = row[..] else {
            panic!("five columns: {row:?}");
        };
        let unit = if unit.starts_with('{') { "{..}" } else { unit };
        let rest = (kind.to_owned(), unit.to_owned(), quoted(labels));
        documented.insert(first(name), rest);
    }
    let (_, metrics) = observed(run::everything);
    let mut emitted = Metrics::new();
    for series in metrics {
        let kind = match series.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let unit = match series.unit {
            None => "1",
            Some(metrics::Unit::Seconds) => "s",
            Some(_) => "{..}",
        };
        let entry = emitted.entry(series.name).or_default();
        (entry.0, entry.1) = (kind.into(), unit.into());
        entry.2.extend(series.labels.into_keys());
    }
    for (_, _, labels) in emitted.values_mut() {
        // The run's own.
        assert!(labels.remove("upstream"));
    }
    let (emitted, documented) = (
        emitted.into_iter().collect(),
        documented.into_iter().collect(),
    );
    assert_same::<(String, (String, String, BTreeSet<String>))>(&emitted, &documented);
}

#[test]
fn labels_are_bounded_and_their_bounds_are_in_the_table() {
    let rows = table("| label |");
    let documented = rows.iter().flat_map(|row| quoted(row[0])).collect();
    let (_, metrics) = observed(run::everything);
    let mut values = BTreeMap::<String, BTreeSet<String>>::new();
    for (name, value) in metrics.into_iter().flat_map(|series| series.labels) {
        values.entry(name).or_default().insert(value);
    }
    values.remove("upstream");
    assert_same(&values.keys().cloned().collect(), &documented);
    // A hundred models were asked for; two classes are configured, and all others are one.
    let models = &values["gen_ai.request.model"];
    assert_eq!(models.iter().collect::<Vec<_>>(), ["*", "large-*"]);
    assert!(values["error.type"].len() <= 11);
}

#[test]
fn nothing_that_is_told_contains_a_secret() {
    let (capture, metrics) = observed(run::everything);
    for text in [capture.text(), format!("{metrics:?}")] {
        assert!(text.contains("a1"), "the alias is told");
        assert!(!text.contains(run::MARK), "{text}");
    }
}
