//! The gateway as its users see it: the program itself, between a client and an upstream.
#![allow(
    clippy::disallowed_methods,
    reason = "what a program does in real time is bounded in real time"
)]

mod accounts;
mod bounds;
mod callers;
mod client;
mod down;
mod echo;
mod embedded;
mod figures;
mod forwarding;
mod http2;
mod lifecycle;
mod metrics;
mod mistakes;
mod own;
mod page;
mod refusals;
mod relay;
mod reloads;
mod rotation;
mod settings;
mod streams;
mod timeouts;
mod unknown;
