//! The gateway as its users see it: the program itself, between a client and an upstream.
#![allow(
    clippy::disallowed_methods,
    reason = "what a program does in real time is bounded in real time"
)]

mod accounts;
mod client;
mod down;
mod echo;
mod embedded;
mod forwarding;
mod lifecycle;
mod metrics;
mod mistakes;
mod own;
mod relay;
mod rotation;
mod streams;
