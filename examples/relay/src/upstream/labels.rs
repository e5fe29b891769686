//! By what the metrics of upstreams are told apart: nothing that callers invent.

use std::collections::BTreeSet;

use http::uri::Authority;
use tower_relay::metrics::Labels;

use crate::config;

/// What all metrics of an upstream have in common.
pub(crate) fn of(config: &config::Upstream) -> Labels {
    Labels::new().label("upstream", config.name.as_str())
}

/// The same, of one of its hosts.
pub(crate) fn of_host(labels: &Labels, host: &Authority) -> Labels {
    let labels = labels.clone().label("server.address", host.host());
    match host.port_u16() {
        Some(port) => labels.label("server.port", port.to_string()),
        None => labels,
    }
}

/// The models that the configuration names, by which calls are told apart.
pub(crate) fn models(config: &config::Upstream) -> BTreeSet<&str> {
    let quotas = config.scopes.iter().flat_map(|scope| &scope.quotas);
    let models = quotas.flat_map(|quota| &quota.models);
    models.map(String::as_str).collect()
}

/// What calls to this provider are, after OpenTelemetry's conventions.
pub(crate) fn operation(config: &config::Upstream) -> &'static str {
    match config.provider.name {
        "gemini" => "generate_content",
        // Whatever else is forwarded is rare.
        _ => "chat",
    }
}
