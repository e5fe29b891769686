//! What the reader of answers makes of answers, cut anywhere.
#![cfg(feature = "provider")]

mod bounds;
mod claims;
mod cuts;
mod samples;
mod shapes;
mod support;
