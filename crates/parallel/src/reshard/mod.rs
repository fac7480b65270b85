//! reshard.
