//! What failures mean, judged on bodies that the rules were not written for.

#![cfg(feature = "provider")]
#![allow(clippy::disallowed_methods, reason = "a test measures")]

mod families;
mod hints;
mod hostile;
mod inside;
mod rules;

use std::time::{Duration, SystemTime};

use families::Case;
use http::{HeaderMap, HeaderName, StatusCode};
use tower_relay::{outcome::Outcome, provider::Profile};

/// Noon of 2026-11-20.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000)
}

fn classify(case: &Case) -> Outcome {
    classify_body(case, case.body)
}

/// What a case would be with this body.
fn classify_body(case: &Case, body: &str) -> Outcome {
    let headers: HeaderMap = (case.headers.iter())
        .map(|(name, value)| {
            let value = value.parse().expect("a test's header is valid");
            (HeaderName::from_static(name), value)
        })
        .collect();
    let status = StatusCode::from_u16(case.status).expect("it is a status");
    let profile = Profile::of(case.provider).expect("it is a provider");
    profile.classify(status, &headers, body.as_bytes(), now())
}

fn judge(cases: &[Case]) {
    let mut misses = 0;
    for case in cases {
        let verdict = classify(case).verdict();
        if verdict != case.verdict {
            misses += 1;
            println!(
                "MISS {:30} {} is {verdict:?}, not {:?}",
                case.name, case.status, case.verdict
            );
        }
    }
    println!("{} of {} right", cases.len() - misses, cases.len());
    assert_eq!(misses, 0, "failures are misread");
}

#[test]
fn failures_of_all_families_are_told_apart() {
    judge(families::FIRST);
}

#[test]
fn failures_that_the_rules_had_not_seen_are_told_apart() {
    judge(families::SECOND);
}

#[test]
fn failures_of_a_third_list_are_told_apart() {
    judge(families::THIRD);
}

#[test]
fn every_rule_has_a_failure_that_needs_it() {
    judge(families::REST);
}

#[test]
fn failures_of_a_fourth_list_are_told_apart() {
    judge(families::FOURTH);
}

/// A cut may fall between a word and the one that turns its meaning, but rarely does.
#[test]
fn a_cut_body_is_read_like_the_whole_or_by_its_status() {
    let (mut cuts, mut misread) = (0, 0);
    let lists = [
        families::FIRST,
        families::SECOND,
        families::THIRD,
        families::FOURTH,
    ];
    for case in lists.iter().flat_map(|list| list.iter()) {
        let bare = classify_body(case, "").verdict();
        for (cut, _) in case.body.char_indices().step_by(23) {
            cuts += 1;
            let verdict = classify_body(case, &case.body[..cut]).verdict();
            misread += usize::from(verdict != bare && verdict != case.verdict);
        }
    }
    println!("{misread} of {cuts}");
    assert!(cuts > 1_000 && misread * 200 <= cuts, "{misread} of {cuts}");
}
