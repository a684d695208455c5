//! Every test of the service, in one binary. `harness` is the way to a running service; each other module is a topic.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test says what went wrong by failing"
)]

mod harness;

mod claims;
mod cli;
mod config;
mod connections;
mod flow;
mod jws;
mod values;
