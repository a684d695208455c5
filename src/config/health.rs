//! `[health]`: what readiness means.

use super::reader::{Section, key};

/// What readiness means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether a replica says `NOT_SERVING` while its database is away.
    pub readiness_on_database: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { readiness_on_database: true }
    }
}

impl Health {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut health = Self::default();
        section.set(
            key(
                "readiness_on_database",
                "Whether a replica says NOT_SERVING while its database is away; `false` keeps it in the load balancer, so that callers \
                 get an error with a reason instead of no connection.",
            ),
            &mut health.readiness_on_database,
        );
        health
    }
}
