//! `[database]`: `SQLite` in one file, or `PostgreSQL`.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::reader::{Section, key};

pub mod url;

/// Where the data is and how the pool behaves.
#[derive(Clone, Debug)]
pub struct Database {
    /// `sqlite://file` or `postgres://…`; a secret, because a `PostgreSQL` one may hold a password.
    pub url: SecretString,
    /// Whether the server brings the schema up to date when it starts; see [`Database::migrate_on_start`].
    pub migrate_on_start: Option<bool>,
    /// Connections at most.
    pub max_connections: u32,
    /// Wait at most for a free connection.
    pub acquire_timeout: Duration,
    /// Longest statement, on `PostgreSQL`.
    pub statement_timeout: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: SecretString::from("sqlite://doorward.db"),
            migrate_on_start: None,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(5),
        }
    }
}

impl Database {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut database = Self::default();
        section.set_secret(
            key("url", "`sqlite://FILE`, or `postgres://USER:PASSWORD@HOST/NAME`."),
            &mut database.url,
            url::check,
            url::show,
        );
        section.set(
            key("migrate_on_start", "Whether the server brings the schema up to date when it starts.")
                .unset("`true` on SQLite, `false` on PostgreSQL", "true"),
            &mut database.migrate_on_start,
        );
        section.in_force("migrate_on_start", &database.migrate_on_start());
        section.set_within(
            key("max_connections", "Connections at most, for calls; on PostgreSQL two more follow the changes of the database."),
            &mut database.max_connections,
            1..=1_000,
        );
        section.set_positive(key("acquire_timeout", "Wait at most for a free connection."), &mut database.acquire_timeout);
        section.set_positive(key("statement_timeout", "Longest statement, on PostgreSQL."), &mut database.statement_timeout);
        database
    }

    /// Whether the data is in an `SQLite` file (else on `PostgreSQL`).
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        url::is_sqlite(self.url.expose_secret())
    }

    /// Whether the server brings the schema up to date when it starts. Where nothing is chosen: on `SQLite`, which has one
    /// server, yes; on `PostgreSQL`, where replicas of two versions run side by side, no.
    #[must_use]
    pub fn migrate_on_start(&self) -> bool {
        self.migrate_on_start.unwrap_or_else(|| self.is_sqlite())
    }
}
