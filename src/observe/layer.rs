use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::Observe;
#[cfg(feature = "metrics")]
use crate::metrics::Labels;
use crate::{
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    protocol::{ClassifyFn, Plain},
};

/// Opens a span for each call and records its duration, its tokens and the time to its first byte;
/// see the [module](super) for the whole.
///
/// ```
/// use tower_relay::observe::ObserveLayer;
///
/// let layer = ObserveLayer::new("openai").operation("embeddings").models(["text-embedding-*"]);
/// assert!(format!("{layer:?}").contains("embeddings"));
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct ObserveLayer<P = Plain> {
    settings: Arc<Settings>,
    protocol: P,
}

/// What is told of every call.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) provider: Arc<str>,
    pub(super) operation: &'static str,
    pub(super) server: Option<Arc<str>>,
    pub(super) models: Vec<Arc<str>>,
    #[cfg(feature = "metrics")]
    pub(super) labels: Labels,
}

impl ObserveLayer {
    /// Observes calls of `provider`, by the name that OpenTelemetry gives it
    /// (`gen_ai.provider.name`): "openai", "anthropic", "aws.bedrock", "gcp.gemini".
    pub fn new(provider: impl Into<Arc<str>>) -> Self {
        Self {
            settings: Arc::new(Settings {
                provider: provider.into(),
                operation: "chat",
                server: None,
                models: Vec::new(),
                #[cfg(feature = "metrics")]
                labels: Labels::new(),
            }),
            protocol: Plain,
        }
    }
}

impl<P> ObserveLayer<P> {
    /// What the calls are (`gen_ai.operation.name`): "chat", "embeddings", "generate_content".
    /// Default: "chat", because most are.
    pub fn operation(self, name: &'static str) -> Self {
        self.with(|settings| settings.operation = name)
    }

    /// The host that is called (`server.address`). Default: it is not told, because with several
    /// scopes it is not known before a key is picked.
    pub fn server_address(self, host: impl Into<Arc<str>>) -> Self {
        self.with(|settings| settings.server = Some(host.into()))
    }

    /// The models that metrics tell apart (the label `gen_ai.request.model`), as in a pool's
    /// configuration: names, or beginnings of names and an asterisk; the longest that matches counts.
    /// All others are `*`. Default: none, so that all are.
    pub fn models<I: IntoIterator<Item: Into<Arc<str>>>>(self, patterns: I) -> Self {
        self.with(|settings| settings.models = patterns.into_iter().map(Into::into).collect())
    }

    /// Labels of all its metrics. Default: none.
    #[cfg(feature = "metrics")]
    pub fn labels(self, labels: Labels) -> Self {
        self.with(|settings| settings.labels = labels)
    }

    /// Takes another strategy, which says what answers mean, which model is asked, and when an
    /// answer has ended.
    pub fn protocol<Q>(self, protocol: Q) -> ObserveLayer<Q> {
        ObserveLayer {
            settings: self.settings,
            protocol,
        }
    }

    /// For calls that carry their facts, inside a [`FactsLayer`](crate::call::FactsLayer).
    pub fn noted(self) -> ObserveLayer<Noted<P>> {
        ObserveLayer {
            settings: self.settings,
            protocol: Noted::new(self.protocol),
        }
    }

    /// Reads each call's outcome with `classify`.
    pub fn classify<Res, C: Fn(Result<&Res, &BoxError>) -> Outcome>(
        self,
        classify: C,
    ) -> ObserveLayer<ClassifyFn<P, C>> {
        ObserveLayer {
            settings: self.settings,
            protocol: ClassifyFn::new(self.protocol, classify),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl Settings {
    /// The label of a model: the longest pattern that it matches.
    #[cfg(feature = "metrics")]
    pub(super) fn class_of(&self, model: &str) -> Arc<str> {
        let matching = self.models.iter().filter(|pattern| {
            let beginning = pattern.strip_suffix('*');
            beginning.map_or(&***pattern == model, |beginning| {
                model.starts_with(beginning)
            })
        });
        let closest = matching.max_by_key(|pattern| (!pattern.ends_with('*'), pattern.len()));
        closest.map_or_else(|| "*".into(), Arc::clone)
    }
}

impl<S, P: Clone> Layer<S> for ObserveLayer<P> {
    type Service = Observe<S, P>;

    fn layer(&self, inner: S) -> Observe<S, P> {
        Observe::new(inner, Arc::clone(&self.settings), self.protocol.clone())
    }
}

impl<P> fmt::Debug for ObserveLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObserveLayer").field(&self.settings).finish()
    }
}
