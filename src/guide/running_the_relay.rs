//! Running the relay.
//!
//! `relay serve` is these layers as a gateway, for programs in any language: it forwards each request with a
//! key of a pool in the place of the caller's. The README shows the first call, and
//! `examples/relay/relay.example.toml` explains every field. This is what comes after.
//!
//! # One process, or several
//!
//! One process knows all it sends. Several in front of the same accounts know of each other only by what the
//! provider's headers show, where it shows anything: run one for each set of accounts. Where there have to be
//! several, split the quota among them in their configurations. A restart loses what was learned (books,
//! limits, lengths of answers, the health of keys), which headers and a few answers bring back, but not what was
//! used under a `ramp`, which is saved in a file (`state`). A reload keeps all.
//!
//! # Before it starts
//!
//! - *Secrets* come from variables or files (`env`, `file`), one a key. Nothing shows them: logs, errors and
//!   `/-/status` name keys by their alias.
//! - *Who may call.* It listens on this machine alone. Beyond it, set `caller_token`: whoever reaches it spends
//!   your keys. There is no TLS towards callers; put a proxy in front that does not buffer.
//! - *A mistake* in the configuration is one line with its place and what to do, and exit code 2.
//! - *Quotas* as the provider's console shows them. What is not written is not limited, unless it is learned.
//!
//! What the chapter on [quotas](crate::guide::whole_quota) is about are settings:
//!
//! | setting | of | by default |
//! |---|---|---|
//! | `estimate` | an upstream | on |
//! | `shares`; a call says its class in `x-relay-class`, or its `caller_token` has one | an upstream | first come, first served |
//! | `affinity` | an upstream | for calls that name a session |
//! | `learn`, `seek`, `ramp`, `margin` | a scope's quota | none |
//!
//! # While it runs
//!
//! | what | how |
//! |---|---|
//! | is it up? | `GET /-/health` |
//! | all of it at a glance, and charts of the last ten minutes | `/-/` in a browser |
//! | which key is out, and why; what waits; what is in flight | `GET /-/status` |
//! | figures over time | `GET /-/metrics`, for Prometheus; names in [observability](crate::guide::observability) |
//! | changes of keys, scopes and breakers | its log, at `info`; `RUST_LOG=relay=debug` adds a line for each request |
//! | other keys, quotas, paths, bounds | change the file: it is read within two seconds, at once on SIGHUP; one with a mistake changes nothing |
//! | stop | SIGTERM: nothing new is taken, and what is in flight has until `drain` (30 s) to end |
//!
//! Give whatever stops it more time than `drain`, or streams are cut.
//!
//! # Which of its answers are its own
//!
//! Errors of the relay have the form of the provider's, so that SDKs raise the exceptions they know, and the header
//! `x-relay-error`, which the provider's do not have. A caller, or a dashboard, tells them apart by it:
//!
//! ```
//! use http::{HeaderMap, HeaderValue, StatusCode};
//!
//! /// Whom to ask about a refused call.
//! fn cause(status: StatusCode, headers: &HeaderMap) -> &'static str {
//!     match headers.get("x-relay-error").map(HeaderValue::as_bytes) {
//!         Some(b"refused") => "more is asked for than the quota grants: wait, or get more",
//!         Some(b"down") => "the provider is down",
//!         Some(b"no_key") => "every key is out: see /-/status",
//!         Some(_) => "the relay says what",
//!         None if status.is_success() => "nobody",
//!         None => "the provider refused it",
//!     }
//! }
//!
//! let mut headers = HeaderMap::new();
//! assert_eq!(cause(StatusCode::TOO_MANY_REQUESTS, &headers), "the provider refused it");
//! headers.insert("x-relay-error", HeaderValue::from_static("no_key"));
//! assert_eq!(cause(StatusCode::SERVICE_UNAVAILABLE, &headers), "every key is out: see /-/status");
//! ```
//!
//! | it says | mostly means |
//! |---|---|
//! | many 429 `refused` | callers ask for more than the quotas grant for longer than `max_wait`. A longer wait helps with peaks, more keys with the rest |
//! | 503 `no_key` | revoked keys, empty accounts, or no scope for that model; they come back by a reload, or by themselves |
//! | 503 `down` | the breaker of a host is open; what it saw is in the log |
//! | 504 `timed_out` before the first byte | a model that thinks for longer than `first_byte`: raise it for that upstream |
//! | a 429 of the provider's own that reaches callers | somebody else uses the account, or the quota written is not the account's |
//! | calls wait although quota is left | the learned limit of calls in flight: see `concurrency` in `/-/status`, raise `initial` or turn it off |
//!
//! Retries are the relay's business: an SDK's own on top multiply waits. Most have a setting
//! (`max_retries=0`), and the relay's errors say `x-should-retry` to those that listen.
//!
//! # A night's batch
//!
//! `relay batch` sends a file through the same configuration, and goes on where it was killed: run the same
//! command again. The output has every line once; the provider may be asked twice for what was
//! under way. By its exit code a script knows what is left: 0 all answered, 1 a disk or all keys failed, 2 input or
//! command line, 3 there are dead letters, 4 something is left.
