use tower_layer::Layer;

use super::AsyncOpenAi;

/// Puts layers and a client of `http` requests behind an `async-openai` client; see the
/// [module](super) for the whole.
///
/// ```
/// use tower::Layer;
/// use tower_relay::{async_openai::AsyncOpenAiLayer, reqwest::ReqwestClient};
///
/// let client = ReqwestClient::build(reqwest::Client::builder())?;
/// let service = AsyncOpenAiLayer::new().layer(client);
/// let openai = async_openai::Client::new().with_http_service(service);
/// # let _ = openai;
/// # Ok::<(), reqwest::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a layer does nothing until it is put before a client"]
pub struct AsyncOpenAiLayer {
    _private: (),
}

impl AsyncOpenAiLayer {
    /// The layer; there is nothing to set.
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for AsyncOpenAiLayer {
    type Service = AsyncOpenAi<S>;

    fn layer(&self, inner: S) -> AsyncOpenAi<S> {
        AsyncOpenAi::new(inner)
    }
}
