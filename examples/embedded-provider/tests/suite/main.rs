//! The provider over a real socket: forms on the wire, quotas, and the life of a call.

mod client;
mod lifecycle;
mod quota;
mod wire;
