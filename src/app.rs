//! Everything that a running service consists of, built once. There are no globals: two of these in one process are two replicas.

use std::sync::Arc;

use crate::{
    config::Config,
    domain::{keys::Keys, memory::Memory, passwords::hasher::Hasher},
    metrics::Metrics,
    store::Store,
    values::{entropy::Entropy, secret::RootSecrets, time::Clock},
};

/// The service's parts. `domain::start` builds it.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// The time; tests move it.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// Root secrets, for everything that is derived, sealed or tagged.
    pub roots: RootSecrets,
    /// The hashing threads.
    pub hasher: Hasher,
    /// Signing keys.
    pub keys: Keys,
    /// What was judged before.
    pub memory: Memory,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}
