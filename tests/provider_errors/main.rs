//! What failures mean, judged on bodies that the rules were not written for.

mod families;

use std::time::{Duration, SystemTime};

use families::Case;
use http::{HeaderMap, HeaderName, StatusCode};
use tower_relay::{outcome::Outcome, provider::Profile};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn classify(case: &Case) -> Outcome {
    let headers: HeaderMap = (case.headers.iter())
        .map(|(name, value)| {
            let value = value.parse().expect("a test's header is valid");
            (HeaderName::from_static(name), value)
        })
        .collect();
    let status = StatusCode::from_u16(case.status).expect("it is a status");
    let profile = Profile::of(case.provider).expect("it is a provider");
    let now = NOW + Duration::from_secs(1_790_000_000);
    profile.classify(status, &headers, case.body.as_bytes(), now)
}

fn judge(cases: &[Case]) {
    let mut misses = 0;
    for case in cases {
        let verdict = classify(case).verdict();
        if verdict != case.verdict {
            misses += 1;
            println!("MISS {:30} {} is {verdict:?}, not {:?}", case.name, case.status, case.verdict);
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
