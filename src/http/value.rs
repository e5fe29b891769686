//! How header values say a time. Exact, allocation-free, and deaf to what makes no sense.

use std::{
    str,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// Digits after the point that are read: 18 of them fit the arithmetic, and a nanosecond is 9.
const MOST_FRACTION: usize = 18;

/// The value as trimmed text, if it is text.
pub(crate) fn text(value: &HeaderValue) -> Option<&str> {
    str::from_utf8(value.as_bytes()).ok().map(str::trim)
}

/// A decimal number of seconds.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    decimal(text, SECOND)
}

/// A decimal number of milliseconds.
pub(crate) fn milliseconds(text: &str) -> Option<Duration> {
    decimal(text, MILLI)
}

/// A Go duration such as `6m0s`, `12ms` or `1h2m3.5s`; days are understood as well.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(number);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let nanos = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => MILLI,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            "d" => 86_400 * SECOND,
            _ => return None,
        };
        total = total.checked_add(decimal(amount, nanos)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// An HTTP date in any of the three forms of RFC 9110 5.6.7.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// An RFC 3339 instant in UTC.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let utc = text.strip_suffix("+00:00").unwrap_or(text);
    humantime::parse_rfc3339_weak(utc).ok()
}

/// `text`, a number without sign or exponent, in units of `unit` nanoseconds; what is finer
/// than a nanosecond is rounded up, because a wait must not end early.
fn decimal(text: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: u64 = match whole {
        "" => 0,
        whole => whole.parse().ok()?,
    };
    let (read, rest) = fraction.split_at(fraction.len().min(MOST_FRACTION));
    let mut part: u128 = 0;
    for digit in read.bytes() {
        part = part * 10 + u128::from(digit - b'0');
    }
    part += u128::from(rest.bytes().any(|b| b != b'0'));
    let scale = 10u128.pow(read.len() as u32);
    let unit = u128::from(unit);
    let nanos = u128::from(whole) * unit + (part * unit).div_ceil(scale);
    let secs = u64::try_from(nanos / u128::from(SECOND)).ok()?;
    Some(Duration::new(secs, (nanos % u128::from(SECOND)) as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_exact_and_round_up() {
        assert_eq!(seconds("20"), Some(Duration::from_secs(20)));
        assert_eq!(seconds("1.5"), Some(Duration::from_millis(1_500)));
        assert_eq!(seconds(".25"), Some(Duration::from_millis(250)));
        assert_eq!(milliseconds("250.5"), Some(Duration::from_micros(250_500)));
        assert_eq!(seconds("0.0000000001"), Some(Duration::from_nanos(1)));
        let tiny = "0.0000000000000000000000001";
        assert_eq!(seconds(tiny), Some(Duration::from_nanos(1)));
        assert_eq!(seconds("0.000"), Some(Duration::ZERO));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let most = u64::MAX.to_string();
        assert_eq!(seconds(&most), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(seconds(&"9".repeat(40)), None);
        assert_eq!(go_duration(&format!("{most}d")), None);
        assert_eq!(go_duration(&format!("{most}s{most}s")), None);
    }

    #[test]
    fn what_is_no_plain_number_is_none() {
        for text in [
            "", ".", "-1", "+1", "1e308", "NaN", "inf", "1.2.3", "0x10", "1,5", "1 2",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn go_durations_add_up() {
        assert_eq!(go_duration("6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(go_duration("12ms"), Some(Duration::from_millis(12)));
        assert_eq!(go_duration("1m0.052s"), Some(Duration::from_millis(60_052)));
        assert_eq!(go_duration("1h2m3s"), Some(Duration::from_secs(3_723)));
        assert_eq!(go_duration("5µs"), Some(Duration::from_micros(5)));
        for text in ["", "s", "5", "5x", "5s6", "-5s", "1.s.s", "5 s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_read_in_all_their_forms() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(http_date(date), Some(at), "{date}");
        }
        assert_eq!(rfc3339("1994-11-06T08:49:37Z"), Some(at));
        assert_eq!(rfc3339("1994-11-06T08:49:37+00:00"), Some(at));
        assert_eq!(rfc3339("1994-11-06T08:49:37+01:00"), None);
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_is_written(secs in any::<u64>(), nanos in 0u32..1_000_000_000) {
            let text = format!("{secs}.{nanos:09}");
            prop_assert_eq!(seconds(&text), Some(Duration::new(secs, nanos)));
            prop_assert_eq!(go_duration(&format!("{text}s")), Some(Duration::new(secs, nanos)));
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in "\\PC*") {
            let _ = (seconds(&text), milliseconds(&text), go_duration(&text));
            let _ = (http_date(&text), rfc3339(&text));
        }

        #[test]
        fn no_text_that_looks_like_a_time_makes_a_reader_panic(
            text in "[0-9]{0,45}[.eE:TZ+ -]{0,2}[0-9]{0,30}([nuµm]?s|[mhd]|:[0-9]{2}Z)?"
        ) {
            let _ = (seconds(&text), milliseconds(&text), go_duration(&text));
            let _ = (http_date(&text), rfc3339(&text));
        }

        #[test]
        fn no_date_of_any_year_makes_a_reader_panic(
            day in 0u32..40, year in 0u32..12_000, hour in 0u32..30, month in 0usize..12
        ) {
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let name = names[month];
            let _ = http_date(&format!("Fri, {day:02} {name} {year:04} {hour:02}:00:00 GMT"));
            let _ = http_date(&format!("Friday, {day:02}-{name}-{:02} {hour:02}:00:00 GMT", year % 100));
            let _ = rfc3339(&format!("{year:04}-{:02}-{day:02}T{hour:02}:00:00Z", month + 1));
        }
    }
}
