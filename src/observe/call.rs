use std::{fmt, sync::Arc};

use super::layer::Settings;
#[cfg(feature = "metrics")]
use crate::{
    clock,
    metrics::{Labels, OPERATION_DURATION, TIME_TO_FIRST_BYTE, TOKEN_USAGE},
    policy::Timestamp,
};
use crate::{
    outcome::{Ending, Usage, Verdict},
    protocol::Guard,
};

/// One call under observation. Told how the answer ended, or dropped, it closes the span and
/// records the call.
#[must_use = "dropping it tells that the call has ended"]
pub struct Watch {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
    #[cfg(feature = "metrics")]
    began: Timestamp,
    #[cfg(feature = "metrics")]
    labels: Labels,
    /// None before the head.
    verdict: Option<Verdict>,
    is_told: bool,
}

impl Watch {
    pub(super) fn new(settings: &Arc<Settings>, model: Option<&str>) -> Self {
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = (settings, model);
        Self {
            #[cfg(feature = "tracing")]
            span: span(settings, model),
            #[cfg(feature = "metrics")]
            began: clock::now(),
            #[cfg(feature = "metrics")]
            labels: labels(settings, model),
            verdict: None,
            is_told: false,
        }
    }

    /// Does some of the call's work in its span.
    #[inline]
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        return self.span.in_scope(work);
        #[cfg(not(feature = "tracing"))]
        work()
    }

    /// The head of the answer is there.
    pub(super) fn answered(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
        #[cfg(feature = "metrics")]
        if verdict == Verdict::Success {
            self.record(TIME_TO_FIRST_BYTE, &self.labels);
        }
    }

    /// There is no answer.
    pub(super) fn failed(mut self, verdict: Verdict) {
        self.tell(verdict, Usage::UNKNOWN);
    }

    fn tell(&mut self, verdict: Verdict, usage: Usage) {
        self.is_told = true;
        let failure = (verdict != Verdict::Success).then(|| verdict.name());
        let tokens = [("input", usage.input()), ("output", usage.output())];
        #[cfg(feature = "tracing")]
        {
            if let Some(failure) = failure {
                self.span.record("error.type", failure);
                self.span.record("otel.status_code", "ERROR");
            }
            for (kind, tokens) in tokens {
                if let Some(tokens) = tokens {
                    let name = match kind {
                        "input" => "gen_ai.usage.input_tokens",
                        _ => "gen_ai.usage.output_tokens",
                    };
                    self.span.record(name, tokens);
                }
            }
        }
        #[cfg(feature = "metrics")]
        {
            match failure {
                Some(failure) => {
                    self.record(OPERATION_DURATION, &self.labels.and("error.type", failure));
                }
                None => self.record(OPERATION_DURATION, &self.labels),
            }
            for (kind, tokens) in tokens {
                if let Some(tokens) = tokens {
                    let labels = self.labels.and("gen_ai.token.type", kind);
                    labels.histogram(TOKEN_USAGE).record(tokens as f64);
                }
            }
        }
    }

    #[cfg(feature = "metrics")]
    fn record(&self, name: &'static str, labels: &Labels) {
        let elapsed = clock::now().since(self.began);
        labels.histogram(name).record(elapsed.as_secs_f64());
    }
}

#[cfg(feature = "tracing")]
fn span(settings: &Settings, model: Option<&str>) -> tracing::Span {
    use tracing::field::Empty;

    let Settings {
        provider,
        operation,
        server,
        ..
    } = settings;
    // OpenTelemetry names the span "{operation} {model}".
    let (space, name) = model.map_or(("", ""), |model| (" ", model));
    tracing::info_span!(
        "gen_ai.client.operation",
        "otel.name" = %format_args!("{operation}{space}{name}"),
        "otel.kind" = "client",
        "otel.status_code" = Empty,
        "gen_ai.operation.name" = operation,
        "gen_ai.provider.name" = &**provider,
        "gen_ai.request.model" = model,
        "gen_ai.usage.input_tokens" = Empty,
        "gen_ai.usage.output_tokens" = Empty,
        "server.address" = server.as_deref(),
        "http.request.resend_count" = Empty,
        "error.type" = Empty,
    )
}

#[cfg(feature = "metrics")]
fn labels(settings: &Settings, model: Option<&str>) -> Labels {
    let labels = settings
        .labels
        .and("gen_ai.operation.name", settings.operation);
    let labels = labels.label("gen_ai.provider.name", Arc::clone(&settings.provider));
    let labels = match model {
        Some(model) => labels.label("gen_ai.request.model", settings.class_of(model)),
        None => labels,
    };
    match &settings.server {
        Some(server) => labels.label("server.address", Arc::clone(server)),
        None => labels,
    }
}

impl Guard for Watch {
    fn finish(mut self, ending: Ending) {
        // As the other layers count: an answer that its caller has dropped is no failure.
        let verdict = match (self.verdict, ending.failure()) {
            (Some(Verdict::Success) | None, Some(failure)) => failure.verdict(),
            (verdict, _) => verdict.unwrap_or(Verdict::Success),
        };
        // A failure reports what is charged for it, which is no word of the server's.
        let reported = match self.verdict {
            Some(Verdict::Success) | None => ending.reported(),
            Some(_) => Usage::UNKNOWN,
        };
        self.tell(verdict, reported);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_told {
            // After the head nothing is known of the end: a protocol that holds no body.
            self.tell(self.verdict.unwrap_or(Verdict::Cancelled), Usage::UNKNOWN);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}
