//! One run: callers, the library's layers, and a server that answers at once, in virtual time.
#![allow(
    clippy::disallowed_methods,
    reason = "the callers live in virtual time and measure it"
)]

use std::{cell::RefCell, convert::Infallible, future::Future, pin::pin, rc::Rc, time::Duration};

use tokio::{
    runtime::Builder,
    task::LocalSet,
    time::{Instant, sleep, sleep_until},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{
    error::BoxError,
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    policy::{Cost, Quota, Shares, limit::Fixed},
    rate_limit::RateLimitLayer,
};

use super::setting::{Class, Comes, Limit, Order, RATE, Setting};
use crate::chance::Chance;

const PER_MINUTE: u64 = 2_000_000;
const SCOPES: u64 = 5;
const MANY: usize = 1_000_000;

/// What a call asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    class: &'static str,
    number: usize,
    tokens: u64,
    came: Instant,
}

fn class(ask: &Ask) -> Option<&str> {
    Some(ask.class)
}

/// What has become of the calls of a class.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Served since it was warm.
    pub(super) tokens: u64,
    pub(super) calls: u64,
    pub(super) waits: Vec<Duration>,
    /// Tokens served in the ten seconds after a pause.
    pub(super) after_pause: u64,
    /// How long the oldest had waited in the end.
    pub(super) oldest: Duration,
    /// Looks of the calls that had to wait, and how many they were.
    pub(super) polls: u64,
    pub(super) waited: u64,
    waiting: std::collections::BTreeMap<(Instant, u64), ()>,
    came: u64,
}

pub(super) fn run(setting: &Setting, seed: u64) -> Vec<Seen> {
    // The layers' own chance.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    LocalSet::new().block_on(&runtime, simulate(setting, seed))
}

async fn simulate(setting: &Setting, seed: u64) -> Vec<Seen> {
    let began = Instant::now();
    let seen = Rc::new(RefCell::new(vec![Seen::default(); setting.classes.len()]));
    let clock = Clock::of(setting, began);
    let classes = setting.classes.clone();
    let server = {
        let seen = Rc::clone(&seen);
        service_fn(move |ask: Ask| {
            let now = Instant::now();
            let seen = &mut seen.borrow_mut()[ask.number];
            if now >= clock.warm && now < clock.end {
                seen.tokens += ask.tokens;
                seen.calls += 1;
                if classes[ask.number].watches(ask.tokens) {
                    seen.waits.push(now.duration_since(ask.came));
                }
            }
            if now >= clock.resumes && now < clock.resumes + AFTER_PAUSE {
                seen.after_pause += ask.tokens;
            }
            std::future::ready(Ok::<_, Infallible>(()))
        })
    };
    let quota = |per_minute: u64| {
        let quota = Quota::builder().tokens_per_minute(per_minute).build();
        quota.expect("it is not zero")
    };
    let cost = |ask: &Ask| Cost::REQUEST.input_tokens(ask.tokens);
    let pool = |per_minute: u64| {
        let scopes = (0..SCOPES).map(|n| {
            let scope = Scope::new(format!("s{n}")).quota(quota(per_minute));
            scope.key(format!("k{n}"), Source::value(format!("key-{n}")))
        });
        let pool = scopes.fold(KeyPool::builder(), |pool, scope| pool.scope(scope));
        KeyRotationLayer::new(pool.build().expect("valid")).max_waiting(MANY)
    };
    let shares = shares(setting);
    match setting.limit {
        Limit::Bucket => {
            let layer = RateLimitLayer::new(quota(PER_MINUTE)).max_waiting(MANY);
            let layer = match shares {
                Some(shares) => layer.shares(shares),
                None => layer,
            };
            let service = layer.cost(cost).class(class).layer(server);
            call(setting, seed, service, clock, &seen).await;
        }
        Limit::Pool | Limit::Joint => {
            let layer = match setting.limit {
                Limit::Joint => pool(PER_MINUTE / 4)
                    .rate_limit(quota(PER_MINUTE))
                    .concurrency(Fixed::of(1_000)),
                _ => pool(PER_MINUTE / SCOPES),
            };
            let layer = match shares {
                Some(shares) => layer.shares(shares),
                None => layer,
            };
            let service = layer.cost(cost).class(class).layer(server);
            call(setting, seed, service, clock, &seen).await;
        }
    }
    for seen in seen.borrow_mut().iter_mut() {
        let oldest = seen.waiting.first_key_value();
        seen.oldest = oldest.map_or(Duration::ZERO, |((came, _), ())| {
            clock.end.duration_since(*came)
        });
    }
    seen.take()
}

