//! The time that a sentence names: "Please try again in 1m9.696s".

use std::time::{Duration, SystemTime};

use crate::http::value;

/// After these words a time may follow.
const CUES: [&str; 9] = [
    "try again",
    "retry",
    "regain access",
    "replenished",
    "available again",
    "please wait",
    "wait for",
    "resets",
    "reset",
];
/// What may stand between them and the time.
const BETWEEN: [&str; 14] = [
    "in",
    "after",
    "at",
    "on",
    "for",
    "until",
    "about",
    "approximately",
    "another",
    "your",
    "request",
    "least",
    "access",
    "the",
];
/// No more occurrences of cues are looked at.
const MOST_CUES: usize = 16;

/// The longest wait that `text` names in so many words.
pub(super) fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let mut longest = None;
    for cue in CUES {
        let mut rest = text.as_str();
        for _ in 0..MOST_CUES {
            let Some(at) = rest.find(cue) else { break };
            rest = &rest[at + cue.len()..];
            longest = longest.max(time(rest, now));
        }
    }
    longest.filter(|wait| !wait.is_zero())
}

/// The time at the beginning of `text`, after words that lead to it.
fn time(text: &str, now: SystemTime) -> Option<Duration> {
    let mut words = text.split_whitespace().map(bare).peekable();
    let mut leading = 0;
    while words.next_if(|word| BETWEEN.contains(word)).is_some() {
        leading += 1;
        if leading > 4 {
            return None;
        }
    }
    let first = words.next()?;
    if let Some(wait) = value::go_duration(first).or_else(|| clock(first)) {
        return Some(wait);
    }
    if let Some(date) = date(first) {
        words.next_if_eq(&"at");
        let hour = words.next().filter(|word| word.contains(':'));
        let instant = match hour {
            Some(hour) if hour.len() == 5 => format!("{date}t{hour}:00z"),
            Some(hour) => format!("{date}t{hour}z"),
            None => format!("{date}t00:00:00z"),
        };
        let instant = value::rfc3339(&instant.to_ascii_uppercase())?;
        return instant.duration_since(now).ok();
    }
    if let Some(instant) = value::rfc3339(&first.to_ascii_uppercase()) {
        return instant.duration_since(now).ok();
    }
    // "2 minutes and 5 seconds"
    let mut total = amount(first, words.next()?)?;
    loop {
        words.next_if_eq(&"and");
        let mut ahead = words.clone();
        let (Some(number), Some(unit)) = (ahead.next(), ahead.next()) else {
            return Some(total);
        };
        let Some(more) = amount(number, unit) else {
            return Some(total);
        };
        total = total.checked_add(more)?;
        words = ahead;
    }
}

/// `word` without the punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

fn amount(number: &str, unit: &str) -> Option<Duration> {
    let unit = match unit {
        "ms" | "millisecond" | "milliseconds" => return value::milliseconds(number),
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        _ => return None,
    };
    value::seconds(number)?.checked_mul(unit)
}

/// `00:12:34`
fn clock(word: &str) -> Option<Duration> {
    let mut parts = word.split(':');
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    if parts.next().is_some() || minutes > 59 || seconds > 59 {
        return None;
    }
    let minutes = u64::from(hours) * 60 + u64::from(minutes);
    Some(Duration::from_secs(minutes * 60 + u64::from(seconds)))
}

/// `2026-04-01`
fn date(word: &str) -> Option<&str> {
    let digits = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    (word.len() == 10 && word.bytes().enumerate().all(digits)).then_some(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_after_the_words_that_lead_to_them() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_775_000_000);
        for (text, millis) in [
            ("Please try again in 20s.", 20_000),
            ("Please try again in 1m9.696s. Visit us", 69_696),
            ("Please try again in 114h18m0s.", 411_480_000),
            ("please retry after 37 seconds.", 37_000),
            ("Please retry in 36.5s.\n", 36_500),
            ("Try again in 2 minutes and 5 seconds", 125_000),
            ("Quota will be replenished in 00:12:34.", 754_000),
            ("Please wait 1.5 sec", 1_500),
            ("Retry your request after 250 ms", 250),
            (
                "You will regain access on 2026-04-01 at 00:00 UTC.",
                1_600_000,
            ),
            ("Limit resets at: 2026-04-01T00:00:00Z", 1_600_000),
        ] {
            assert_eq!(
                wait(text, now),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_that_is_no_time_is_none() {
        for text in [
            "try again later",
            "please wait a moment and try again. 5 seconds",
            "retry 3 times in 5 seconds",
            "try again in 5 parts",
            "wait for 0 seconds",
            "regain access on 1999-01-01 at 00:00 UTC",
            "in 20s",
        ] {
            assert_eq!(
                wait(text, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30)),
                None,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_sentence_makes_it_panic(
            text in "(try again|retry|reset) (in|after|on|at)? ?[0-9:.TZtzhms -]{0,30}( at [0-9:]{0,9})?( \\PC{0,9}){0,3}"
        ) {
            let _ = wait(&text, SystemTime::UNIX_EPOCH);
        }
    }
}
