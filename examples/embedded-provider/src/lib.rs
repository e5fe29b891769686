//! An LLM provider on loopback.
