//! What goes out: problems and messages in the terms of a provider's format.
//!
//! [`Problem`] and [`Message`] say what is to be told; [`anthropic`] has the words for it.

mod anthropic;
mod message;
mod problem;

pub(crate) use self::{
    anthropic::{problem_body, stamp, status},
    message::{Message, value, whole_seconds_up},
    problem::Problem,
};
