//! A batch as its users see it: the program itself, its files, and a provider that counts.
#![allow(
    clippy::disallowed_methods,
    reason = "what a program does in real time is bounded in real time"
)]

mod answers;
mod dead;
mod files;
mod input;
mod kills;
mod program;
mod provider;
mod signals;
mod summary;
