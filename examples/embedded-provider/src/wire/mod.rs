//! What goes out: problems and messages in the terms of a provider's format.
//!
//! [`Problem`] and [`Message`] say what is to be told; [`anthropic`] and [`openai`] have the words
//! for it, and [`Format`] picks one of them.

mod anthropic;
mod format;
mod message;
mod openai;
mod problem;

pub(crate) use self::{
    format::Format,
    message::{Message, value},
    problem::Problem,
};
