//! The settings: how a provider charges, what it grants, and what its client is told.

use std::time::Duration;

use embedded_provider::{ChargingRule, LimitHeaders, Limits};
use tower_relay::{
    policy::{Quota, Unit},
    provider::Profile,
};

/// In whose words the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Anthropic,
    OpenAi,
    Gemini,
    Bedrock,
}

/// How the client comes to know the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// It is configured as the provider grants it.
    Configured,
    /// Response headers alone tell of it.
    Headers,
}

/// One provider and what its client should reach.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) format: Format,
    pub(super) charging: ChargingRule,
    pub(super) headers: LimitHeaders,
    /// But for the burst, which each run has its own of.
    pub(super) limits: Limits,
    pub(super) knowledge: Knowledge,
    pub(super) estimates: Estimates,
    /// How many times what is used people ask for at most.
    pub(super) most_wanted: f64,
}

/// How the client knows what a call will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Estimates {
    /// By the request alone: bytes, and the limit of its answer.
    Stated,
    /// By what answers were.
    Learned,
    /// The same, but that the bytes say something else, by one factor for all calls.
    AllWrong,
    /// The same, by another factor for each call.
    EachWrong,
}

/// What a row has to reach in every run, after the warm-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// At least this share of the binding dimension.
    pub(super) used: f64,
    /// At most this share of the calls that reached the provider.
    pub(super) refused: f64,
}

impl Row {
    pub(super) fn target(&self) -> Target {
        if matches!(self.estimates, Estimates::AllWrong | Estimates::EachWrong) {
            return Target {
                used: 0.9,
                refused: 0.01,
            };
        }
        match self.knowledge {
            Knowledge::Configured => Target {
                used: 0.97,
                refused: 0.001,
            },
            Knowledge::Headers => Target {
                used: 0.95,
                refused: 0.01,
            },
        }
    }

    /// What the client takes the provider for.
    pub(super) fn profile(&self) -> Profile {
        match self.charging {
            ChargingRule::Anthropic => Profile::anthropic(),
            ChargingRule::OpenAi => Profile::openai(),
            ChargingRule::Azure => Profile::azure_openai(),
            ChargingRule::Gemini => Profile::gemini(),
            ChargingRule::Bedrock => Profile::bedrock(),
            ChargingRule::Groq => Profile::groq(),
            ChargingRule::Mistral => Profile::mistral(),
            _ => Profile::generic(),
        }
    }

