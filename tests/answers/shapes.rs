//! Every shape is read for what it is.

use tower_relay::{
    outcome::{Completeness, Outcome, Verdict},
    provider::Answer,
};

use crate::{
    samples::{Content, Ends, Sample, samples},
    support::read,
};

pub(crate) fn check(sample: &Sample, answer: Answer) {
    let name = sample.name;
    assert_eq!(answer.usage(), sample.usage, "{name}");
    let has_content = sample.content == Content::Some;
    assert_eq!(answer.has_content(), has_content, "{name}");
    let (completeness, failure) = (answer.completeness(), answer.failure());
    match sample.ends {
        Ends::Whole => {
            assert_eq!(
                (completeness, failure),
                (Completeness::Complete, None),
                "{name}"
            );
        }
        Ends::Cut => {
            let fault = Some(Outcome::new(Verdict::ServerFault));
            assert_eq!(
                (completeness, failure),
                (Completeness::Partial, fault),
                "{name}"
            );
        }
        Ends::Failed => {
            assert_eq!(completeness, Completeness::Partial, "{name}");
            assert!(
                failure.is_some_and(|failure| !failure.is_success()),
                "{name}"
            );
        }
    }
}

#[test]
fn every_shape_is_read_for_what_it_is() {
    for sample in samples() {
        check(&sample, read(sample.content_type, [&*sample.body]));
    }
}

#[test]
fn a_content_type_that_is_wrong_or_absent_changes_nothing() {
    for sample in samples() {
        if sample.body.is_empty() || sample.body.starts_with(b": keep") {
            continue;
        }
        for content_type in ["", "text/plain", "application/json", "text/event-stream"] {
            check(&sample, read(content_type, [&*sample.body]));
        }
    }
}
