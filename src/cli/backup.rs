//! `doorward backup FILE`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    failure::Failure,
    output::{self, Format},
    signals::Signals,
};
use crate::{
    config::Config,
    domain::backup::{self, BackupError},
    values::entropy::Entropy,
};

/// For the help text.
pub(super) const EXAMPLES: &str = "\
To restore: stop the server, put the copy in the place of the database without the old -wal and
-shm files, put the key file beside it, run `doorward session revoke --everything --yes`, revoke
again what signing keys were revoked since, start.

On PostgreSQL it refuses: use pg_dump.

Example:
  doorward backup doorward-$(date +%F).db";

/// Where to.
#[derive(Debug, Args)]
pub struct Backup {
    /// The file to make; one that is there is not written over
    file: PathBuf,
}

/// Makes the copy. Ctrl-C and SIGTERM leave nothing of it behind.
///
/// # Errors
/// What `domain::backup` refuses.
pub async fn run(request: &Backup, config: &Config, format: Format) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|e| Failure::new(format!("signals cannot be received: {e}")))?;
    let entropy = Entropy::system();
    let made = tokio::select! {
        made = backup::make(config, &request.file, &entropy) => made?,
        () = signals.next() => return Err(Failure::new("interrupted: no copy was made")),
    };
    let root = match &made.key_file {
        Some(key) => format!("The key file {}", key.display()),
        None => "The root secret (secrets.root)".to_owned(),
    };
    let file = absolute(&request.file);
    let text = format!(
        "Copied {} to {} ({} bytes).\n\
         {root} is not in it: keep a copy of that too, and apart from this one. Without it the copy opens for nobody;\n\
         whoever has both can make tokens.\n\
         After a restore, run `doorward session revoke --everything --yes`: the copy knows nothing of what was revoked after it was made;\n\
         nor of signing keys that were: revoke those again (`doorward key list`).",
        made.database.display(),
        request.file.display(),
        made.bytes
    );
    let json = serde_json::json!({
        "database": made.database, "file": file, "bytes": made.bytes, "key_file": made.key_file,
    });
    output::one(format, &json, &text)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Source(error) => error.into(),
            BackupError::Target(text) => Self::new(text),
        }
    }
}