    /// What the client is configured with.
    pub(super) fn quota(&self) -> Quota {
        if self.knowledge == Knowledge::Headers {
            return Quota::learned();
        }
        let mut builder = Quota::builder();
        let limits = &self.limits;
        if let Some(amount) = limits.requests_per_minute {
            builder = match limits.requests_window == Some(SECOND) {
                true => builder.requests_per_second(amount / 60),
                false => builder.requests_per_minute(amount),
            };
        }
        if let Some(amount) = limits.requests_per_day {
            builder = builder.window(Unit::REQUESTS, amount, DAY, limits.day_ends_in);
        }
        if let Some(amount) = limits.input_tokens_per_minute {
            builder = builder.input_tokens_per_minute(amount);
        }
        if let Some(amount) = limits.output_tokens_per_minute {
            builder = builder.output_tokens_per_minute(amount);
        }
        if let Some(amount) = limits.tokens_per_minute {
            builder = builder.tokens_per_minute(amount);
        }
        builder.build().expect("the limits of all rows are valid")
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// All rows. In each one dimension binds: with 200 workers there is always somebody waiting for it.
pub(super) fn all() -> Vec<Row> {
    use Format::{Anthropic, Bedrock, Gemini, OpenAi};

    let none = Limits::default();
    let tokens = Limits {
        requests_per_minute: Some(6_000),
        tokens_per_minute: Some(1_000_000),
        ..none
    };
    let anthropic = Limits {
        requests_per_minute: Some(4_000),
        input_tokens_per_minute: Some(800_000),
        output_tokens_per_minute: Some(2_000_000),
        ..none
    };
    let requests = Limits {
        requests_per_minute: Some(600),
        tokens_per_minute: Some(50_000_000),
        ..none
    };
    let groq = Limits {
        requests_per_minute: None,
        requests_per_day: Some(500_000),
        ..tokens
    };
    let row = |name, format, charging, limits| Row {
        name,
        format,
        charging,
        headers: LimitHeaders::OfFormat,
        limits,
        knowledge: Knowledge::Configured,
        estimates: Estimates::Stated,
        most_wanted: 4.0,
    };
    let with = |headers, row| Row { headers, ..row };
    let by_headers = |name, row| Row {
        name,
        knowledge: Knowledge::Headers,
        ..row
    };

    let learning = |name, estimates, row| Row {
        name,
        estimates,
        ..row
    };

    let by_input = row(
        "anthropic input",
        Anthropic,
        ChargingRule::Anthropic,
        anthropic,
    );
    let by_output = Limits {
        input_tokens_per_minute: Some(8_000_000),
        output_tokens_per_minute: Some(160_000),
        ..anthropic
    };
    let openai = row("openai tokens", OpenAi, ChargingRule::OpenAi, tokens);
    let over_ten_seconds = Limits {
        requests_window: Some(10 * SECOND),
        ..requests
    };
    let by_groq = row("groq tokens", OpenAi, ChargingRule::Groq, groq);
    let by_groq = with(LimitHeaders::Groq, by_groq);
    let per_second = Limits {
        requests_window: Some(SECOND),
        ..requests
    };
    let mistral = |name, limits| {
        let row = row(name, OpenAi, ChargingRule::Mistral, limits);
        with(LimitHeaders::Mistral, row)
    };
    let input = Limits {
        requests_per_minute: Some(4_000),
        requests_per_day: Some(500_000),
        input_tokens_per_minute: Some(800_000),
        ..none
    };
    let bedrock = Limits {
        tokens_per_minute: Some(1_500_000),
        ..tokens
    };
    let by_output = row(
        "anthropic output",
        Anthropic,
        ChargingRule::Anthropic,
        by_output,
    );
    let twenty = Row {
        most_wanted: 20.0,
        ..by_output.clone()
    };
    let generic = row("generic tokens", OpenAi, ChargingRule::Generic, tokens);
    let generic = with(LimitHeaders::Off, generic);
    vec![
        by_input.clone(),
        by_output.clone(),
        openai.clone(),
        row("openai requests", OpenAi, ChargingRule::OpenAi, requests),
        row("azure tokens", OpenAi, ChargingRule::Azure, tokens),
        row(
            "azure requests",
            OpenAi,
            ChargingRule::Azure,
            over_ten_seconds,
        ),
        row("gemini input", Gemini, ChargingRule::Gemini, input),
        row("bedrock tokens", Bedrock, ChargingRule::Bedrock, bedrock),
        by_groq.clone(),
        mistral("mistral requests", per_second),
        mistral(
            "mistral tokens",
            Limits {
                requests_window: Some(SECOND),
                ..tokens
            },
        ),
        generic.clone(),
        by_headers("anthropic headers only", by_input.clone()),
        by_headers("openai headers only", openai.clone()),
        by_headers("groq headers only", by_groq.clone()),
        by_headers("mistral headers only", mistral("", tokens)),
        learning("anthropic output learned", Estimates::Learned, by_output),
        learning("anthropic output of 20 learned", Estimates::Learned, twenty),
        learning(
            "anthropic input learned",
            Estimates::Learned,
            by_input.clone(),
        ),
        learning("openai tokens learned", Estimates::Learned, openai),
        learning("groq tokens learned", Estimates::Learned, by_groq),
        learning(
            "generic tokens learned",
            Estimates::Learned,
            generic.clone(),
        ),
        learning(
            "anthropic input all wrong",
            Estimates::AllWrong,
            by_input.clone(),
        ),
        learning("anthropic input each wrong", Estimates::EachWrong, by_input),
        learning(
            "generic tokens all wrong",
            Estimates::AllWrong,
            generic.clone(),
        ),
        learning("generic tokens each wrong", Estimates::EachWrong, generic),
    ]
}
