//! What holds after any history.

use proptest::{prelude::*, strategy::Strategy as Generate};

use super::*;
use crate::policy::Rng;

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Peek,
    /// Of the ticket at this place among those held.
    Report(usize, Signal),
    Release(usize),
    Drop(usize),
    Amend(usize, Signal),
    Wait(Duration),
    /// The clock jumps back.
    Back(Duration),
    SetMode(Mode),
    Reset,
    /// Another configuration, of these two.
    Reconfigure,
}

fn signal() -> impl Generate<Value = Signal> {
    prop_oneof![
        3 => Just(WELL),
        1 => Just(LATE),
        5 => Just(Signal::FAILURE),
        1 => Just(told(77)),
        1 => Just(Signal::Failure { hint: Some(Duration::MAX) }),
        1 => Just(Signal::Neutral),
    ]
}

fn wait() -> impl Generate<Value = Duration> {
    prop_oneof![
        4 => (0_u64..2_000).prop_map(millis),
        2 => (0_u64..400).prop_map(secs),
        1 => Just(secs(86_400)),
    ]
}

fn mode() -> impl Generate<Value = Mode> {
    prop_oneof![
        4 => Just(Mode::Normal),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::ForcedClosed),
        1 => Just(Mode::Disabled),
        2 => Just(Mode::ObserveOnly),
    ]
}

fn step() -> impl Generate<Value = Step> {
    prop_oneof![
        40 => Just(Step::Ask),
        5 => Just(Step::Peek),
        30 => (any::<usize>(), signal()).prop_map(|(at, signal)| Step::Report(at, signal)),
        4 => any::<usize>().prop_map(Step::Release),
        4 => any::<usize>().prop_map(Step::Drop),
        5 => (any::<usize>(), signal()).prop_map(|(at, signal)| Step::Amend(at, signal)),
        20 => wait().prop_map(Step::Wait),
        2 => wait().prop_map(Step::Back),
        1 => mode().prop_map(Step::SetMode),
        1 => Just(Step::Reset),
        1 => Just(Step::Reconfigure),
    ]
}

fn config() -> impl Generate<Value = BreakerConfig> {
    let window = prop_oneof![
        wait().prop_map(|time| BreakerConfig::builder().window(time.max(millis(1)))),
        (5_u32..=256).prop_map(|calls| BreakerConfig::builder().last_calls(calls)),
    ];
    let numbers = (1_u32..=10, 1_u32..=5, 1_u32..=5, 0_u32..=100);
    let times = (wait(), wait(), wait(), wait());
    (window, numbers, times, any::<bool>()).prop_map(|(window, numbers, times, all)| {
        let (probes, successes, run, jitter) = numbers;
        let (lease, ramp, open, longest) = times;
        let open = open.max(millis(1));
        let builder = window
            .no_conditions()
            .consecutive_failures(run)
            .lease(lease.max(millis(1)))
            .ramp(ramp)
            .open(open, longest.max(open))
            .probes(probes)
            .successes(successes)
            .jitter_percent(jitter);
        build(if all {
            builder
                .failure_ratio(0.5, 5)
                .lower_bound(0.7, Confidence::P95)
                .slow_calls(secs(10), 0.6, 5)
        } else {
            builder
        })
    })
}

/// Mixes bits (xorshift64*, Vigna 2016).
struct Mixer(u64);

