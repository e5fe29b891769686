//! What is known of one provider, as data.

use std::{borrow::Cow, fmt, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};

use super::{Charging, Errors, Events, Output, RateHeaders};
use crate::{
    clock,
    http::{BytesPerToken, classify_head},
    outcome::Outcome,
    policy::{Readings, Unit},
};

/// What is known of one provider: how it charges, which headers show its quotas, what its errors
/// mean, which events of a stream tell usage and end, and where the credential goes.
///
/// It is data with a date, because providers change; every part can be replaced. A clone shares
/// the parts and costs an atomic increment.
///
/// ```
/// use tower_relay::provider::{CachedInput, Charging, Profile};
///
/// let charging = Charging::NEW.cached_input(CachedInput::Exempt);
/// let profile = Profile::openai().named("house-gateway").charging(charging);
/// assert_eq!(profile.name(), "house-gateway");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Profile {
    parts: Arc<Parts>,
}

#[derive(Clone)]
struct Parts {
    name: Cow<'static, str>,
    dated: &'static str,
    credential: CredentialHeader,
    charging: Charging,
    errors: Errors,
    events: Events,
    rate_headers: RateHeaders,
    bytes_per_token: BytesPerToken,
}

/// The header in which a provider expects the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialHeader {
    /// `authorization`, after the word "Bearer".
    Bearer,
    /// Alone, in a header of its own.
    Named(HeaderName),
}

impl Profile {
    /// A profile that knows nothing in particular: the general rules for errors, the shapes of
    /// usage that are common, a bearer token, and [`Charging::NEW`].
    pub fn generic() -> Self {
        Self {
            parts: Arc::new(Parts {
                name: Cow::Borrowed("generic"),
                dated: "2026-11",
                credential: CredentialHeader::Bearer,
                charging: Charging::NEW,
                errors: Errors::default(),
                events: Events::default(),
                rate_headers: RateHeaders::standard(),
                // No provider tells its ratio; all count by tokenizers that make about four bytes of
                // English text a token.
                bytes_per_token: BytesPerToken::DEFAULT,
            }),
        }
    }

    /// This profile under another name.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|parts| parts.name = name.into())
    }

    /// This profile with the month in which its data was checked, such as "2026-11".
    pub fn dated(self, month: &'static str) -> Self {
        self.with(|parts| parts.dated = month)
    }

    /// This profile with the credential in another header.
    pub fn credential(self, header: CredentialHeader) -> Self {
        // The first clone of a name made at run time allocates; let no call be that one.
        let _ = header.clone();
        self.with(|parts| parts.credential = header)
    }

    /// This profile with another rule of charging.
    pub fn charging(self, charging: Charging) -> Self {
        self.with(|parts| parts.charging = charging)
    }

    /// This profile with another reading of errors.
    pub fn errors(self, errors: Errors) -> Self {
        self.with(|parts| parts.errors = errors)
    }

    /// This profile with another reading of answers.
    pub fn events(self, events: Events) -> Self {
        self.with(|parts| parts.events = events)
    }

    /// This profile with other headers that show quotas.
    pub fn rate_headers(self, headers: RateHeaders) -> Self {
        self.with(|parts| parts.rate_headers = headers)
    }

    /// This profile with another ratio of bytes to tokens, for the language that is asked in, or a
    /// tokenizer of its own. Default: [`BytesPerToken::DEFAULT`], four, because no provider tells one.
    ///
    /// ```
    /// use tower_relay::{http::BytesPerToken, provider::Profile};
    ///
    /// let ratio = BytesPerToken::new(2.5)?;
    /// assert_eq!(Profile::openai().bytes_per_token(ratio).bytes_per_token_ratio(), ratio);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub fn bytes_per_token(self, ratio: BytesPerToken) -> Self {
        self.with(|parts| parts.bytes_per_token = ratio)
    }

    /// The provider's name, in kebab case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The month in which the data was checked against the provider's documentation.
    #[must_use]
    pub fn date(&self) -> &'static str {
        self.parts.dated
    }

    /// Where the credential goes.
    #[must_use]
    pub fn credential_header(&self) -> &CredentialHeader {
        &self.parts.credential
    }

    /// How calls are charged.
    pub fn charging_rule(&self) -> &Charging {
        &self.parts.charging
    }

    /// How errors are read.
    pub fn error_rules(&self) -> &Errors {
        &self.parts.errors
    }

    /// How answers are read.
    pub fn event_rules(&self) -> &Events {
        &self.parts.events
    }

    /// How headers are read.
    pub fn rate_header_rules(&self) -> &RateHeaders {
        &self.parts.rate_headers
    }

    /// How many bytes of a request are taken for one token of its prompt.
    #[must_use]
    pub fn bytes_per_token_ratio(&self) -> BytesPerToken {
        self.parts.bytes_per_token
    }

    /// What the headers of a response show of the provider's quotas, for
    /// [`Protocol::readings`](crate::protocol::Protocol::readings).
    pub fn readings(&self, headers: &HeaderMap) -> Readings {
        let readings = self.parts.rate_headers.read(headers, clock::wall);
        match self.parts.charging.output_rule() {
            Output::AsProduced => readings.counting_later(Unit::OUTPUT_TOKENS),
            _ => readings,
        }
    }

    /// What an attempt turned out to be, by the head of its response and, of a failure, as much of
    /// its body as was read. `now` is the instant of receipt.
    pub fn classify(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Outcome {
        if status.as_u16() < 400 {
            return classify_head(status, headers);
        }
        self.parts.errors.classify(status, headers, body, now)
    }

    fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(Arc::make_mut(&mut self.parts));
        self
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::generic()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.parts.name)
            .field("dated", &self.parts.dated)
            .finish_non_exhaustive()
    }
}
