//! A copy of an SQLite database, while servers and commands write to it.
//!
//! ```text
//! draft beside FILE, private ─► SQLite copies one snapshot ─► checked ─► synced ─► linked as FILE ─► folder synced
//! ```
//!
//! FILE is there whole or not at all, and what is there already is never written over. The root secret is not in the copy: whoever gets
//! hold of one of the two can neither log in nor sign. Nothing of the source is changed, not even its schema: a newer program can back up
//! what it is about to migrate.
//!
//! A restored copy knows nothing of what was revoked or rotated after it was made, and the tokens given out since then are unknown to it.
//! Hence `session revoke --everything` after a restore.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::start::{self, StartError};
use crate::{
    config::Config,
    error::Error as Refusal,
    store::backup,
    values::{entropy::Entropy, secret},
};

/// Why there is no copy. Each text says what to do.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The database.
    #[error(transparent)]
    Source(#[from] StartError),
    /// The copy.
    #[error("{0}")]
    Target(String),
}

/// A copy that was made.
#[derive(Debug)]
pub struct Backup {
    /// The database that was copied.
    pub database: PathBuf,
    /// The size of the copy.
    pub bytes: u64,
    /// The key file that belongs to the database; none where `secrets.root` is set.
    pub key_file: Option<PathBuf>,
}

/// Copies the database to `to`.
///
/// # Errors
/// See [`BackupError`]; then there is nothing at `to` that was not there before.
pub async fn make(config: &Config, to: &Path, entropy: &Entropy) -> Result<Backup, BackupError> {
    let Some(database) = start::database_file(config)? else {
        let text = "the database is on PostgreSQL, which has its own tool: \
                    pg_dump --format=custom --exclude-table-data=changes --file=FILE, with the connection in PGHOST, PGUSER and PGDATABASE and the password in \
                    ~/.pgpass, where no other user sees it";
        return Err(BackupError::Target(text.to_owned()));
    };
    start::check_ours(config, &database).await?;
    let shown = to.display();
    let failed = |e: &dyn std::fmt::Display| {
        BackupError::Target(format!(
            "the copy {shown} cannot be written ({e}): nothing was left there; is there room, and the right to write?"
        ))
    };
    let draft = Draft::open(&database, to, entropy)?;
    backup::copy(&config.database, &draft.path).await.map_err(|e| failed(&cause(&e)))?;
    if !backup::is_sound(&draft.path).await.map_err(|e| failed(&cause(&e)))? {
        let text = format!("the database {} is damaged: a copy of it would be too; nothing was left at {shown}", database.display());
        return Err(BackupError::Target(text));
    }
    let bytes = draft.publish(to).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => is_there(to),
        _ => failed(&e),
    })?;
    let key_file = config.secrets.root.is_empty().then(|| start::with_suffix(&database, ".key"));
    Ok(Backup { database, bytes, key_file })
}

/// Whether SQLite or Doorward would take a file of this name for its own, be it there or not.
fn belongs_to(database: &Path, to: &Path) -> bool {
    const SUFFIXES: [&str; 8] = ["", "-wal", "-shm", "-journal", ".key", ".lock", ".serving", ".begun"];
    let Ok(database) = database.canonicalize() else { return false };
    SUFFIXES.iter().any(|suffix| start::with_suffix(&database, suffix) == to)
}

fn cause(error: &Refusal) -> String {
    match error {
        Refusal::Unavailable(cause) | Refusal::Internal(cause) => cause.clone(),
        other => other.to_string(),
    }
}

fn is_there(to: &Path) -> BackupError {
    BackupError::Target(format!("{} is there already, and is not written over: name another file", to.display()))
}

/// A file that becomes the copy or goes away, in a folder of its own: SQLite makes the file anew where it is gone, as when the work is
/// broken off just before it would open it, but not without the folder.
struct Draft {
    path: PathBuf,
    own: PathBuf,
    folder: PathBuf,
}

impl Draft {
    fn open(database: &Path, to: &Path, entropy: &Entropy) -> Result<Self, BackupError> {
        if to.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(BackupError::Target(format!("{} is the name of a folder: name a file", to.display())));
        }
        let shown = to.display();
        let Some(name) = to.file_name() else {
            return Err(BackupError::Target(format!("{shown} is not the name of a file")));
        };
        let parent = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let folder = parent.canonicalize().map_err(|e| match e.kind() {
            ErrorKind::NotFound => BackupError::Target(format!("the folder {} does not exist: make it first", parent.display())),
            _ => BackupError::Target(format!("the folder {} cannot be used: {e}", parent.display())),
        })?;
        if belongs_to(database, &folder.join(name)) {
            let text = format!("{shown} is the name of a file that belongs to the database itself: name another file");
            return Err(BackupError::Target(text));
        }
        if to.symlink_metadata().is_ok() {
            return Err(is_there(to));
        }
        let suffix = secret::hex(&entropy.bytes::<8>());
        let own = start::with_suffix(&folder.join(name), &format!(".{suffix}.part"));
        let failed = |e| BackupError::Target(format!("the copy {shown} cannot be made: {e}"));
        DirBuilder::new().mode(0o700).create(&own).map_err(failed)?;
        let draft = Self { path: own.join("copy"), own, folder };
        // It has hashes of passwords and addresses of people, from its first byte on.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.path).map_err(failed)?;
        Ok(draft)
    }

    /// Puts the synced file in its place; answers its size.
    fn publish(self, to: &Path) -> io::Result<u64> {
        let file = File::open(&self.path)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        match fs::hard_link(&self.path, to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
            // A file system without links: the name is taken first, so that nobody else's file is replaced.
            Err(_) => {
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
                fs::rename(&self.path, to).inspect_err(|_| drop(fs::remove_file(to)))?;
            }
            Ok(()) => {}
        }
        // Without it a crash of the machine may lose the name: then it is no copy to rely on.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).inspect_err(|_| drop(fs::remove_file(to)))?;
        Ok(bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // A file that is made while the folder is emptied keeps it: then once more.
        for _ in 0..3 {
            if fs::remove_dir_all(&self.own).is_ok() {
                break;
            }
        }
    }
}
