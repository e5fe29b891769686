//! `/-/metrics`: everything that can be counted, as Prometheus reads it.
//!
//! The recorder is the process's; what handles know is published into it when somebody asks, and
//! the histograms of calls are recorded as calls end.

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tower_relay::metrics::{
    DURATION_BUCKETS, OPERATION_DURATION, QUEUE_WAIT, TIME_TO_FIRST_BYTE, TOKEN_BUCKETS,
    TOKEN_USAGE, describe,
};

use crate::upstream::Body;

static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();

/// What is not published for so long belongs to a configuration that is no more: everything else is
/// published right before it is shown.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// How often what calls have recorded is put into buckets, whether or not anybody asks: until then
/// each of them takes room.
const TIDIED_EVERY: Duration = Duration::from_secs(5);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Has metrics recorded from now on; to be called before there is an upstream, in the runtime.
pub(super) fn install() {
    INSTALLED.get_or_init(|| {
        let published = MetricKindMask::GAUGE | MetricKindMask::COUNTER;
        let builder = PrometheusBuilder::new()
            .with_recommended_naming(true)
            .idle_timeout(published, Some(FORGOTTEN_AFTER));
        let buckets = [
            (OPERATION_DURATION, DURATION_BUCKETS),
            (TIME_TO_FIRST_BYTE, DURATION_BUCKETS),
            (QUEUE_WAIT, DURATION_BUCKETS),
            (TOKEN_USAGE, TOKEN_BUCKETS),
        ];
        let builder = buckets
            .into_iter()
            .fold(builder, |builder, (name, bounds)| {
                let builder =
                    builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds);
                builder.expect("there are some")
            });
        let handle = builder.install_recorder();
        let handle = handle.expect("nobody else installs a recorder");
        describe();
        let tidied = handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TIDIED_EVERY).await;
                tidied.run_upkeep();
            }
        });
        handle
    });
}

/// What has been published and recorded, by name.
pub(super) fn answer() -> Response<Body> {
    let text = INSTALLED.get().map(PrometheusHandle::render);
    let text = sorted(&text.unwrap_or_default());
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// The exporter's order is chance; a person wants to find things again.
fn sorted(text: &str) -> String {
    let mut families: Vec<_> = text.split_terminator("\n\n").collect();
    families.sort_unstable();
    families
        .into_iter()
        .flat_map(|family| [family, "\n\n"])
        .collect()
}
