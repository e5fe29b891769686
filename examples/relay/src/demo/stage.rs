//! What a row takes place on: a provider with its accounts, and the batch to be sent to it.

use std::{io, time::Duration};

use embedded_provider::{Counters, Latency, Limits, Provider, Scope};
use http::{HeaderValue, header::InvalidHeaderValue};
use indicatif::{ProgressBar, ProgressStyle};
use tower_relay::{
    key_rotation::{KeyPool, KeyRotationHandle, Source},
    outcome::Verdict,
    policy::{InvalidConfig, Quota},
};

use super::{
    Options,
    load::{Batch, Client, Load, round_robin, upstream},
    report::{Account, Row, Setting, counted},
};

/// Size of a prompt and longest answer, in tokens.
const PROMPT_TOKENS: usize = 1_200;
const MAX_TOKENS: u64 = 800;

/// Of each account, per minute. Output binds: 500 documents a minute, where requests would allow
/// 600 and input tokens 666.
const REQUESTS: u64 = 600;
const INPUT_TOKENS: u64 = 800_000;
const OUTPUT_TOKENS: u64 = 400_000;
/// Half a second of rate is what the provider tolerates at once. The limiter does not make use of
/// it: it is there for what the network and the timers add.
const BURST: Duration = Duration::from_millis(500);

/// An answer of mean length takes 2.8 s, so 50 workers could do twice what the quota of one
/// account allows.
const LATENCY: Latency = Latency {
    first_token: Duration::from_millis(600),
    per_token: Duration::from_millis(5),
};

/// A provider of its own, and the batch to be sent to it.
pub(super) struct Stage {
    pub(super) batch: Batch,
    setting: Setting,
    provider: Provider,
}

impl Stage {
    pub(super) async fn set(options: &Options, setting: Setting) -> io::Result<Self> {
        let provider = Provider::builder()
            .seed(options.seed)
            .time_scale(setting.time_scale.into())
            .latency(LATENCY);
        let scopes = (0..setting.accounts)
            .map(|account| Scope::new(scope_name(account), [key(account)], limits()));
        let provider = scopes.fold(provider, |provider, scope| provider.scope(scope));
        let provider = provider.start().await?;
        let batch = Batch {
            url: provider.url(),
            documents: setting.documents,
            workers: setting.workers,
            prompt_tokens: PROMPT_TOKENS,
            max_tokens: MAX_TOKENS,
            progress: progress(options.json, &setting),
            books: Default::default(),
        };
        Ok(Self {
            batch,
            setting,
            provider,
        })
    }

    /// A client without a key.
    pub(super) fn client(&self) -> impl Client + use<> {
        upstream(self.batch.workers, self.batch.books.clone())
    }

    /// A client that knows the keys of all accounts and nothing else of them.
    pub(super) fn client_with_keys(&self) -> Result<impl Client + use<>, InvalidHeaderValue> {
        let keys = (0..self.setting.accounts).map(|account| HeaderValue::try_from(key(account)));
        Ok(round_robin(self.client(), keys.collect::<Result<_, _>>()?))
    }

    /// An account's quota as the limiter sees it: in real time, so as many times larger as the
    /// provider's minutes are shorter.
    pub(super) fn quota(&self) -> Result<Quota, InvalidConfig> {
        let scale = u64::from(self.setting.time_scale);
        Quota::builder()
            .requests_per_minute(REQUESTS * scale)
            .input_tokens_per_minute(INPUT_TOKENS * scale)
            .output_tokens_per_minute(OUTPUT_TOKENS * scale)
            .build()
    }

    /// All accounts, each with its key and its quota.
    pub(super) fn pool(&self) -> Result<KeyPool, InvalidConfig> {
        let keys = (0..self.setting.accounts)
            .map(|account| (scope_name(account), Source::value(key(account))));
        KeyPool::accounts(self.quota()?, keys)
    }