impl Rng for Mixer {
    fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

struct World {
    configs: [BreakerConfig; 2],
    breaker: Breaker,
    now: Timestamp,
    rng: Mixer,
    tickets: Vec<Ticket>,
    receipts: Vec<Receipt>,
    /// The ends of the leases of probes that are under way in this round, dropped ones too.
    leases: Vec<Timestamp>,
}

impl World {
    fn new(configs: [BreakerConfig; 2], start: Timestamp, seed: u64) -> Self {
        let breaker = Breaker::new(&configs[0], start);
        Self {
            configs,
            breaker,
            now: start,
            rng: Mixer(seed | 1),
            tickets: Vec::new(),
            receipts: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn state(&self) -> State {
        self.breaker.snapshot(&self.configs[0], self.now).state()
    }

    fn ask(&mut self) -> Admission {
        let peeked = self.breaker.peek(&self.configs[0], self.now, &mut least());
        let answer = self.breaker.ask(&self.configs[0], self.now, &mut self.rng);
        if let (Some(peeked), Admission::Refuse(refusal)) = (peeked, &answer) {
            assert_eq!(peeked.why(), refusal.why());
        }
        match &answer {
            Admission::Refuse(refusal) => {
                assert_ne!(refusal.retry_after(), Some(Duration::ZERO));
                assert!(peeked.is_some() || refusal.why() == Refused::Ramp);
                assert_ne!(self.breaker.mode, Mode::ObserveOnly);
            }
            Admission::Pass(_) => assert_eq!(peeked, None, "the gate was shut"),
        }
        answer
    }

    fn step(&mut self, step: Step) {
        let (was, mode) = (self.state(), self.breaker.mode);
        let reads = matches!(
            step,
            Step::Peek | Step::Wait(_) | Step::Back(_) | Step::Drop(_)
        );
        let (config, now) = (&self.configs[0], self.now);
        match step {
            Step::Ask => {
                if let Admission::Pass(ticket) = self.ask() {
                    if ticket.is_probe() {
                        self.leases.retain(|&until| until > now);
                        self.leases.push(ticket.until);
                        let most = usize::from(self.configs[0].probes);
                        assert!(self.leases.len() <= most, "too many probes");
                    }
                    self.tickets.push(ticket);
                }
            }
            Step::Peek => {
                let before = self.breaker.clone();
                let _ = self.breaker.peek(config, now, &mut self.rng);
                let _ = self.breaker.snapshot(config, now);
                assert_eq!(self.breaker, before);
            }
            Step::Report(at, signal) => {
                if let Some(ticket) = take(&mut self.tickets, at) {
                    let until = ticket.is_probe().then_some(ticket.until);
                    let receipt = self
                        .breaker
                        .report(config, ticket, signal, now, &mut self.rng);
                    self.receipts.push(receipt);
                    self.leave(until);
                }
            }
            Step::Release(at) => {
                if let Some(ticket) = take(&mut self.tickets, at) {
                    let until = ticket.is_probe().then_some(ticket.until);
                    self.breaker.release(ticket);
                    self.leave(until);
                }
            }
            Step::Drop(at) => drop(take(&mut self.tickets, at)),
            Step::Amend(at, signal) => {
                if let Some(receipt) = take(&mut self.receipts, at) {
                    self.breaker
                        .amend(config, receipt, signal, now, &mut self.rng);
                }
            }
            Step::Wait(time) => self.now = now + time,
            Step::Back(time) => self.now = now.before(time),
            Step::SetMode(mode) => self.breaker.set_mode(config, mode, now),
            Step::Reset => self.breaker.reset(config, now),
            Step::Reconfigure => self.configs.swap(0, 1),
        }
        let is = self.state();
        if is != State::HalfOpen || matches!(step, Step::Reset) {
            self.leases.clear();
        }
        self.check_news(step, was, is, mode, reads);
    }

    fn leave(&mut self, until: Option<Timestamp>) {
        let held = self.leases.iter().position(|&lease| Some(lease) == until);
        if let Some(at) = held {
            self.leases.swap_remove(at);
        }
    }

    fn check_news(&mut self, step: Step, was: State, is: State, mode: Mode, reads: bool) {
        let news = self.breaker.next_transition();
        if reads {
            assert_eq!(news, None, "{step:?}");
        }
        match news {
            None => assert_eq!(was, is, "{step:?} was not told"),
            Some(Transition::Opened { until, .. }) => {
                let config = &self.configs[0];
                let longest = config.time_open(63, Duration::ZERO, &mut most());
                assert!(until <= self.now + longest);
                assert!(until > self.now || self.now == Timestamp::MAX);
                assert_eq!(is, State::Open);
                // Only calls open it.
                assert!(matches!(step, Step::Report(..) | Step::Amend(..)));
            }
            Some(Transition::HalfOpened) => {
                assert_eq!((was, is), (State::Open, State::HalfOpen));
                assert!(matches!(step, Step::Ask));
            }
            Some(Transition::Closed) => {
                let by_probe = was == State::HalfOpen && matches!(step, Step::Report(..));
                assert!(by_probe || matches!(step, Step::Reset), "{step:?}");
            }
            Some(Transition::ModeSet(to)) => assert_ne!(to, mode),
        }
        if !matches!(self.breaker.mode, Mode::Normal | Mode::ObserveOnly) {
            assert_ne!(is, State::HalfOpen);
        }
    }
}

fn take<T>(held: &mut Vec<T>, at: usize) -> Option<T> {
    if held.is_empty() {
        return None;
    }
    let at = at % held.len();
    Some(held.swap_remove(at))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn after_any_history_it_is_never_wedged(
        configs in [config(), config()],
        seed in any::<u64>(),
        start in prop_oneof![Just(T0), Just(Timestamp::ZERO)],
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut world = World::new(configs, start, seed);
        let mut latest = start;
        for step in steps {
            world.step(step);
            latest = latest.max(world.now);
        }
        if world.breaker.mode == Mode::ForcedOpen {
            return Ok(());
        }
        // Whatever tickets are still out: after the longest lease, time open and ramp, it asks
        // itself through, one call after the other, until it is closed. Counted from the latest
        // instant, because a clock that was set back is waited for.
        world.now = latest + secs(3 * 86_400);
        let config = world.configs[0].clone();
        for _ in 0..usize::from(config.successes) + 1 {
            let now = world.now;
            let Admission::Pass(ticket) = world.ask() else {
                panic!("wedged: {:?}", world.breaker);
            };
            world.breaker.report(&config, ticket, WELL, now, &mut world.rng);
            world.now = now + config.ramp;
        }
        prop_assert_eq!(world.state(), State::Closed);
    }

    #[test]
    fn the_ends_of_time_are_no_fault(
        configs in [config(), config()],
        seed in any::<u64>(),
        start in prop_oneof![
            Just(Timestamp::MAX),
            Just(Timestamp::MAX.before(secs(100))),
            Just(Timestamp::ZERO),
        ],
        steps in prop::collection::vec(
            prop_oneof![
                10 => step(),
                1 => Just(Step::Wait(Duration::MAX)),
                1 => Just(Step::Back(Duration::MAX)),
            ],
            0..200,
        ),
    ) {
        let mut breaker = Breaker::new(&configs[0], start);
        let mut rng = Mixer(seed | 1);
        let (mut now, mut tickets, config) = (start, Vec::new(), &configs[0]);
        for step in steps {
            match step {
                Step::Wait(time) => now = now + time,
                Step::Back(time) => now = now.before(time),
                Step::Report(at, signal) => {
                    if let Some(ticket) = take(&mut tickets, at) {
                        breaker.report(config, ticket, signal, now, &mut rng);
                    }
                }
                Step::SetMode(mode) => breaker.set_mode(config, mode, now),
                _ => match breaker.ask(config, now, &mut rng) {
                    Admission::Pass(ticket) => tickets.push(ticket),
                    Admission::Refuse(refusal) => {
                        prop_assert_ne!(refusal.retry_after(), Some(Duration::ZERO));
                    }
                },
            }
            let _ = breaker.snapshot(config, now);
        }
    }

    #[test]
    fn at_any_rate_it_opens_within_one_window_of_failures(
        per_minute in prop_oneof![45_u64..200, 200_u64..10_000],
        calls in 0_u64..2_000,
    ) {
        let mut run = Run::new(BreakerConfig::builder().no_conditions().failure_ratio(0.5, 20));
        let gap = secs(60) / per_minute as u32;
        for _ in 0..calls {
            run.call(WELL);
            run.pass_time(gap);
        }
        let start = run.now;
        while run.state() == State::Closed {
            run.call(Signal::FAILURE);
            run.pass_time(gap);
        }
        prop_assert!(run.now.since(start) <= secs(30), "{:?}", run.now.since(start));
    }

    #[test]
    fn below_every_threshold_it_never_opens(
        gaps in prop::collection::vec(0_u64..5_000, 100..1_000),
    ) {
        // Two of five fail, in any rhythm.
        let mut run = Run::new(BreakerConfig::builder().last_calls(50));
        for (call, gap) in gaps.into_iter().enumerate() {
            run.call(if call % 5 < 2 { Signal::FAILURE } else { WELL });
            run.pass_time(millis(gap));
            prop_assert_eq!(run.news(), None);
        }
    }
}
