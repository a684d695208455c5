//! `[login]`: how logins answer.

use std::time::Duration;

use super::reader::Section;

/// How logins answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// A failed login answers no earlier than this after it arrived, so that slower imported hash schemes do not show.
    /// Checked, without effect yet: there are no imported hashes.
    pub failure_floor: Duration,
}

impl Login {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut login = Self::default();
        section.set("failure_floor", &mut login.failure_floor);
        login
    }
}
