//! What there is without a configuration: a provider that only pretends, in this very process.

use std::{io, time::Duration};

use embedded_provider::{Latency, LimitHeaders, Limits, Provider as Embedded};
use tower_relay::policy::{InvalidConfig, Quota, pool::Strategy};

use crate::config::{
    Affinity, BaseUrl, Breaker, ClassQuota, Concurrency, Config, DEFAULT_LISTEN, Estimate, Front,
    Http2, Key, Pattern, Provider, Scope, Timeouts, Upstream,
};
use tower_relay::error::BoxError;

/// Per scope and minute.
const REQUESTS: u64 = 600;
const INPUT_TOKENS: u64 = 400_000;
const OUTPUT_TOKENS: u64 = 200_000;

const LATENCY: Latency = Latency {
    first_token: Duration::from_millis(200),
    per_token: Duration::from_millis(5),
};

/// Either format has accounts of its own, because two pools would know nothing of each other.
const ACCOUNTS: [Account; 2] = [
    Account {
        provider: "anthropic",
        paths: "/v1/messages*",
        scopes: &[("org-a", &["a1", "a2"]), ("org-b", &["b1"])],
    },
    Account {
        provider: "openai",
        paths: "/v1/chat/*",
        scopes: &[("org-c", &["c1"]), ("org-d", &["d1"])],
    },
];

struct Account {
    provider: &'static str,
    paths: &'static str,
    scopes: &'static [(&'static str, &'static [&'static str])],
}

/// Starts the provider, with a clock that runs so many times faster than the real one; it runs as
/// long as the handle is kept.
pub(crate) async fn start(time_scale: u32) -> Result<(Embedded, Config), BoxError> {
    let provider = embedded(time_scale).await?;
    let config = config(&provider, time_scale.into())?;
    Ok((provider, config))
}

async fn embedded(time_scale: u32) -> io::Result<Embedded> {
    let limits = Limits {
        requests_per_minute: Some(REQUESTS),
        input_tokens_per_minute: Some(INPUT_TOKENS),
        output_tokens_per_minute: Some(OUTPUT_TOKENS),
        // One second of the caller's: no machine stalls for less time because this clock is quick.
        burst: Duration::from_secs(1) * time_scale,
        ..Limits::default()
    };
    let scopes = ACCOUNTS.iter().flat_map(|account| account.scopes);
    // Headers tell of limits per minute of its own clock, which is not the caller's.
    let headers = match time_scale {
        1 => LimitHeaders::OfFormat,
        _ => LimitHeaders::Off,
    };
    let mut provider = Embedded::builder()
        .time_scale(time_scale.into())
        .limit_headers(headers)
        .latency(LATENCY);
    for (name, aliases) in scopes {
        let keys = aliases.iter().map(|alias| secret(alias));
        provider = provider.scope(embedded_provider::Scope::new(*name, keys, limits));
    }
    provider.start().await
}

fn config(provider: &Embedded, time_scale: u64) -> Result<Config, BoxError> {
    let upstreams = ACCOUNTS
        .iter()
        .map(|account| upstream(account, provider, time_scale));
    Ok(Config {
        listen: DEFAULT_LISTEN,
        front: Front::default(),
        upstreams: upstreams.collect::<Result<_, _>>()?,
        state: None,
    })
}

fn upstream(account: &Account, provider: &Embedded, time_scale: u64) -> Result<Upstream, BoxError> {
    let scopes = account.scopes.iter();
    let scopes = scopes.map(|(name, aliases)| scope(name, aliases, time_scale));
    Ok(Upstream {
        name: account.provider.to_owned(),
        provider: Provider::of(account.provider).expect("it is in the table"),
        base_url: BaseUrl::parse(&provider.url())?,
        paths: vec![Pattern::parse(account.paths)?],
        scopes: scopes.collect::<Result<_, _>>()?,
        strategy: Strategy::default(),
        max_wait: Upstream::MAX_WAIT,
        max_waiting: Upstream::MAX_WAITING,
        timeouts: Timeouts::default(),
        http2: Http2::default(),
        breaker: Breaker::default(),
        concurrency: Concurrency::default(),
        classes: None,
        affinity: Affinity::default(),
        estimate: Estimate::default(),
        key_breaker: true,
    })
}

fn scope(name: &str, aliases: &[&str], time_scale: u64) -> Result<Scope, InvalidConfig> {
    let quota = ClassQuota::of_all(
        Quota::builder()
            .requests_per_minute(REQUESTS * time_scale)
            .input_tokens_per_minute(INPUT_TOKENS * time_scale)
            .output_tokens_per_minute(OUTPUT_TOKENS * time_scale),
    )?;
    let keys = aliases.iter().map(|alias| Key {
        alias: (*alias).to_owned(),
        weight: 1,
        secret: secret(alias).into(),
        is_literal: false,
    });
    Ok(Scope {
        name: name.to_owned(),
        base_url: None,
        headers: Default::default(),
        keys: keys.collect(),
        quotas: vec![quota],
    })
}

/// It opens nothing anywhere.
fn secret(alias: &str) -> String {
    format!("pretend-{alias}")
}
