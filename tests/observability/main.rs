//! What the layers tell of themselves, against the tables of `docs/observability.md`.
#![cfg(all(feature = "full", feature = "test-util"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read the paused clock and sleep on it"
)]
#![allow(missing_docs, reason = "a test's name is its claim")]

mod calls;
mod capture;
mod run;
mod spans;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};
use tracing::Dispatch;
use tracing_subscriber::{Registry, layer::SubscriberExt};

use self::capture::Capture;

/// A metric that was recorded.
#[derive(Debug)]
struct Series {
    kind: MetricKind,
    name: String,
    labels: BTreeMap<String, String>,
    unit: Option<metrics::Unit>,
    value: DebugValue,
}

/// Runs `work` in virtual time, with all that it tells.
fn observed<F: Future<Output = ()>>(work: impl FnOnce() -> F) -> (Capture, Vec<Series>) {
    let capture = Capture::default();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let subscriber = Dispatch::new(Registry::default().with(capture.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    tracing::dispatcher::with_default(&subscriber, || {
        // Another test's thread may have met an event first, when nobody was interested in any.
        tracing::callsite::rebuild_interest_cache();
        metrics::with_local_recorder(&recorder, || {
            tower_relay::metrics::describe();
            runtime.block_on(async { work().await });
        });
    });
    let metrics = snapshotter.snapshot().into_vec().into_iter();
    let metrics = metrics.map(|(key, unit, _, value)| {
        let (kind, key) = key.into_parts();
        let labels = key.labels().map(|label| (label.key(), label.value()));
        Series {
            kind,
            name: key.name().to_owned(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            unit,
            value,
        }
    });
    (capture, metrics.collect())
}

/// Those that are in one set and not in the other.
fn assert_same<T: Ord + std::fmt::Debug>(emitted: &BTreeSet<T>, documented: &BTreeSet<T>) {
    let undocumented: Vec<_> = emitted.difference(documented).collect();
    let never_emitted: Vec<_> = documented.difference(emitted).collect();
    assert!(
        undocumented.is_empty(),
        "not in the table: {undocumented:#?}"
    );
    assert!(
        never_emitted.is_empty(),
        "never emitted: {never_emitted:#?}"
    );
}
