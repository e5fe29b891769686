use super::*;

/// A token bucket that refuses what exceeds it, and says to come back in a second.
struct Server {
    rate: f64,
    burst: f64,
    level: f64,
    at: f64,
}

impl Server {
    fn of(rate: f64, burst: f64) -> Self {
        Self {
            rate,
            burst,
            level: burst,
            at: 0.0,
        }
    }

    fn admits(&mut self, now: f64) -> bool {
        self.level = (self.level + (now - self.at) * self.rate).min(self.burst);
        self.at = now;
        let admits = self.level >= 1.0;
        if admits {
            self.level -= 1.0;
        }
        admits
    }
}

fn instant(seconds: f64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs_f64(seconds)
}

/// Sends as fast as the learned rate allows, and rests for a second after each refusal. How much
/// of the quota was used from `warm_up` on, and how many refusals there were for each success.
fn saturate(
    learned: &mut LearnedRate,
    server: &mut Server,
    from: f64,
    warm_up: f64,
    end: f64,
) -> (f64, f64) {
    let (mut now, mut granted, mut refused) = (from, 0.0, 0.0);
    learned.idle(instant(now));
    while now < end {
        learned.sent(1.0);
        let counts = f64::from(u8::from(now >= warm_up));
        if server.admits(now) {
            granted += counts;
        } else {
            refused += counts;
            learned.refused(1.0, instant(now), instant(now));
            now += 1.05;
            learned.wanted(instant(now));
        }
        now += 1.0 / learned.rate();
        learned.wanted(instant(now));
    }
    (granted / (server.rate * (end - warm_up)), refused / granted)
}

fn learned(start: f64) -> LearnedRate {
    LearnedRate::new(0.01..=100_000.0, start).expect("it is valid")
}

#[test]
fn a_quota_that_nobody_tells_is_found_from_any_start() {
    for (rate, used_least, refused_most) in [
        (2.0, 0.95, 0.022),
        (10.0, 0.98, 0.004),
        (50.0, 0.98, 0.001),
        (300.0, 0.98, 0.000_2),
    ] {
        for burst in [rate, rate * 10.0] {
            for start in [rate / 50.0, rate / 3.0, rate * 5.0] {
                let mut learned = learned(start);
                let mut server = Server::of(rate, burst);
                let (used, refused) = saturate(&mut learned, &mut server, 0.0, 120.0, 900.0);
                let of = format!("{rate} a second, burst {burst}, from {start}");
                assert!(used >= used_least, "{of}: {used}");
                assert!(refused <= refused_most, "{of}: {refused}");
            }
        }
    }
}

#[test]
fn a_server_without_a_burst_costs_a_rest_at_each_refusal() {
    for rate in [2.0, 10.0, 300.0] {
        let mut server = Server::of(rate, 1.0);
        let (used, _) = saturate(&mut learned(rate), &mut server, 0.0, 120.0, 900.0);
        assert!((0.90..0.96).contains(&used), "{rate}: {used}");
    }
}

#[test]
fn a_quota_that_changes_is_followed() {
    let mut server = Server::of(10.0, 10.0);
    let mut learned = learned(1.0);
    saturate(&mut learned, &mut server, 0.0, 0.0, 300.0);
    server.rate = 3.0;
    let (_, refused) = saturate(&mut learned, &mut server, 300.0, 300.0, 600.0);
    assert!(refused < 0.03, "{refused}");
    assert!((2.7..3.3).contains(&learned.rate()), "{}", learned.rate());
    server.rate = 30.0;
    let (used, _) = saturate(&mut learned, &mut server, 600.0, 780.0, 1_200.0);
    assert!(used > 0.95, "ten times as much after three minutes: {used}");
}

#[test]
fn eight_refusals_at_once_are_one_cut() {
    let mut learned = learned(64.0);
    let now = instant(5.0);
    let sent = instant(4.0);
    assert!(learned.refused(1.0, sent, now));
    for _ in 0..7 {
        assert!(!learned.refused(1.0, sent, now));
    }
    assert!((learned.rate() - 0.95 * 32.0).abs() < 1e-9);
}

#[test]
fn a_rate_that_nobody_wanted_does_not_grow() {
    let mut learned = learned(10.0);
    learned.idle(instant(3_600.0));
    assert!((learned.rate() - 10.0).abs() < 1e-9);
    learned.wanted(instant(3_610.0));
    assert!((learned.rate() - 20.0).abs() < 1e-9);
    learned.idle(instant(1.0));
    learned.wanted(instant(2.0));
    assert!((learned.rate() - 20.0).abs() < 1e-9, "back is no time");
}

#[test]
fn a_refusal_after_an_idle_hour_measures_nothing() {
    let mut learned = learned(1.0);
    let mut server = Server::of(10.0, 10.0);
    saturate(&mut learned, &mut server, 0.0, 0.0, 300.0);
    learned.idle(instant(3_900.0));
    for _ in 0..30 {
        learned.sent(1.0);
    }
    learned.refused(1.0, instant(3_900.0), instant(3_900.0));
    assert!((8.5..10.5).contains(&learned.rate()), "{}", learned.rate());
}

#[test]
fn the_rate_stays_within_its_bounds_whatever_happens() {
    let mut learned = LearnedRate::new(2.0..=50.0, 10.0).expect("it is valid");
    learned.wanted(Timestamp::MAX);
    assert!((learned.rate() - 50.0).abs() < 1e-9);
    for n in 0..100 {
        let now = instant(f64::from(n));
        learned.refused(f64::MAX, now, now);
        assert!((2.0..=50.0).contains(&learned.rate()));
    }
    learned.sent(f64::INFINITY);
    learned.refused(f64::NAN, instant(200.0), instant(200.0));
    assert!(learned.rate().is_finite());
    for bounds in [
        0.0..=1.0,
        -1.0..=1.0,
        2.0..=1.0,
        f64::NAN..=1.0,
        1.0..=f64::INFINITY,
    ] {
        assert!(LearnedRate::new(bounds, 1.0).is_err());
    }
    assert!(LearnedRate::new(1.0..=2.0, 3.0).is_err());
}

#[test]
fn what_was_sent_before_the_cut_is_not_in_what_was_granted_since() {
    let second = |resized: Option<f64>| {
        let mut learned = learned(64.0);
        learned.refused(1.0, instant(4.0), instant(5.0));
        for n in 1..=60 {
            learned.sent(1.0);
            learned.wanted(instant(5.0 + f64::from(n) / 20.0));
        }
        if let Some(by) = resized {
            learned.resized(by, instant(4.5));
        }
        learned.refused(0.0, instant(8.0), instant(8.0));
        learned.rate()
    };
    let granted = second(None);
    assert!((second(Some(1_000.0)) - granted).abs() < 1e-9, "{granted}");
    assert!((second(Some(-1_000.0)) - granted).abs() < 1e-9, "{granted}");
}
