//! The upstreams by the paths they serve.

use std::{
    fmt::Write as _,
    sync::{Arc, PoisonError, RwLock},
};

use http::Response;
use tokio::time::Instant;

use super::{
    history::History, metrics, page, ramps::SavedRamp, status::Status, upstream::Upstream,
};
use crate::{
    config::{Config, Front, Pattern},
    upstream::Body,
};

/// What is served now; a reload puts others in its place.
pub(super) struct Routes {
    served: RwLock<Arc<Served>>,
    history: History,
}

/// What a configuration has made of the relay.
pub(super) struct Served {
    front: Front,
    upstreams: Box<[Arc<Upstream>]>,
}

impl Routes {
    pub(super) fn new(config: Config) -> Self {
        metrics::install();
        let upstreams = config.upstreams.into_iter();
        let upstreams = upstreams.map(|config| Arc::new(Upstream::new(config)));
        let served = Served {
            front: config.front,
            upstreams: upstreams.collect(),
        };
        Self {
            served: RwLock::new(Arc::new(served)),
            history: History::new(page::random()),
        }
    }

    /// Upstreams of the same name and provider go on with other keys, paths and quotas, others
    /// begin or end; calls in flight end where they began.
    pub(super) fn reload(&self, config: Config) {
        let present = self.now();
        let upstreams = config.upstreams.into_iter().map(|config| {
            let before = present.upstreams.iter().find(|upstream| {
                let before = upstream.config();
                (&before.name, before.provider.name) == (&config.name, config.provider.name)
            });
            Arc::new(match before {
                Some(upstream) => upstream.reloaded(config),
                None => Upstream::new(config),
            })
        });
        let served = Served {
            front: config.front,
            upstreams: upstreams.collect(),
        };
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }

    /// Remembers how it is; to be called once every [`EVERY`](super::history::EVERY).
    pub(super) fn sample(&self) {
        let served = self.now();
        let upstreams = served.upstreams.iter();
        let readings =
            upstreams.map(|upstream| (upstream.config().name.clone(), upstream.reading()));
        self.history.take(Instant::now(), readings.collect());
    }

    pub(super) const fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn now(&self) -> Arc<Served> {
        let served = self.served.read();
        Arc::clone(&served.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Served {
    pub(super) const fn front(&self) -> &Front {
        &self.front
    }

    /// The upstream whose pattern fits `path` best.
    pub(super) fn find(&self, path: &str) -> Option<Arc<Upstream>> {
        let fits = self.upstreams.iter().filter_map(|upstream| {
            let fit = Pattern::closest(&upstream.config().paths, path)?;
            Some((fit, upstream))
        });
        let (_, upstream) = fits.max_by_key(|(fit, _)| *fit)?;
        Some(Arc::clone(upstream))
    }

    /// The upstreams and their paths, for who asked for another.
    pub(super) fn known(&self) -> String {
        let mut known = String::new();
        for upstream in &self.upstreams {
            let config = upstream.config();
            let mut paths: Vec<_> = config.paths.iter().map(Pattern::to_string).collect();
            if paths.is_empty() {
                paths.push(Pattern::all().to_string());
            }
            let comma = if known.is_empty() { "" } else { "; " };
            let _ = write!(
                known,
                "{comma}`{}` serves {}",
                config.name,
                paths.join(", ")
            );
        }
        known
    }

    pub(super) fn status(&self) -> Status {
        let upstreams = self.upstreams.iter();
        Status {
            upstreams: upstreams.map(|upstream| upstream.status()).collect(),
        }
    }

    /// What was used of all whose growth is bounded.
    pub(super) fn ramps(&self) -> Vec<SavedRamp> {
        let upstreams = self.upstreams.iter();
        upstreams.flat_map(|upstream| upstream.ramps()).collect()
    }

    /// All that can be counted, as Prometheus reads it.
    pub(super) fn metrics(&self) -> Response<Body> {
        for upstream in &self.upstreams {
            upstream.publish();
        }
        metrics::answer()
    }
}