    /// What the provider has counted, beside the client's own books.
    pub(super) fn row(&self, load: Load) -> Row {
        self.batch.progress.finish();
        let counters = self.provider.counters();
        let quota_used = quota_used_share(&counters, self.setting.accounts);
        Row::new(&self.setting, &load, &counters, quota_used)
    }

    /// The same, and what the provider has counted for each account beside the pool's books.
    pub(super) fn pooled_row(&self, load: Load, pool: &KeyRotationHandle) -> Row {
        let accounts: Vec<_> = pool
            .scopes()
            .iter()
            .map(|scope| {
                let counters = self.provider.scope_counters(scope.name());
                Account {
                    name: scope.name().to_owned(),
                    by_pool: scope.totals().get(Verdict::Success),
                    by_provider: counters.map_or(0, |counters| counters.answered),
                }
            })
            .collect();
        self.row(load).pool_books(&accounts)
    }
}

/// What all rows have in common.
pub(super) fn introduction(options: &Options) -> String {
    format!(
        "{} documents for each account (prompt {} tokens, max_tokens {MAX_TOKENS}) against an \
         embedded provider.\n\
         An account has one key, with {REQUESTS} requests, {} input and {} output tokens per \
         minute, and a burst of {} s.\nOutput tokens bind: at most {:.2} documents per second and \
         account.\n\
         The provider's clock runs {} times faster than yours; every time and every rate below is \
         the provider's.",
        counted(options.documents as u64),
        counted(PROMPT_TOKENS as u64),
        counted(INPUT_TOKENS),
        counted(OUTPUT_TOKENS),
        BURST.as_secs_f64(),
        OUTPUT_TOKENS as f64 / MAX_TOKENS as f64 / 60.0,
        options.time_scale,
    )
}

fn limits() -> Limits {
    Limits {
        requests_per_minute: Some(REQUESTS),
        input_tokens_per_minute: Some(INPUT_TOKENS),
        output_tokens_per_minute: Some(OUTPUT_TOKENS),
        burst: BURST,
        ..Limits::default()
    }
}

fn scope_name(account: usize) -> String {
    format!("org-{}", account + 1)
}

fn key(account: usize) -> String {
    format!("demo-key-{}", account + 1)
}

/// What was charged over what all accounts together could have given, from the first admission of
/// any of them to the last of any: an account that runs dry before the others counts to the end.
///
/// For one account this is [`Provider::quota_used_share`].
fn quota_used_share(counters: &Counters, accounts: usize) -> f64 {
    let (Some(first), Some(last)) = (counters.first_admission, counters.last_admission) else {
        return 0.0;
    };
    let seconds = (BURST + last.saturating_sub(first)).as_secs_f64();
    let share = |charged: u64, per_minute: u64| {
        charged as f64 / (accounts as f64 * per_minute as f64 / 60.0 * seconds)
    };
    [
        share(counters.requests_charged, REQUESTS),
        share(counters.input_tokens_charged, INPUT_TOKENS),
        share(counters.output_tokens_charged, OUTPUT_TOKENS),
    ]
    .into_iter()
    .fold(0.0, f64::max)
}

/// A bar on standard error, where that is a terminal and nobody wants JSON.
fn progress(json: bool, setting: &Setting) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:39} {wide_bar} {pos}/{len} {msg}")
        .expect("the template is right");
    ProgressBar::new(setting.documents as u64)
        .with_style(style)
        .with_prefix(setting.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_of_several_accounts_is_what_they_could_have_given_together() {
        let mut counters = Counters::default();
        assert_eq!(quota_used_share(&counters, 5), 0.0);
        counters.first_admission = Some(Duration::from_secs(10));
        counters.last_admission = Some(Duration::from_secs(70) - BURST);
        counters.requests_charged = REQUESTS;
        counters.output_tokens_charged = 3 * OUTPUT_TOKENS;
        assert_eq!(quota_used_share(&counters, 4), 0.75);
    }
}
