//! `doorward secret …`. Needs no configuration and no database: it makes what the first configuration wants.

use clap::{Args, Subcommand};

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
    /// Print a new secret, for `secrets.root` and `tokens.hmac_secret`
    ///
    /// A root secret: on PostgreSQL every replica needs the same one. On SQLite nothing has to be set:
    /// the database keeps its own beside its file. `tokens.hmac_secret` is for HS256, HS384 and HS512 alone.
    #[command(
        verbatim_doc_comment,
        after_help = EXAMPLE
    )]
    Generate(Generate),
}

/// A new secret.
#[derive(Debug, Args)]
pub struct Generate {
    /// How many random bytes it is made of: HS384 needs 48, HS512 64
    #[arg(long, default_value = "32", value_parser = ["32", "48", "64"])]
    bytes: String,
}

/// Does it.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: &SecretCommand, format: Format) -> Result<(), Failure> {
    match command {
        SecretCommand::Generate(Generate { bytes }) => {
            let make = match bytes.as_str() {
                "48" => secret::generate::<48>,
                "64" => secret::generate::<64>,
                _ => secret::generate::<{ secret::ROOT_BYTES }>,
            };
            let root = make(&Entropy::system());
            output::one(format, &serde_json::json!({ "secret": root }), &root)
        }
    }
}
