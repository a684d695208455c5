//! `[login]`: how logins answer.

use std::time::Duration;

use super::reader::{Reader, Section, key};
use super::server::Server;

/// How logins answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// A failed login answers no earlier than this after it arrived.
    pub failure_floor: Duration,
}

impl Login {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut login = Self::default();
        section.set(
            key(
                "failure_floor",
                "A failed login answers no earlier than this after it arrived, so that slower imported hashes do not show. Without \
                 effect yet: there are none.",
            ),
            &mut login.failure_floor,
        );
        login
    }

    pub(super) fn check(&self, server: &Server, reader: &mut Reader) {
        reader.require(
            self.failure_floor < server.default_deadline,
            &[
                ("login.failure_floor", "must be shorter than server.default_deadline, or failed logins run into it"),
                ("server.default_deadline", "must be longer than login.failure_floor, or failed logins run into it"),
            ],
        );
    }
}
