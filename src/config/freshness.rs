//! `[freshness]`: how old an answer may be.

use std::time::Duration;

use super::reader::{Section, key};

/// How old an answer may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The bound on the age of the facts behind an answer from memory.
    pub max_staleness: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { max_staleness: Duration::from_secs(1) }
    }
}

impl Freshness {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut freshness = Self::default();
        let doc = "How old the signing keys may be by which a token is judged; all else is read from the database at every call.";
        section.set_positive(key("max_staleness", doc), &mut freshness.max_staleness);
        freshness
    }
}
