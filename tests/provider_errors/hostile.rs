//! Bodies that nobody means well with.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use tower_relay::{
    outcome::Verdict,
    provider::{Errors, Prose},
};

use crate::now;

fn classify(status: u16, body: &[u8]) -> Verdict {
    let errors = Errors::default().prose(Prose::LastResort);
    let status = StatusCode::from_u16(status).expect("it is a status");
    let _ = errors.classify_inside(Some("error"), body, now());
    errors
        .classify(status, &HeaderMap::new(), body, now())
        .verdict()
}

#[test]
fn a_hostile_body_costs_time_linear_in_its_length() {
    let long = |unit: &str| unit.repeat(64 * 1024 / unit.len());
    let inside = |text: &str| format!(r#"{{"error":{{"message":"{text}"}}}}"#);
    let bodies: Vec<String> = [
        "[",
        "{",
        "]",
        "\"",
        "'",
        "`",
        "“",
        "\\",
        "{\"a\":",
        "[{\"error\":",
        "\\u00",
        ". ",
        ": a",
        "please ",
        " ",
        "model ",
        "limit 1 requested ",
        "try again in ",
        "retry ",
        "é",
        "a_B",
        "{'message':'",
        "<title",
        "<",
        "\n\n",
        "9",
        "不",
        "\"message\":\"{",
        "{\"code\":\"aB\"},",
    ]
    .iter()
    .flat_map(|unit| [long(unit), inside(&long(unit))])
    .collect();
    // Quadratic time over 64 KiB would take minutes; the margin is for slow machines.
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let mut slowest = Duration::ZERO;
        for body in &bodies {
            let start = Instant::now();
            let _ = classify(400, body.as_bytes());
            slowest = slowest.max(start.elapsed());
        }
        let _ = done.send(slowest);
    });
    let slowest = finished
        .recv_timeout(Duration::from_secs(60))
        .expect("it ends");
    println!("slowest {slowest:?}");
    assert!(
        slowest < Duration::from_secs(10),
        "{slowest:?} for two readings of 64 KiB"
    );
}

#[test]
fn what_stands_beyond_the_depth_that_is_read_does_no_harm() {
    let deep = format!(
        "{}{}",
        "[".repeat(1_000),
        r#"{"code":"insufficient_quota"}"#
    );
    assert_eq!(classify(429, deep.as_bytes()), Verdict::Throttled);
}

#[test]
fn a_body_that_is_no_text_is_judged_by_its_status() {
    for (status, verdict) in [(429, Verdict::Throttled), (500, Verdict::ServerFault)] {
        assert_eq!(classify(status, &[0xff, 0xfe, 0, 1, 0x1f, 0x8b]), verdict);
    }
}

fn bodies() -> Vec<String> {
    let lines = include_str!("../data/responses.jsonl").lines();
    let bodies = lines.filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let body = line["body"].as_str().or_else(|| line["sse"].as_str())?;
        Some(body.to_owned())
    });
    bodies.collect()
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..400), status in 400_u16..600
    ) {
        let verdict = classify(status, &body);
        prop_assert_ne!(verdict, Verdict::Success);
    }

    #[test]
    fn no_change_of_a_real_body_makes_it_panic(
        which in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        status in 400_u16..600,
    ) {
        let bodies = bodies();
        let mut body = which.get(&bodies).clone().into_bytes();
        for (at, byte) in changes {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        body.truncate(cut.index(body.len() + 1));
        prop_assert_ne!(classify(status, &body), Verdict::Success);
    }

    #[test]
    fn a_body_that_is_cut_never_turns_a_limit_into_a_refused_key(
        which in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()
    ) {
        let body = r#"{"error":{"message":"Rate limit reached for x. Please try again in 20s. Visit us to learn about API keys.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
        let statuses = [429, 503];
        let cut = &body[..cut.index(body.len() + 1)];
        let verdict = classify(*which.get(&statuses), cut.as_bytes());
        prop_assert!(matches!(verdict, Verdict::Throttled | Verdict::Overloaded));
    }
}
