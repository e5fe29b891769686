use proptest::prelude::*;

use super::*;
use crate::policy::breaker::window::{Counts, Kind, ONE, Span, Window};

const SLICE: u64 = 1_000;
const SPAN: Span = Span::Time { slice: SLICE };
const LENGTH: u64 = 9 * SLICE;

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Good), Just(Kind::Failed), Just(Kind::Slow)]
}

/// So many good, failed and slow calls, at one instant.
fn filled(span: Span, counts: [usize; 3]) -> Window {
    let mut window = Window::new(span, at(0));
    for (kind, count) in [Kind::Good, Kind::Failed, Kind::Slow]
        .into_iter()
        .zip(counts)
    {
        for _ in 0..count {
            window.count(span, kind, at(0));
        }
    }
    window
}

fn totals(counts: Counts) -> [u64; 3] {
    [counts.calls / ONE, counts.failures / ONE, counts.slow / ONE]
}

#[test]
fn the_oldest_slice_leaves_bit_by_bit() {
    let window = filled(SPAN, [50, 30, 20]);
    for (now, left) in [
        (0, 100),
        (LENGTH - 1, 100),
        (LENGTH, 100),
        (LENGTH + 1, 99),
        (LENGTH + SLICE / 4, 75),
        (LENGTH + SLICE / 2, 50),
        (LENGTH + SLICE - 1, 0),
        (LENGTH + SLICE, 0),
        (u64::MAX, 0),
    ] {
        let counts = window.counts(SPAN, at(now));
        assert!(totals(counts)[0].abs_diff(left) <= 1, "{counts:?} at {now}");
        assert!((counts.failures * 10).abs_diff(counts.calls * 3) <= 10);
        assert!((counts.slow * 10).abs_diff(counts.calls * 2) <= 10);
    }
}

#[test]
fn the_last_success_is_taken_back_wherever_it_is() {
    let mut window = filled(SPAN, [1, 0, 1]);
    window.count(SPAN, Kind::Failed, at(4 * SLICE));
    for left in [[2, 1, 1], [1, 1, 0], [1, 1, 0]] {
        window.take_back();
        assert_eq!(totals(window.counts(SPAN, at(4 * SLICE))), left);
    }
    // The newest first.
    let mut window = filled(SPAN, [5, 0, 0]);
    window.count(SPAN, Kind::Good, at(9 * SLICE));
    window.take_back();
    assert_eq!(totals(window.counts(SPAN, at(9 * SLICE)))[0], 5);
    assert_eq!(totals(window.counts(SPAN, at(10 * SLICE)))[0], 0);
}

proptest! {
    #[test]
    fn a_window_of_time_is_wrong_by_at_most_the_calls_of_its_oldest_slice(
        start in 0_u64..5_000,
        calls in prop::collection::vec((0_u64..4_000, 0_u32..20, kind()), 0..200),
        later in 0_u64..12_000,
    ) {
        let mut window = Window::new(SPAN, at(start));
        let (mut now, mut known) = (start, Vec::new());
        for (wait, many, kind) in calls {
            now += wait / (1 + u64::from(many % 7));
            for _ in 0..many {
                window.count(SPAN, kind, at(now));
                known.push((now, kind));
            }
        }
        now += later;
        let counts = window.counts(SPAN, at(now));
        let exact = |of: Option<Kind>| {
            let is_inside = |&&(then, kind): &&(u64, Kind)| {
                then + LENGTH > now && of.is_none_or(|of| of == kind)
            };
            known.iter().filter(is_inside).count() as u64
        };
        // The slices stand on a grid that begins with the window's first.
        let edge = (now - start) / SLICE * SLICE + start;
        let oldest = |of: Option<Kind>| {
            let is_oldest = |&&(then, kind): &&(u64, Kind)| {
                then + LENGTH >= edge && then + LENGTH < edge + SLICE
                    && of.is_none_or(|of| of == kind)
            };
            known.iter().filter(is_oldest).count() as u64
        };
        for (counted, of) in [
            (counts.calls, None),
            (counts.failures, Some(Kind::Failed)),
            (counts.slow, Some(Kind::Slow)),
        ] {
            let error = counted.abs_diff(exact(of) * ONE);
            prop_assert!(error <= oldest(of) * ONE, "{counted} {} {}", exact(of), oldest(of));
        }
    }

    #[test]
    fn a_window_of_calls_is_exact(
        most in prop_oneof![1_u16..20, 1_u16..=256],
        calls in prop::collection::vec((kind(), 0_u8..10), 0..400),
    ) {
        let span = Span::Calls(most);
        let mut window = Window::new(span, at(0));
        let mut known: Vec<Kind> = Vec::new();
        for (kind, take_back) in calls {
            window.count(span, kind, at(0));
            known.push(kind);
            if known.len() > usize::from(most) {
                known.remove(0);
            }
            if take_back == 0 {
                window.take_back();
                if let Some(last) = known.iter().rposition(|&kind| kind != Kind::Failed) {
                    known.remove(last);
                }
            }
            let of = |of| known.iter().filter(|&&kind| kind == of).count() as u64;
            let exact = [known.len() as u64, of(Kind::Failed), of(Kind::Slow)];
            prop_assert_eq!(totals(window.counts(span, at(0))), exact);
        }
    }

    #[test]
    fn time_that_goes_backwards_is_no_time(
        steps in prop::collection::vec((0_u64..30_000, kind()), 1..100),
    ) {
        let (mut jumping, mut steady) = (Window::new(SPAN, at(0)), Window::new(SPAN, at(0)));
        let mut latest = 0;
        for (now, kind) in steps {
            latest = latest.max(now);
            // Within a slice the window does not know how late it was.
            let behind = if now < latest / SLICE * SLICE { now } else { latest };
            jumping.count(SPAN, kind, at(behind));
            steady.count(SPAN, kind, at(latest));
            prop_assert_eq!(&jumping, &steady);
        }
    }
}
