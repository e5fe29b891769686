//! Getting all of a quota, and who gets it first.
//!
//! Behind the layers as they come, nearly all of a quota that is configured is used. What is left
//! to decide:
//!
//! | if | set |
//! |---|---|
//! | output counts while it is produced, or texts are not four bytes a token | [`Estimator`] |
//! | callers of several kinds share a quota | [`Shares`] |
//! | there are several scopes, and prompts that repeat | [`Affinity`] |
//! | nobody knows the quota, and headers show it | [`learn`] |
//! | nobody knows it, and nothing shows it | [`seek`] |
//! | it is known, and nothing shows what is left | [`margin_per_mille`] |
//! | the provider punishes growth | [`ramp`] |
//!
//! Figures are from `docs/accuracy.md` and `docs/scoreboard.md` in the repository; `cargo run --release
//! -p simulator` makes them.
//!
//! # What a call costs
//!
//! A call reserves tokens before it is sent, and its answer settles them. How much to reserve depends on
//! how the provider charges, which a [`Profile`](crate::provider::Profile) knows. The estimate of the
//! input is the body's bytes by a ratio, that of the output the request's own limit. An [`Estimator`]
//! learns both from answers. Quota used and calls refused, without it and with it:
//!
//! | what is charged | of output is reserved | without | with |
//! |---|---|---|---|
//! | output while it is produced (Anthropic) | what 95 % of the answers did not exceed | 94.73 %, 0.376 % | 97.12 %, 0.204 % |
//! | the larger of input and limit, for good (OpenAI) | the limit, which is what it costs | 99.08 %, 0 | 99.83 %, 0 |
//! | input and limit, settled (Groq, others) | the limit, which the provider takes as well | 99.53 %, 0.012 % | 99.62 %, 0.003 % |
//! | input, cached for free (Anthropic) | nothing | 96.69 %, 0.277 % | 96.71 %, 0.310 % |
//!
//! Turn it on for output that counts while it is produced: limits are several times what is used, and
//! reserving them keeps others waiting. (Of four sizes of the provider's bucket it did worse with one, ten seconds'
//! worth: 97.0 % instead of 99.3 %.) Turn it on too where the ratio of bytes to tokens is unknown: with
//! estimates that are all wrong by one factor, from a tenth to four, 98.29 % are used and nothing is
//! refused. It cannot help where each call's estimate is wrong by another factor (94.52 % at 3 %
//! refused), nor know whether a prompt will be found in a cache.
//!
//! ```
//! use tower_relay::{
//!     outcome::Usage,
//!     policy::{CallSize, Cost, Estimator, Quota, Timestamp, TokenBucket, Unit},
//! };
//!
//! let quota = Quota::builder()
//!     .output_tokens_per_minute(600_000)
//!     .burst(Unit::OUTPUT_TOKENS, 20_000)
//!     .build()?;
//! let start = Timestamp::ZERO;
//! let sent_at_once = |cost: &Cost| {
//!     let mut bucket = TokenBucket::new(&quota, start);
//!     let granted = std::iter::from_fn(|| {
//!         bucket.is_ready(cost, start).then(|| bucket.take(cost, start))
//!     });
//!     granted.count()
//! };
//!
//! // At most 4,096 tokens were asked for; the answers have 300 to 400.
//! let size = CallSize::new(1_000, 4_096).as_produced();
//! let mut estimator = Estimator::new();
//! assert_eq!(sent_at_once(estimator.estimate(Some("m"), &size).cost()), 4);
//! for tokens in 300..400 {
//!     let estimate = estimator.estimate(Some("m"), &size);
//!     estimator.learn(&estimate.lesson(), &Usage::UNKNOWN.output_tokens(tokens));
//! }
//! assert_eq!(sent_at_once(estimator.estimate(Some("m"), &size).cost()), 48);
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! In a stack it is [`RateLimitLayer::estimate`] or [`KeyRotationLayer::estimate`].
//!
//! # Who goes first
//!
//! In the order of arrival an interactive call waits behind all of a batch. With [`Shares`] it waits for
//! its own class:
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use tokio::time::{Instant, sleep};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_relay::{error::BoxError, policy::{InvalidConfig, Shares}, rate_limit::RateLimitLayer};
//!
//! type Class = &'static str;
//!
//! /// How long the call of a user waits that comes after two hundred of a batch.
//! async fn wait(layer: RateLimitLayer) -> Duration {
//!     let layer = layer.class(|class: &Class| Some(*class));
//!     let service = layer.layer(service_fn(async |_: Class| Ok::<_, Infallible>(())));
//!     for _ in 0..200 {
//!         tokio::spawn(service.clone().oneshot("batch"));
//!     }
//!     sleep(Duration::from_millis(1)).await;
//!     let start = Instant::now();
//!     service.oneshot("interactive").await.expect("it is served");
//!     start.elapsed()
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), InvalidConfig> {
//! let shares = Shares::builder().class("interactive", 20).class("batch", 80).build()?;
//! assert!(wait(RateLimitLayer::per_second(10)).await > Duration::from_secs(19));
//! assert!(wait(RateLimitLayer::per_second(10).shares(shares)).await <= Duration::from_millis(200));
//! # Ok(())
//! # }
//! ```
//!
//! Beside a batch that takes all it can get, interactive calls with a weight of 20 to 80 that need 15 % of
//! the quota have a P99 wait of at most 0.32 s. In the order of arrival it is 71 s, and 700 s where the batch's
//! calls are ten times as large.
//!
//! **What no order can do.** What all wait, weighed by their load, is the same in any order that leaves
//! nothing idle (Kleinrock's conservation law). Whoever waits less makes others wait longer. With small
//! and large calls, half of the load each and 95 % together, the large ones' P99 is 17 s in the
//! order of arrival; with equal weights that of the small ones falls from 16 to 1.1 s, and the large
//! ones' rises to 33 s.
//!
//! **Choosing weights.** Give a class whose waits matter a fifth more by its weight than it uses: it then
//! waits no longer than in the order of arrival, or hardly. Above, weights of 40 to 60 bring
//! the large ones to 14 s; the small ones pay with 27 s. A class that asks for more than its weight gives
//! waits for its own excess, and whichever that is can change from hour to hour. What is idle saves
//! nothing up, and nobody starves: above the quota each class gets what its weight promises.
//!
//! Without a reason to prefer anybody leave shares out.
//!
//! # Prompt caches
//!
//! A provider finds the beginning of a prompt in its cache only if the same account sent it a few minutes
//! before. A pool that spreads calls over its scopes by what is left of them loses that; [`Affinity`] keeps the
//! calls of a session where the first went. On the scoreboard, with 400 sessions of all sizes, the part of the
//! prompts' tokens that is found in a cache rises from .91 to .99 with five scopes and from .66 to .96 with twenty,
//! and no fewer calls are served.
//!
//! What it costs is waiting: a call may wait a second for its own scope while another is free
//! ([`patience`](crate::policy::pool::Affinity::patience)), or longer where scopes are slow. At 70 % of the quota
//! the P99 wait is 0.7 s with five scopes and 1.4 s with twenty, instead of 0.1 s; with callers that always ask 6 to
//! 9 s, instead of 3 to 4.5 s. Scopes are loaded less evenly too: a key has up to 1.27 times its
//! share, and more where one session alone is more than that.
//!
//! So with few scopes and prompts that repeat often it gains little: they are cached everywhere. Leave it
//! out there, and where
//!
//! - there is one scope;
//! - a wait costs more than tokens that are not cached;
//! - prompts share less than their first thousand tokens, the least that providers cache;
//! - all prompts begin alike and name no session: [`JsonFacts`](crate::provider::JsonFacts) then takes them
//!   for one, unless it is told to go by names alone
//!   ([`Affinity::Session`](crate::provider::Affinity::Session)).
//!
//! ```
//! use tower_relay::policy::{
//!     Cost, InvalidConfig, Quota, Timestamp,
//!     pool::{Affinity, Ask, Pool, PoolConfig, ScopeConfig, Settlement},
//! };
//!
//! /// Of fifty calls of one session, how many the scope serves that serves most of them.
//! fn at_one_scope(affinity: Option<Affinity>) -> Result<usize, InvalidConfig> {
//!     let quota = Quota::builder().requests_per_minute(6_000).build()?;
//!     let scopes = ["org-a", "org-b", "org-c", "org-d", "org-e"];
//!     let config = scopes.iter().fold(PoolConfig::builder(), |config, name| {
//!         config.scope(ScopeConfig::new(*name).quota(quota.clone()).key(format!("{name}-1")))
//!     });
//!     let config = affinity.into_iter().fold(config, |config, affinity| config.affinity(affinity));
//!     let (mut now, mut served) = (Timestamp::ZERO, [0; 5]);
//!     let mut pool = Pool::new(&config.build()?, now);
//!     for _ in 0..50 {
//!         let ask = Ask::new(pool.resolve(None), Cost::REQUEST);
//!         let ask = pool.prefer(ask, 7, now);
//!         let pick = pool.try_take(&ask, now).expect("there is enough");
//!         let alias = pool.alias(&pick).clone();
//!         served[scopes.iter().position(|name| alias.starts_with(name)).expect("one of them")] += 1;
//!         pool.release(pick, Settlement::AsReserved, now);
//!         now = now + std::time::Duration::from_secs(1);
//!     }
//!     Ok(served.into_iter().max().unwrap_or(0))
//! }
//!
//! assert_eq!(at_one_scope(Some(Affinity::new()))?, 50);
//! assert!(at_one_scope(None)? <= 10);
//! # Ok::<(), InvalidConfig>(())
//! ```
//!
//! # Quotas that nobody told
//!
//! From best to worst:
//!
//! 1. **Configure it**, if it is known at all. Headers correct it.
//! 2. **[`learn`]** it from headers ([`Quota::learned`]), where the provider shows limits. That costs
//!    little: 98.84 % used at OpenAI with 0 refused, against 99.08 % with the quota told. Until the first answer
//!    8 calls are sent at once and 2 a second.
//! 3. **[`seek`]** it from refusals, where nothing is shown. For the scoreboard's S7, ten calls a second,
//!    that is all of the quota at one refusal in 300; from a hundredth of the rate and from a hundred times
//!    it alike. It is weaker where others use the same quota (.83 of what they leave), after the
//!    quota has changed (.95 to .97), and with a learned limit of calls in flight behind it (.92): take a
//!    fixed one there. [`RateSearch::halving`] is the rule of x0.5 and +5 % that others use, for
//!    fourteen times the refusals and no more of the quota.
//!
//! Ten minutes of a search that began at a tenth of the rate, two minutes before:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{Cost, Quota, RateSearch, Readings, Timestamp, TokenBucket, Unit};
//!
//! let search = RateSearch::per_second(0.1..=1_000.0).starting_at(1.0);
//! let (start, one) = (Timestamp::ZERO, Cost::REQUEST);
//! let mut ours = TokenBucket::new(&Quota::builder().seek(Unit::REQUESTS, search).build()?, start);
//! let granted = Quota::builder().requests_per_second(10).burst(Unit::REQUESTS, 10).build()?;
//! let mut server = TokenBucket::new(&granted, start);
//!
//! let (mut served, mut refused) = (0, 0);
//! loop {
//!     let now = ours.ready_at(&one)?;
//!     if now.since(start) >= Duration::from_secs(720) {
//!         break;
//!     }
//!     let counts = u32::from(now.since(start) >= Duration::from_secs(120));
//!     let call = ours.take(&one, now);
//!     if server.is_ready(&one, now) {
//!         server.take(&one, now);
//!         served += counts;
//!     } else {
//!         ours.observe(&call, &Readings::NONE.of_refusal(), now);
//!         refused += counts;
//!     }
//! }
//! assert!(served >= 5_820, "{served} of 6,000");
//! assert!(refused <= 60, "{refused}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Margins.** No two clocks run alike, and a server whose clock is slower by a hundredth refuses a
//! client that always has work one call in a hundred, for as long as it runs. Where headers show
//! what is left they correct it, and after a refusal that the books did not foresee a hundredth is kept back by
//! itself, after further ones up to three. Where nothing is shown and refusals are dear, begin with
//! [`margin_per_mille`]`(10)`, which costs that hundredth of the quota.
//!
//! **Growth.** Some providers refuse who grows too fast, whatever the quota. [`ramp`] keeps below
//! that; [`Profile::OPENAI_RAMP`] has OpenAI's figures. No call provoked any of three kinds of
//! servers, at .85 of what a client could send that knows as little. Tenfold takes 153 minutes, so leave it out where
//! demand stays below the floor or the provider does not punish.
//!
//! **Restarts.** After one a ramp begins at its floor, which is safe and slow. To go on from where it was,
//! save what the handle shows ([`RateLimitHandle::ramp`]) every minute or so, and give it back:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{Cost, Quota, Ramp, RampState, Timestamp, TokenBucket, Unit};
//!
//! let ramp = Ramp::above_per_minute(60_000);
//! let bucket_of = |ramp: Ramp| {
//!     let quota = Quota::builder().ramp(Unit::INPUT_TOKENS, ramp).build()?;
//!     Ok::<_, tower_relay::policy::InvalidConfig>(TokenBucket::new(&quota, Timestamp::ZERO))
//! };
//!
//! // An hour in which as much as possible is sent.
//! let mut bucket = bucket_of(ramp.clone())?;
//! let (cost, mut now) = (Cost::REQUEST.input_tokens(500), Timestamp::ZERO);
//! while now.since(Timestamp::ZERO) < Duration::from_secs(3_600) {
//!     now = bucket.ready_at(&cost)?;
//!     bucket.take(&cost, now);
//! }
//! let shown = bucket.ramp(Unit::INPUT_TOKENS, now).expect("it has one");
//! let (step, used) = (shown.state().step(), shown.state().used().to_vec());
//!
//! // The program starts again, half a minute later: as it was, or from the floor.
//! let state = RampState::new(step, used);
//! let resumed = bucket_of(ramp.clone().resume(state, Duration::from_secs(30)))?;
//! let allowed = |bucket: &TokenBucket| {
//!     bucket.ramp(Unit::INPUT_TOKENS, Timestamp::ZERO).expect("it has one").allowed()
//! };
//! assert!(allowed(&resumed) > 0.9 * shown.allowed());
//! assert!(allowed(&bucket_of(ramp)?) < 0.5 * shown.allowed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A rate that was sought is not saved for you: begin the next search at it, a little lower
//! ([`RateLimitHandle::sought_rate`], [`RateSearch::starting_at`]).
//!
//! [`Estimator`]: crate::policy::Estimator
//! [`Shares`]: crate::policy::Shares
//! [`Affinity`]: crate::policy::pool::Affinity
//! [`learn`]: crate::policy::QuotaBuilder::learn
//! [`seek`]: crate::policy::QuotaBuilder::seek
//! [`ramp`]: crate::policy::QuotaBuilder::ramp
//! [`margin_per_mille`]: crate::policy::QuotaBuilder::margin_per_mille
//! [`Quota::learned`]: crate::policy::Quota::learned
//! [`RateSearch::halving`]: crate::policy::RateSearch::halving
//! [`RateSearch::starting_at`]: crate::policy::RateSearch::starting_at
//! [`Profile::OPENAI_RAMP`]: crate::provider::Profile::OPENAI_RAMP
//! [`RateLimitLayer::estimate`]: crate::rate_limit::RateLimitLayer::estimate
//! [`KeyRotationLayer::estimate`]: crate::key_rotation::KeyRotationLayer::estimate
//! [`RateLimitHandle::ramp`]: crate::rate_limit::RateLimitHandle::ramp
//! [`RateLimitHandle::sought_rate`]: crate::rate_limit::RateLimitHandle::sought_rate
