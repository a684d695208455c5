//! Doorward: a standalone, multi-tenant authentication service behind gRPC.
//!
//! # The map
//!
//! ```text
//!        the wire             the command       probes, metrics
//!           │                     │                    │
//!         grpc ─────┐            cli ────┐            http
//!   gate, convert,  │   one file per     │     both on a
//!   status          ▼   command          ▼     listener of their own
//!                 domain ◄───────────────┘
//!          every decision, every write
//!                   │
//!                 store            all SQL, behind `Store::write` and `Store::read`
//!                   │
//!            store::entity         the tables, private
//! ```
//!
//! Calls go down only. `domain`, `store` and [`values`] know nothing of gRPC, of the command line or of generated code; only `store`
//! names sea-orm; only [`grpc::status`] builds a wire status. `tests/it/tidy.rs` holds these rules.
//!
//! | to find out | open |
//! |---|---|
//! | who may call a method, what it answers | `proto/doorward/v1/auth_service.proto` |
//! | how a call gets in | [`grpc::gate`] |
//! | how a password becomes a session | [`domain::login`] |
//! | how refresh tokens move on | [`domain::refresh`] |
//! | how people, and how operators end sessions | [`domain::own_sessions`], [`domain::revocation`] |
//! | who may act, in which tenant | [`domain::access`] |
//! | what a token says, and how one is verified | [`domain::tokens`] |
//! | how secrets derive from the root secret | [`values::secret`] |
//! | what is remembered between calls, and why it is never old | [`domain::memory`], [`domain::freshness`], [`store::feed`] |
//! | what becomes an audit event | [`domain::audit`] |
//! | how transactions behave | [`store`] |
//! | what is refused at start | [`domain::start`] |
//! | what can be configured | [`config`] |
//! | what is public about keys, over HTTP | [`http::discovery`] |
//! | how the server starts and stops | [`server`] |
//! | how certificates are replaced, whom a client's names | [`server::tls`] |
//! | what probes are told | [`server::health`] |
//! | what is counted, and where it is asked for | [`metrics`], [`http::ops`] |
//! | every error and its reason | [`error`] |
//!
//! There are no globals: [`app::App`] holds everything, and two of them in one process are two replicas.
//!
//! # Adding things
//!
//! - **An RPC**: the proto with its policy; a method in the service's file below `grpc`; a function in `domain`.
//! - **A table**: a migration (in the crate below `migrations/`), an entity, a file below `store`. Where answers from memory are made of it:
//!   its triggers in that migration, its line in `tests/it/freshness/triggers.rs` and, if its rows are announced as something new, a
//!   [`store::feed::Entity`].
//! - **A configuration key**: its section's file below `config`.
//! - **A metric**: a handle where it is counted, a line in its `register`, a line in the README's table.
//! - **An error reason**: `errors.proto`, and a variant of [`error::Error`].

pub mod app;
pub mod cli;
pub mod config;
pub mod ctx;
pub mod domain;
pub mod error;
pub mod grpc;
pub mod http;
pub mod methods;
pub mod metrics;
pub mod pb;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod values;
