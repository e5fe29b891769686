//! Where the bytes are cut changes nothing, and where they end is noticed.

use proptest::{collection::vec, prelude::*, sample::Index};
use tower_relay::{
    outcome::{Completeness, Verdict},
    provider::Profile,
};

use crate::{
    samples::{Ends, samples},
    shapes::check,
    support::{JSON, now, read, reader},
};

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for sample in samples() {
        for cut in 0..=sample.body.len() {
            let (head, tail) = sample.body.split_at(cut);
            check(&sample, read(sample.content_type, [head, tail]));
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_change_nothing() {
    for sample in samples() {
        let with_empty = sample.body.chunks(1).flat_map(|byte| [byte, &[]]);
        check(&sample, read(sample.content_type, with_empty));
    }
}

#[test]
fn a_json_body_that_ends_anywhere_before_its_end_is_cut() {
    for sample in samples() {
        if sample.content_type != JSON || sample.ends != Ends::Whole {
            continue;
        }
        let whole = sample.body.trim_ascii_end().len();
        for length in 1..whole {
            let answer = read(JSON, [&sample.body[..length]]);
            assert_eq!(
                answer.completeness(),
                Completeness::Partial,
                "{}",
                sample.name
            );
            let verdict = answer.failure().map(|failure| failure.verdict());
            assert_eq!(verdict, Some(Verdict::ServerFault), "{}", sample.name);
        }
    }
}

#[test]
fn what_is_known_grows_with_the_bytes_and_needs_no_end() {
    for sample in samples() {
        let mut reader = reader(&Profile::generic(), sample.content_type);
        let mut before = reader.answer();
        for byte in &sample.body {
            reader.feed(&[*byte], now);
            let after = reader.answer();
            assert!(
                after.has_content() >= before.has_content(),
                "{}",
                sample.name
            );
            let (old, new) = (before.usage(), after.usage());
            assert!(new.input_tokens() >= old.input_tokens(), "{}", sample.name);
            assert!(
                new.output_tokens() >= old.output_tokens(),
                "{}",
                sample.name
            );
            before = after;
        }
        assert_eq!(before.usage(), sample.usage, "{}", sample.name);
    }
}

proptest! {
    #[test]
    fn any_cuts_change_nothing(cuts in vec(any::<Index>(), 0..12), which: Index) {
        let samples = samples();
        let sample = which.get(&samples);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(sample.body.len() + 1)).collect();
        cuts.sort_unstable();
        let mut rest = &*sample.body;
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            let (piece, after) = rest.split_at(cut - from);
            pieces.push(piece);
            (rest, from) = (after, cut);
        }
        pieces.push(rest);
        check(sample, read(sample.content_type, pieces));
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..300),
            "(data|event|id|:|\\{|\\[| |\"|error|usage|choices|\\\\|\n|\r|,|\\}|\\]|null|1){0,80}"
                .prop_map(String::into_bytes),
        ],
        size in 1_usize..20,
        content_type in prop_oneof![
            Just(""), Just("application/json"), Just("text/event-stream"),
            Just("application/vnd.amazon.eventstream"),
        ],
    ) {
        let whole = read(content_type, [&*bytes]);
        prop_assert_eq!(whole, read(content_type, bytes.chunks(size)));
        prop_assert_eq!(whole.completeness() == Completeness::Complete, whole.failure().is_none());
    }

    #[test]
    fn a_sample_with_a_byte_changed_is_read_alike_however_it_is_cut(
        which: Index, at: Index, byte: u8, size in 1_usize..20,
    ) {
        let samples = samples();
        let sample = which.get(&samples);
        let mut body = sample.body.clone();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let whole = read(sample.content_type, [&*body]);
        prop_assert_eq!(whole, read(sample.content_type, body.chunks(size)));
    }
}
