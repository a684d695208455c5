//! `[secrets]`: the root secret, from which every other key is derived.

use secrecy::SecretString;

use super::database::Database;
use super::reader::{Reader, Section, key};
use crate::values::secret;

/// Behind the key's name.
pub const NEEDED_ON_POSTGRES: &str =
    "must be set on PostgreSQL: make one with `doorward secret generate` and give the same to every replica";

/// Secrets of the instance. None has a default value.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Root secrets as `doorward secret generate` prints them. The first makes, all are accepted. Empty: not set; then an
    /// `SQLite` database keeps its own beside its file, and on `PostgreSQL` start-up refuses.
    pub root: Vec<SecretString>,
}

impl Secrets {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut secrets = Self::default();
        section.set_secrets(
            key(
                "root",
                "Root secrets as `doorward secret generate` prints them: the first makes, all are accepted. PostgreSQL needs one here, \
                 the same for every replica.",
            )
            .unset("on SQLite, the file that is made beside the database's", "[\"OUTPUT-OF-DOORWARD-SECRET-GENERATE\"]"),
            &mut secrets.root,
            |text| secret::read_root(text).map(drop).map_err(|flaw| flaw.to_string()),
        );
        secrets
    }

    /// What serving needs, and looking at a database does not.
    pub(super) fn check_to_serve(&self, database: &Database, reader: &mut Reader) {
        reader.require(database.is_sqlite() || !self.root.is_empty(), &[("secrets.root", NEEDED_ON_POSTGRES)]);
    }
}
