//! `doorward secret …`. Needs no configuration and no database: it makes what the first configuration wants.

use clap::Subcommand;

use super::{
    failure::Failure,
    output::{self, Format},
};
use crate::values::{entropy::Entropy, secret};

const EXAMPLE: &str = "\
Example:
  (umask 077; doorward secret generate > root.secret)
  export DOORWARD__SECRETS__ROOT_FILE=root.secret DOORWARD__DATABASE__URL=postgres://doorward@db.example/doorward
  doorward migrate up";

/// What to do about secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a new root secret, for secrets.root
    ///
    /// On PostgreSQL every replica needs the same one. On SQLite nothing has to be set: the
    /// database keeps its own beside its file.
    #[command(
        verbatim_doc_comment,
        after_help = EXAMPLE
    )]
    Generate,
}

/// Does it.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: &SecretCommand, format: Format) -> Result<(), Failure> {
    match command {
        SecretCommand::Generate => {
            let root = secret::generate_root(&Entropy::system());
            output::one(format, &serde_json::json!({ "secret": root }), &root)
        }
    }
}