const AFTER_PAUSE: Duration = Duration::from_secs(10);

fn shares(setting: &Setting) -> Option<Shares> {
    let Order::Shares(weights) = &setting.order else {
        return None;
    };
    let named = setting.classes.iter().zip(&weights[1..]);
    let built = named.fold(Shares::builder(), |built, (class, weight)| {
        built.class(class.name, *weight)
    });
    Some(built.others(weights[0]).build().expect("valid"))
}

#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    warm: Instant,
    /// When a pause ends.
    resumes: Instant,
    end: Instant,
}

impl Clock {
    fn of(setting: &Setting, began: Instant) -> Self {
        let after = |seconds| began + Duration::from_secs(seconds);
        Self {
            began,
            warm: after(setting.warm),
            resumes: after(setting.seconds / 3 * 2),
            end: after(setting.seconds),
        }
    }

    fn pauses(&self) -> Instant {
        self.began + self.resumes.duration_since(self.began) / 2
    }
}

/// Lets everybody call until the end.
async fn call<S>(
    setting: &Setting,
    seed: u64,
    service: S,
    clock: Clock,
    seen: &Rc<RefCell<Vec<Seen>>>,
) where
    S: Service<Ask, Response = (), Error = BoxError> + Clone + 'static,
{
    for (number, class) in setting.classes.iter().enumerate() {
        match class.comes {
            Comes::Poisson(load) => {
                let mut chance = Chance::new(seed, number as u64);
                let (service, seen, class) = (service.clone(), Rc::clone(seen), class.clone());
                tokio::task::spawn_local(async move {
                    let mean = class.mean_size() / (RATE * load);
                    let mut at = clock.began;
                    loop {
                        at += Duration::from_secs_f64(chance.exponential(mean));
                        if at >= clock.end {
                            return;
                        }
                        sleep_until(at).await;
                        let ask = ask(&class, number, &mut chance);
                        tokio::task::spawn_local(serve(service.clone(), ask, Rc::clone(&seen)));
                    }
                });
            }
            Comes::Always(callers) | Comes::Pausing(callers) => {
                for caller in 0..callers {
                    let stream = (number * callers + caller) as u64;
                    let mut chance = Chance::new(seed, stream);
                    let (service, seen, class) = (service.clone(), Rc::clone(seen), class.clone());
                    tokio::task::spawn_local(async move {
                        while Instant::now() < clock.end {
                            let is_pause =
                                Instant::now() >= clock.pauses() && Instant::now() < clock.resumes;
                            if is_pause && matches!(class.comes, Comes::Pausing(_)) {
                                sleep_until(clock.resumes).await;
                            }
                            let ask = ask(&class, number, &mut chance);
                            let call = serve(service.clone(), ask, Rc::clone(&seen));
                            // A task of its own, so that its polls are its own.
                            tokio::task::spawn_local(call).await.expect("no panic");
                        }
                    });
                }
            }
        }
    }
    sleep(clock.end.duration_since(Instant::now())).await;
}

fn ask(class: &Class, number: usize, chance: &mut Chance) -> Ask {
    let which = (chance.even() * class.sizes.len() as f64) as usize;
    Ask {
        class: class.name,
        number,
        tokens: class.sizes[which],
        came: Instant::now(),
    }
}

async fn serve<S>(service: S, ask: Ask, seen: Rc<RefCell<Vec<Seen>>>)
where
    S: Service<Ask, Response = (), Error = BoxError> + Clone,
{
    let number = ask.number;
    let place = {
        let seen = &mut seen.borrow_mut()[number];
        seen.came += 1;
        let place = (ask.came, seen.came);
        seen.waiting.insert(place, ());
        place
    };
    let mut polls = 0;
    let mut call = pin!(service.oneshot(ask));
    let answer = std::future::poll_fn(|cx| {
        polls += 1;
        call.as_mut().poll(cx)
    });
    answer.await.expect("there is room, and no deadline");
    let seen = &mut seen.borrow_mut()[number];
    seen.waiting.remove(&place);
    if polls > 1 {
        seen.polls += polls;
        seen.waited += 1;
    }
}
