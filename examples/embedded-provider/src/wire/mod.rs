//! What goes out: problems and messages in the terms of a provider's format.
//!
//! [`Problem`] and [`Message`] say what is to be told; [`anthropic`], [`openai`], [`gemini`] and
//! [`bedrock`] have the words for it, and [`Format`] picks one of them. [`stamp`] shows the quota.

mod anthropic;
mod bedrock;
mod event_stream;
mod format;
mod gemini;
mod limits;
mod message;
mod openai;
mod problem;

pub(crate) use self::{
    format::{Format, Target},
    limits::stamp,
    message::{Message, value},
    problem::Problem,
};
