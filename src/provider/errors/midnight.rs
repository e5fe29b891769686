//! When a day ends where a provider counts its days.

use std::time::{Duration, SystemTime};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// How long it is to the next midnight of US Pacific time, by the rules in force since 2007:
/// daylight time from the second Sunday of March, 2:00, to the first Sunday of November, 2:00.
pub(super) fn until_pacific_midnight(now: SystemTime) -> Option<Duration> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // By standard time the day may end an hour too late; then the day it ends with is the next.
    let day = now.as_secs().checked_sub(8 * HOUR)? / DAY + 1;
    let midnight = |day: u64| {
        let offset = if is_summer(day) { 7 } else { 8 };
        Some(Duration::from_secs(
            day.checked_mul(DAY)?.checked_add(offset * HOUR)?,
        ))
    };
    let ahead = |at: &Duration| *at > now;
    midnight(day)
        .filter(ahead)
        .or_else(|| midnight(day + 1))?
        .checked_sub(now)
}

/// Whether daylight time holds at the midnight with which a day since 1970 begins.
fn is_summer(day: u64) -> bool {
    let (year, month, _) = civil(day);
    // 1970-01-01 was a Thursday.
    let first_sunday = |month| {
        let first = days_to(year, month, 1);
        first + (10 - first % 7) % 7
    };
    match month {
        ..3 | 12.. => false,
        3 => day > first_sunday(3) + 7,
        11 => day <= first_sunday(11),
        _ => true,
    }
}

/// The date of a day since 1970, by the proleptic Gregorian calendar, counted from March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// The days from 1970 to a date.
fn days_to(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_era = year % 400;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1;
    year / 400 * 146_097 + days - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::value::rfc3339;

    fn until(now: &str) -> u64 {
        let now = rfc3339(now).expect("a test's instant is valid");
        until_pacific_midnight(now)
            .expect("it is after 1970")
            .as_secs()
    }

    #[test]
    fn a_day_ends_at_midnight_in_winter_and_in_summer() {
        assert_eq!(until("2026-01-15T07:59:00Z"), 60);
        assert_eq!(until("2026-01-15T08:00:00Z"), DAY);
        assert_eq!(until("2026-07-15T06:59:00Z"), 60);
        assert_eq!(until("2026-07-15T07:00:00Z"), DAY);
    }

    #[test]
    fn days_on_which_the_clock_changes_are_shorter_and_longer() {
        // 2026: 8 March and 1 November.
        assert_eq!(until("2026-03-08T08:00:00Z"), 23 * HOUR);
        assert_eq!(until("2026-03-08T07:00:00Z"), HOUR);
        assert_eq!(until("2026-11-01T07:00:00Z"), 25 * HOUR);
        assert_eq!(until("2026-11-01T06:00:00Z"), HOUR);
        assert_eq!(until("2026-11-02T07:00:00Z"), HOUR);
        assert_eq!(until("2026-11-02T08:00:00Z"), DAY);
    }

    #[test]
    fn every_day_of_forty_years_is_its_own_date() {
        for day in 0..15_000 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days_to(year, month, of_month), day);
        }
        assert_eq!(civil(20_000), (2024, 10, 4));
    }
}
