use std::time::Duration;

use tower_layer::Layer;

use super::{Profile, Provider};

/// Reads each response of a provider once, innermost in a stack; see the [module](super) for the
/// whole.
///
/// - A *success* is handed on at once. Its body is read as it passes: what it used, an error
///   inside it and whether it came to its end are [`Report`](crate::http::Report)ed to the guards
///   of all layers outside. No frame is changed, delayed, copied or asked for.
/// - A *failure* (400 and above) waits for its body, up to 64 KiB and five seconds, because what
///   it means often stands there alone. The [`Outcome`](crate::outcome::Outcome) is put into the
///   response's extensions, and the response goes on with the same bytes.
/// - An error of the client goes on as it is.
///
/// ```
/// use http_body_util::{BodyExt, Full};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_relay::{
///     outcome::{Outcome, Verdict},
///     provider::{Profile, ProviderLayer},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_relay::error::BoxError> {
/// const REFUSAL: &str = r#"{"error": {"code": "insufficient_quota"}}"#;
/// let client = service_fn(async |_: http::Request<()>| {
///     http::Response::builder().status(429).body(Full::<bytes::Bytes>::from(REFUSAL))
/// });
/// let provider = ProviderLayer::new(Profile::generic()).layer(client);
///
/// let response = provider.oneshot(http::Request::new(())).await?;
/// let outcome = response.extensions().get::<Outcome>().expect("it failed");
/// assert_eq!(outcome.verdict(), Verdict::Exhausted);
/// assert_eq!(response.into_body().collect().await?.to_bytes(), REFUSAL);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put before a client"]
pub struct ProviderLayer {
    profile: Profile,
    settings: Settings,
}

/// How long the head of a success is held back, so that an error which comes right after it can
/// still be retried.
///
/// Held is what has arrived, in memory: 64 KiB of a stream, the given size of a JSON answer, both
/// for no longer than [`max_hold`](ProviderLayer::max_hold). Beyond that the answer goes on as it
/// would without, and so does an answer in a content encoding, which cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hold {
    /// Not at all: the head goes on when it comes.
    #[default]
    Nothing,
    /// That of a stream until its first event with content, its last event or an error.
    FirstEvent,
    /// That of a JSON answer until the whole of it is there, if that is no longer than so many
    /// bytes. One that says it is longer is not held at all.
    WholeJson(usize),
    /// That of a stream as [`FirstEvent`](Self::FirstEvent), that of a JSON answer as
    /// [`WholeJson`](Self::WholeJson).
    Either(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) hold: Hold,
    pub(super) max_hold: Duration,
    pub(super) max_error_wait: Duration,
}

impl ProviderLayer {
    /// How long the rest of a failure's body is waited for: error bodies come with their heads or
    /// hardly later, and five seconds are less than most hints that stand in them.
    pub const DEFAULT_MAX_ERROR_WAIT: Duration = Duration::from_secs(5);

    /// How long a head is held back where it is: a minute, within which models that think before
    /// they write have begun, and far below the ten minutes after which clients give up.
    pub const DEFAULT_MAX_HOLD: Duration = Duration::from_secs(60);

    /// A layer that reads responses as `profile` says.
    pub const fn new(profile: Profile) -> Self {
        Self {
            profile,
            settings: Settings {
                hold: Hold::Nothing,
                max_hold: Self::DEFAULT_MAX_HOLD,
                max_error_wait: Self::DEFAULT_MAX_ERROR_WAIT,
            },
        }
    }

    /// How long the head of a success is held back. Default: [`Hold::Nothing`].
    ///
    /// What goes wrong while the head is held becomes the response's own
    /// [`Outcome`](crate::outcome::Outcome): the status stays 200, and the layers outside treat it
    /// as the failure it is. It keeps its effect: a stream that broke off may have been paid for,
    /// so it is sent again only if calls may be repeated, as a [`Profile`] takes them to be.
    pub const fn hold(mut self, hold: Hold) -> Self {
        self.settings.hold = hold;
        self
    }

    /// How long a head is held back at the most. Default: [`Self::DEFAULT_MAX_HOLD`].
    pub const fn max_hold(mut self, wait: Duration) -> Self {
        self.settings.max_hold = wait;
        self
    }

    /// How long the rest of a failure's body is waited for; then what is there must do. Default:
    /// [`Self::DEFAULT_MAX_ERROR_WAIT`].
    pub const fn max_error_wait(mut self, wait: Duration) -> Self {
        self.settings.max_error_wait = wait;
        self
    }
}

impl<S> Layer<S> for ProviderLayer {
    type Service = Provider<S>;

    fn layer(&self, inner: S) -> Provider<S> {
        Provider::new(inner, self.profile.clone(), self.settings)
    }
}
