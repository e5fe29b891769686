//! tower-relay
