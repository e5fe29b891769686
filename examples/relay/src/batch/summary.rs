//! What a run came to.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use embedded_provider::Provider as Embedded;
use serde::Serialize;

use super::{
    problem::Problem,
    progress::{Books, counted, span},
    store::Files,
};
use crate::{complain, config::Config};

/// Something is among the dead letters.
const DEAD: u8 = 3;
/// Something is left.
const LEFT: u8 = 4;

/// The figures; those of calls and tokens are of this run alone.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    requests: u64,
    answered: u64,
    /// Of these by runs before this one.
    answered_before: u64,
    dead: u64,
    dead_before: u64,
    pub(super) left: u64,
    seconds: f64,
    per_second: f64,
    calls: u64,
    calls_sent_again: u64,
    calls_refused: u64,
    calls_failed: u64,
    input_tokens: u64,
    output_tokens: u64,
    output: String,
    dead_letters: Option<String>,
    /// Why some are left, of the first.
    reasons: Vec<String>,
    problem: Option<String>,
    pub(super) exit_code: u8,
}

impl Summary {
    pub(super) fn new(
        books: &Books,
        files: &Files,
        reasons: Vec<String>,
        problem: Option<&Problem>,
    ) -> Self {
        let counts = books.counts();
        let answered = books.answered_before + counts.answered;
        let dead = books.dead_before + counts.dead;
        let left = books.requests.saturating_sub(answered + dead);
        let seconds = books.started.elapsed().as_secs_f64();
        let thousandths = |number: f64| (number * 1e3).round() / 1e3;
        Self {
            requests: books.requests,
            answered,
            answered_before: books.answered_before,
            dead,
            dead_before: books.dead_before,
            left,
            seconds: thousandths(seconds),
            per_second: thousandths((counts.answered + counts.dead) as f64 / seconds),
            calls: counts.calls,
            calls_sent_again: counts.again,
            calls_refused: counts.refused,
            calls_failed: counts.failed,
            input_tokens: counts.input_tokens,
            output_tokens: counts.output_tokens,
            output: files.output.display().to_string(),
            dead_letters: (dead > 0).then(|| files.dead.display().to_string()),
            reasons,
            problem: problem.map(ToString::to_string),
            exit_code: match (problem, left, dead) {
                (Some(_), ..) => crate::FAILED,
                (None, 0, 0) => 0,
                (None, 0, _) => DEAD,
                (None, ..) => LEFT,
            },
        }
    }

    /// Prints it: for people on standard error, as JSON on standard output.
    pub(super) fn print(
        &self,
        json: bool,
        pretended: Option<&Embedded>,
        config: &Config,
    ) -> io::Result<()> {
        if json {
            let text = serde_json::to_string(self)?;
            return writeln!(io::stdout(), "{text}");
        }
        complain(&self.text());
        if let Some(text) = pretended.and_then(|provider| counted_by(provider, config)) {
            complain(&text);
        }
        Ok(())
    }

    fn text(&self) -> String {
        let now = (self.answered - self.answered_before) + (self.dead - self.dead_before);
        let mut text = format!(
            "{} of {} requests done",
            counted(self.answered + self.dead),
            counted(self.requests)
        );
        if now > 0 {
            let time = match self.seconds {
                ..10.0 => format!("{:.1} s", self.seconds),
                _ => span(Duration::from_secs_f64(self.seconds)),
            };
            let _ = write!(
                text,
                ", {} of them in the {time} of this run, {:.1} per second; calls: {}, of which {} \
                 sent again, {} refused, {} failed; tokens: {} in, {} out",
                counted(now),
                self.per_second,
                counted(self.calls),
                counted(self.calls_sent_again),
                counted(self.calls_refused),
                counted(self.calls_failed),
                counted(self.input_tokens),
                counted(self.output_tokens),
            );
        }
        let mut line = |count: u64, what: &str| {
            let _ = write!(text, "\n  {:>9} {what}", counted(count));
        };
        line(self.answered, &format!("answered, in {}", self.output));
        if let Some(file) = &self.dead_letters {
            line(
                self.dead,
                &format!("can never succeed, in {file}, each with its error"),
            );
        }
        if self.left > 0 {
            line(self.left, "left; the same command goes on with them");
        }
        for reason in &self.reasons {
            let _ = write!(text, "\n            {reason}");
        }
        text
    }
}

/// What the pretend provider says of it, by its own books.
fn counted_by(provider: &Embedded, config: &Config) -> Option<String> {
    let counters = provider.counters();
    let upstreams = config.upstreams.iter();
    let scopes = upstreams.flat_map(|upstream| &upstream.scopes);
    let used = scopes.filter_map(|scope| {
        let called = provider.scope_counters(&scope.name)?.calls > 0;
        let share = provider.quota_used_share(&scope.name)?;
        called.then(|| format!("{:.1} % of {}'s quota", share * 100.0, scope.name))
    });
    let used: Vec<_> = used.collect();
    (counters.calls > 0).then(|| {
        format!(
            "the pretend provider counted {} calls, of which it refused {}; used were {}",
            counted(counters.calls),
            counted(counters.refused),
            used.join(" and ")
        )
    })
}
