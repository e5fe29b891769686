//! What is served without a configuration: a provider that only pretends, in this very process.

use std::{io, net::SocketAddr, time::Duration};

use embedded_provider::{Latency, Limits, Provider as Embedded};
use tower_relay::policy::{InvalidConfig, Quota, pool::Strategy};

use super::{
    base_url::BaseUrl,
    config::{
        Breaker, ClassQuota, Concurrency, Config, DEFAULT_LISTEN, Front, Http2, Key, Scope,
        Timeouts, Upstream,
    },
    paths::Pattern,
    providers::Provider,
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

/// Starts the provider; it runs as long as the handle is kept.
pub(super) async fn start() -> Result<(Embedded, Config), BoxError> {
    let provider = embedded().await?;
    let config = config(&provider)?;
    Ok((provider, config))
}

async fn embedded() -> io::Result<Embedded> {
    let limits = Limits {
        requests_per_minute: Some(REQUESTS),
        input_tokens_per_minute: Some(INPUT_TOKENS),
        output_tokens_per_minute: Some(OUTPUT_TOKENS),
        ..Limits::default()
    };
    let scopes = ACCOUNTS.iter().flat_map(|account| account.scopes);
    let mut provider = Embedded::builder().latency(LATENCY);
    for (name, aliases) in scopes {
        let keys = aliases.iter().map(|alias| secret(alias));
        provider = provider.scope(embedded_provider::Scope::new(*name, keys, limits));
    }
    provider.start().await
}

fn config(provider: &Embedded) -> Result<Config, BoxError> {
    let upstreams = ACCOUNTS.iter().map(|account| upstream(account, provider));
    Ok(Config {
        listen: DEFAULT_LISTEN,
        front: Front::default(),
        upstreams: upstreams.collect::<Result<_, _>>()?,
    })
}

fn upstream(account: &Account, provider: &Embedded) -> Result<Upstream, BoxError> {
    let scopes = account.scopes.iter();
    let scopes = scopes.map(|(name, aliases)| scope(name, aliases));
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
    })
}

fn scope(name: &str, aliases: &[&str]) -> Result<Scope, InvalidConfig> {
    let quota = Quota::builder()
        .requests_per_minute(REQUESTS)
        .input_tokens_per_minute(INPUT_TOKENS)
        .output_tokens_per_minute(OUTPUT_TOKENS)
        .build()?;
    let models = Vec::new();
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
        quotas: vec![ClassQuota { models, quota }],
    })
}

/// It opens nothing anywhere.
fn secret(alias: &str) -> String {
    format!("pretend-{alias}")
}

/// How to try it.
pub(super) fn introduction(provider: &Embedded, listen: SocketAddr) -> String {
    format!(
        "no --config: this is a pretend provider at {}, which makes its answers up and enforces \
         quotas. Try\n  curl http://{listen}/v1/messages -H 'content-type: application/json' \
         -d '{{\"model\":\"some-model\",\"max_tokens\":60,\
         \"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'",
        provider.url()
    )
}
