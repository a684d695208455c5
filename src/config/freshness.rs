//! `[freshness]`: how old an answer may be.

use std::{ops::RangeInclusive, time::Duration};

use super::reader::{Section, key};

/// Beyond a few minutes a revocation would mean little.
const MAX_STALENESS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);

/// How old an answer may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The bound on the age of the facts behind an answer from memory.
    pub max_staleness: Duration,
    /// How much is remembered, in MiB.
    pub memory_mib: u32,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { max_staleness: Duration::from_secs(1), memory_mib: 320 }
    }
}

impl Freshness {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut freshness = Self::default();
        let doc = "How old the facts and the signing keys may be by which ValidateSession, the checks and callers are judged.";
        section.set_length(key("max_staleness", doc), &mut freshness.max_staleness, &MAX_STALENESS);
        let doc = "MiB at most, about, for what is remembered of judged tokens, some KiB each; what is not is read from the database.";
        section.set_within(key("memory_mib", doc), &mut freshness.memory_mib, 1..=1_000_000);
        freshness
    }
}
