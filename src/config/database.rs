//! `[database]`: `SQLite` in one file, or `PostgreSQL`.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::reader::Section;

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
        section.set_secret("url", &mut database.url, check_url);
        section.set("migrate_on_start", &mut database.migrate_on_start);
        section.set_within("max_connections", &mut database.max_connections, 1..=1_000);
        section.set_positive("acquire_timeout", &mut database.acquire_timeout);
        section.set_positive("statement_timeout", &mut database.statement_timeout);
        database
    }

    /// Whether the data is in an `SQLite` file (else on `PostgreSQL`).
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }

    /// Whether the server brings the schema up to date when it starts. Where nothing is chosen: on `SQLite`, which has one
    /// server, yes; on `PostgreSQL`, where replicas of two versions run side by side, no.
    #[must_use]
    pub fn migrate_on_start(&self) -> bool {
        self.migrate_on_start.unwrap_or_else(|| self.is_sqlite())
    }
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = ["sqlite:", "postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_some_and(|rest| !rest.trim_start_matches('/').is_empty()) {
        Ok(())
    } else {
        Err("must be sqlite://FILE, postgres://… or postgresql://…")
    }
}
