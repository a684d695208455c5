//! `[secrets]`: the root secret, from which every other key is derived.

use secrecy::SecretString;

use super::reader::Section;
use crate::values::secret;

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
        section.set_secrets("root", &mut secrets.root, |text| secret::read_root(text).map(drop).map_err(|flaw| flaw.to_string()));
        secrets
    }
}
