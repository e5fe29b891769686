//! `relay batch`: a file of requests in, a file of answers out, each request answered once.
//!
//! `input` reads and checks the requests, `crew` has them sent, `send` is the way of one of them
//! through the layers of an upstream, `writer` adds what came of it to the files of `store`, from which the next run
//! knows what is done.

mod crew;
mod generate;
mod input;
mod lines;
mod options;
mod problem;
mod progress;
mod record;
mod request;
mod run;
mod send;
mod store;
mod summary;
mod wire;
mod writer;

pub(crate) use self::{options::Options, problem::Problem, run::run};
