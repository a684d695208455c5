//! What is counted, for Prometheus: `GET /metrics` on `server.ops_addr`.
//!
//! Every part of the house owns its handles, counts for itself and gives them their names in a registry; this module knows none of those
//! parts. There is no global recorder: two replicas in one process count apart.
//!
//! | file | what |
//! |---|---|
//! | `metrics/rpc.rs` | calls: `grpc_server_*`, and the reasons of refusals |
//! | `store/metrics.rs` | units of work, statements, pools |
//! | `domain/passwords/hasher.rs` | the hashing queue |
//! | `server/tls.rs` | TLS handshakes, changed certificates, their expiry |
//! | `server/metrics.rs` | connections and health: what there is to say before the service is opened |
//!
//! No label has what a caller sent: paths that are not served are counted under one name, and no label names a person, a tenant or an
//! address. So the number of series is bounded, and whoever may read them learns about nobody.
//!
//! **A new metric** is a handle where it is counted, a line in a `register`, and a line in the README's table: a test compares the two.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

pub mod rpc;

/// Seconds, for what is answered from memory as for what waits for a hash: the usual steps, and two below them.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// An empty histogram of seconds.
#[must_use]
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// What a running service counts.
pub struct Metrics {
    registry: Registry,
    /// Calls.
    pub rpc: Arc<rpc::Rpc>,
    /// Refreshes, by what came of them.
    refreshes: Family<OutcomeLabels, Counter>,
    /// Secrets of service accounts, by what came of them.
    credentials: Family<OutcomeLabels, Counter>,
}

/// What came of a refresh token of ours: more than its holder is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It moved the session's chain on.
    Rotated,
    /// It was the one before, within the grace: the same successor again.
    Healed,
    /// It was used before: the session was ended.
    Reused,
    /// The session is past its absolute lifetime.
    Expired,
    /// Nobody refreshed the session for too long.
    Idle,
    /// The session was ended, one by one or by an epoch, or never was.
    Revoked,
    /// Its user is disabled or deleted.
    PrincipalGone,
    /// Its tenant or membership is suspended or gone.
    Tenant,
    /// The session is another client's.
    ClientMismatch,
    /// It is not of the session's chain: a restored backup, or another root's secret.
    Invalid,
}

impl Refreshed {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rotated,
        Self::Healed,
        Self::Reused,
        Self::Expired,
        Self::Idle,
        Self::Revoked,
        Self::PrincipalGone,
        Self::Tenant,
        Self::ClientMismatch,
        Self::Invalid,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Healed => "healed",
            Self::Reused => "reused",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Revoked => "revoked",
            Self::PrincipalGone => "principal_gone",
            Self::Tenant => "tenant",
            Self::ClientMismatch => "client_mismatch",
            Self::Invalid => "invalid",
        }
    }
}

/// What came of a service account's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// It bought a token.
    Issued,
    /// It, its account or the account's tenant is not good.
    Refused,
}

impl Credentials {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused => "refused",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Metrics {
    /// The metrics of a service whose other parts have theirs in `registry` already.
    #[must_use]
    pub fn new(mut registry: Registry) -> Self {
        let rpc = Arc::new(rpc::Rpc::register(&mut registry));
        let refreshes = Family::<OutcomeLabels, Counter>::default();
        // From zero on: an alert on an increase does not see the first one of a series that was not there.
        for outcome in Refreshed::ALL {
            drop(refreshes.get_or_create_owned(&OutcomeLabels { outcome: outcome.as_str() }));
        }
        registry.register("doorward_refreshes", "Refresh tokens of ours that were presented, by what came of them", refreshes.clone());
        let credentials = Family::<OutcomeLabels, Counter>::default();
        for outcome in [Credentials::Issued, Credentials::Refused] {
            drop(credentials.get_or_create_owned(&OutcomeLabels { outcome: outcome.as_str() }));
        }
        let help = "Secrets of service accounts that were presented for a token, by what came of them";
        registry.register("doorward_client_credentials", help, credentials.clone());
        Self { registry, rpc, refreshes, credentials }
    }

    /// Counts a refresh.
    pub fn refreshed(&self, outcome: Refreshed) {
        self.refreshes.get_or_create(&OutcomeLabels { outcome: outcome.as_str() }).inc();
    }

    /// Counts a secret of a service account.
    pub fn client_credentials(&self, outcome: Credentials) {
        self.credentials.get_or_create(&OutcomeLabels { outcome: outcome.as_str() }).inc();
    }

    /// Everything with its names.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
