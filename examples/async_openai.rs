//! An async-openai client over a pool of keys: the code that calls it stays as it is.
//! Run it with `cargo run --example async_openai --features full`.
use async_openai::{Client, config::OpenAIConfig, types::chat::*};
use embedded_provider::{Builder, Limits, Provider, Scope};
use futures::{StreamExt, future::try_join_all};
use tower::ServiceBuilder;
use tower_relay::{
    async_openai::AsyncOpenAiLayer,
    error::BoxError,
    http::stack,
    key_rotation::{KeyPool, Source},
    policy::Quota,
    provider::Profile,
    reqwest::ReqwestClient,
};

const KEYS: [&str; 3] = ["sk-one", "sk-two", "sk-three"];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Somebody else's API: three accounts, each of which may send 10 requests a second.
    let limits = Limits {
        requests_per_minute: Some(600),
        ..Limits::default()
    };
    let scopes = KEYS.map(|key| Scope::new(key, [key], limits));
    let api = scopes.into_iter().fold(Provider::builder(), Builder::scope);
    let api = api.start().await?;

    // The pool and its layers, between async-openai and reqwest. `no_proxy` because the API is here.
    let quota = Quota::builder().requests_per_minute(600).build()?;
    let accounts = ["one", "two", "three"];
    let keys = accounts.into_iter().zip(KEYS.map(Source::value));
    let stack = stack(KeyPool::accounts(quota, keys)?, Profile::openai());
    let handle = stack.handle();
    let service = ServiceBuilder::new()
        .layer(AsyncOpenAiLayer::new())
        .layer(stack)
        .service(ReqwestClient::build(reqwest::Client::builder().no_proxy())?);
    let config = OpenAIConfig::new()
        .with_api_base(api.url() + "/v1")
        .with_api_key("a key of the pool takes the place of this one");
    let openai = Client::with_config(config).with_http_service(service);

    // From here on it is plain async-openai. One call:
    let answer = openai.chat().create(question("Hello!")?).await?;
    let text = answer.choices[0].message.content.as_deref();
    println!("plain:    {}", text.unwrap_or_default());

    // One stream:
    let mut stream = openai.chat().create_stream(question("Again!")?).await?;
    let (mut chunks, mut text) = (0, String::new());
    while let Some(chunk) = stream.next().await {
        for choice in chunk?.choices {
            text += &choice.delta.content.unwrap_or_default();
            chunks += 1;
        }
    }
    println!("streamed: {text} ({chunks} chunks)");

    // And sixty at once, more than three accounts take in a second:
    let chat = openai.chat();
    let calls = (0..60).map(async |_| chat.create(question("All at once!")?).await);
    let answers = try_join_all(calls).await?;
    println!("{} answers to as many calls at once", answers.len());

    for (scope, account) in handle.scopes().iter().zip(KEYS) {
        let calls = api.key_counters(account).expect("a configured key").calls;
        println!("account {}: {calls} calls", scope.name());
    }
    let seen = api.counters();
    println!("{} answered, {} refused", seen.answered, seen.refused);
    assert_eq!((seen.answered, seen.refused), (62, 0));
    Ok(())
}

fn question(text: &str) -> Result<CreateChatCompletionRequest, async_openai::error::OpenAIError> {
    CreateChatCompletionRequestArgs::default()
        .model("m")
        .max_completion_tokens(9_u32)
        .messages([ChatCompletionRequestUserMessage::from(text).into()])
        .build()
}
