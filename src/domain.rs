//! The decisions: every write, and every yes or no, is made here. Nothing in it knows gRPC, the command line or SQL.
//!
//! | file | what it decides |
//! |---|---|
//! | `start.rs` | whether this database and this root secret may serve, and what a first start makes |
//! | `checks.rs` | may somebody do something: yes or no |
//! | `keys.rs` | signing keys |
//! | `freshness.rs`, `memory.rs` | what is remembered between calls, and that it is never old |
//! | `passwords.rs`, `passwords/` | what a password is, hashing threads |
//! | `login.rs` | a password → a session |
//! | `client_credentials.rs` | a service account's secret → a token |
//! | `token_exchange.rs` | a token → a narrower one |
//! | `refresh.rs` | a refresh token → the next one |
//! | `sessions.rs` | what a session is, how it ends |
//! | `own_sessions.rs` | what people see of their own sessions, and end |
//! | `revocation.rs` | sessions ended by operators, one by one or by an epoch |
//! | `password_change.rs` | a new password |
//! | `tokens.rs`, `tokens/` | access tokens: minting, two layers of verification |
//! | `access.rs` | who may act, in which tenant, with what |
//! | `callers.rs` | which workload calls |
//! | `validate.rs` | the question that backends ask |
//! | `tenants.rs users.rs roles.rs memberships.rs` | administration |
//! | `tenants/policy.rs` | a tenant's own lifetimes |
//! | `pages.rs` | pages of lists, and where the next one begins |
//! | `service_accounts.rs`, `service_accounts/` | administration of workloads, and what proves them |
//! | `demo.rs` | tenants and people for trying things out |
//! | `backup.rs` | a copy of an SQLite database |
//! | `audit.rs` | what becomes an event |

use crate::error::Result;

pub mod access;
pub mod audit;
pub mod backup;
pub mod callers;
pub mod checks;
pub mod client_credentials;
pub mod demo;
pub mod freshness;
pub mod keys;
pub mod login;
pub mod memberships;
pub mod memory;
pub mod own_sessions;
mod pages;
pub mod password_change;
pub mod passwords;
pub mod refresh;
pub mod revocation;
pub mod roles;
pub mod service_accounts;
pub mod sessions;
pub mod start;
pub mod tenants;
pub mod token_exchange;
pub mod tokens;
pub mod users;
pub mod validate;

/// How many rows an operator's list reads at a time.
const BATCH: u64 = 500;

/// All rows of a list that is read in batches: `read` answers those after a cursor, `cursor` names a row's own.
async fn collect<T, C, F, Fut>(read: F, cursor: impl Fn(&T) -> C) -> Result<Vec<T>>
where
    F: Fn(Option<C>) -> Fut,
    Fut: Future<Output = Result<Vec<T>>>,
{
    let mut all: Vec<T> = Vec::new();
    loop {
        let batch = read(all.last().map(&cursor)).await?;
        let last = (batch.len() as u64) < BATCH;
        all.extend(batch);
        if last {
            return Ok(all);
        }
    }
}
