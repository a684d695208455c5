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

mod golden;
mod harness;
mod lock;
mod probe;
mod recipes;
mod wire;
mod workloads;

mod access;
mod at_rest;
mod audit;
mod away;
mod backup;
mod bad_input;
mod callers;
mod canaries;
mod cancels;
mod checks;
mod claims;
mod cli;
mod config;
mod connections;
mod contract;
mod ctx;
mod demo;
mod deploy;
mod discovery;
mod exchange;
mod flow;
mod foreign_ids;
mod forged;
mod freshness;
mod jws;
mod keys;
mod kill;
mod leaks;
mod life;
mod login;
mod logout;
mod metrics;
mod own_sessions;
mod passwords;
mod refresh;
mod refresh_away;
mod refresh_bounds;
mod refresh_clients;
mod refresh_model;
mod refresh_once;
mod refresh_race;
mod refresh_told;
mod refresh_walk;
mod revocation;
mod service_accounts;
mod session_limit;
mod sessions;
mod start;
mod start_lock;
mod start_refused;
mod store;
mod sweep;
mod tenant_policy;
mod tenants;
mod tidy;
mod tls;
mod token_kinds;
mod tokens;
mod trace;
mod values;
