//! Responses that providers gave, judged as the corpus says; `tests/data/README.md` explains it.
//!
//! `cargo test --features provider --test corpus -- --nocapture` prints every case.
#![cfg(feature = "provider")]

mod case;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use case::{Case, Content};
use http::StatusCode;
use tower_relay::{
    outcome::{Completeness, Hint, Outcome, Verdict},
    provider::{AnswerReader, Profile, Prose, TokenUsage},
};

/// Cases that are read otherwise, and why.
const KNOWN: &[(&str, &str)] = &[(
    "generic-doubleword-403-invalid-key",
    "a 403 that says forbidden and nothing else: only a rule for that host can know it is the key",
)];

/// What was made of a case.
struct Reading {
    verdict: &'static str,
    hint: Option<f64>,
    usage: TokenUsage,
}

#[derive(Clone, Copy, Default)]
struct Count {
    right: usize,
    of: usize,
}

impl Count {
    fn add(&mut self, is_right: bool) {
        self.right += usize::from(is_right);
        self.of += 1;
    }

    fn share(self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }
}

#[test]
fn responses_of_the_corpus_are_read_as_they_were_meant() {
    let known: BTreeMap<_, _> = KNOWN.iter().copied().collect();
    let mut missed = BTreeSet::new();
    let mut providers: BTreeMap<String, [Count; 2]> = BTreeMap::new();
    let [mut verdicts, mut usages, mut hints, mut debatable] = [Count::default(); 4];
    for case in case::all() {
        let reading = read_at_any_time(&case);
        let is_verdict = reading.verdict == plain(&case.expect.verdict);
        let written = reading.usage.cache_write_tokens();
        let is_usage = usage(&reading.usage) == case.expect.usage
            && (case.expect.cache_write.is_none() || case.expect.cache_write == written);
        let is_hint = case
            .expect
            .hints
            .iter()
            .any(|hint| near(*hint, reading.hint));
        let is_right = is_verdict && is_usage && is_hint;
        let word = match (is_right, case.is_debatable) {
            (true, _) => "ok",
            (false, true) => "debatable",
            (false, false) => "MISS",
        };
        println!(
            "{:48} {:22} {:>10} | {:14} {:>10} {word}{}",
            case.id,
            case.expect.verdict,
            shown(case.expect.hints[0]),
            reading.verdict,
            shown(reading.hint),
            if is_usage { "" } else { " usage" },
        );
        if !is_usage {
            println!(
                "{:48} {:?} | {:?}",
                "",
                case.expect.usage,
                usage(&reading.usage)
            );
        }
        let of_provider = providers.entry(case.provider.clone()).or_default();
        of_provider[usize::from(case.is_debatable)].add(is_right);
        match case.is_debatable {
            true => debatable.add(is_right),
            false => {
                verdicts.add(is_verdict);
                if case.has_answer() {
                    usages.add(is_usage);
                }
                hints.add(is_hint);
            }
        }
        if !is_right {
            missed.insert(case.id);
        }
    }
    println!("\nprovider: right of required, right of debatable");
    for (provider, [required, debatable]) in &providers {
        let Count { right, of } = required;
        println!(
            "{provider:14} {right:3} of {of:3}   {:3} of {:3}",
            debatable.right, debatable.of
        );
    }
    println!("verdict   {} of {}", verdicts.right, verdicts.of);
    println!("usage     {} of {}", usages.right, usages.of);
    println!("hint      {} of {}", hints.right, hints.of);
    println!("debatable {} of {}", debatable.right, debatable.of);

    let known: BTreeSet<_> = known.into_keys().map(str::to_owned).collect();
    let news: Vec<_> = missed.symmetric_difference(&known).collect();
    assert!(
        news.is_empty(),
        "missed against the list, or listed and right: {news:?}"
    );
    assert_eq!(verdicts.of + debatable.of, 182);
    assert!(verdicts.share() >= 0.98);
    assert!(usages.share() >= 0.98);
    assert!(hints.share() >= 0.95);
}

/// Reads a case whose instant of receipt may be unknown. A hint that depends on the instant then
/// cannot be judged, and counts as none.
fn read_at_any_time(case: &Case) -> Reading {
    let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    if let Some(received) = case.received {
        return read(case, received);
    }
    let reading = read(case, at(1_780_000_000));
    let later = read(case, at(1_780_003_000));
    let hint = reading.hint.filter(|_| reading.hint == later.hint);
    Reading { hint, ..reading }
}

fn read(case: &Case, now: SystemTime) -> Reading {
    let mut profile = Profile::of(&case.provider).expect("every provider has a profile");
    if case.expect.is_in_message {
        let errors = profile.error_rules().clone().prose(Prose::LastResort);
        profile = profile.errors(errors);
    }
    let status = StatusCode::from_u16(case.status).expect("it is a status");
    let bytes = match &case.content {
        Content::None => Vec::new(),
        Content::Body(text) | Content::Events(text) => text.clone().into_bytes(),
        Content::Binary(events) => wire::encode(events),
    };
    if !case.has_answer() {
        let outcome = profile.classify(status, &case.headers, &bytes, now);
        return Reading {
            verdict: name(outcome.verdict()),
            hint: hint(outcome),
            usage: TokenUsage::UNKNOWN,
        };
    }
    let mut reader = AnswerReader::new(&profile, &case.headers);
    for piece in bytes.chunks(7) {
        reader.feed(piece, || now);
    }
    reader.finish(|| now);
    let answer = reader.answer();
    let verdict = match (answer.failure(), answer.completeness()) {
        (Some(failure), _) => name(failure.verdict()),
        (None, Completeness::Complete) => "success",
        (None, _) => "server_fault",
    };
    Reading {
        verdict,
        hint: answer.failure().and_then(hint),
        usage: answer.usage(),
    }
}

fn hint(outcome: Outcome) -> Option<f64> {
    match outcome.hint()? {
        Hint::After(wait) => Some(wait.as_secs_f64()),
        _ => None,
    }
}

fn near(expected: Option<f64>, read: Option<f64>) -> bool {
    match (expected, read) {
        (Some(expected), Some(read)) => (expected - read).abs() <= 1.0,
        (expected, read) => expected.is_none() && read.is_none(),
    }
}

/// The corpus's class as a verdict: one inside a stream is the plain one there, and a stream that
/// ends too early is a fault of the server.
fn plain(class: &str) -> &str {
    match class {
        "in_stream_overloaded" => "overloaded",
        "in_stream_throttled" => "throttled",
        "in_stream_fault" | "truncated" => "server_fault",
        class => class,
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Success => "success",
        Verdict::Throttled => "throttled",
        Verdict::Exhausted => "exhausted",
        Verdict::RampLimit => "ramp_limit",
        Verdict::KeyRejected => "key_rejected",
        Verdict::ModelDenied => "model_denied",
        Verdict::Region => "region",
        Verdict::Overloaded => "overloaded",
        Verdict::ServerFault => "server_fault",
        Verdict::CallerFault => "caller_fault",
        _ => "another",
    }
}

fn usage(usage: &TokenUsage) -> [Option<u64>; 3] {
    [
        usage.input_tokens(),
        usage.cached_input_tokens(),
        usage.output_tokens(),
    ]
}

fn shown(hint: Option<f64>) -> String {
    hint.map_or_else(|| "-".to_owned(), |hint| format!("{hint:.3}"))
}
