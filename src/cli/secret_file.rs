//! A file for a secret that is made: new, for its owner alone, and there before anything is stored, so that no secret is made that nobody
//! has.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;

use super::failure::Failure;

/// The flag that names it.
#[derive(Debug, Args)]
pub struct SecretFile {
    /// Write the secret to a new file that only its owner can read, instead of showing it
    #[arg(long = "secret-file", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl SecretFile {
    /// Makes the file, still empty, where the flag names one. It goes away again unless [`Target::fill`] fills it.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub fn make(&self) -> Result<Option<Target>, Failure> {
        let Some(path) = &self.path else { return Ok(None) };
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::new(format!("the file {} is there already: name a new one", path.display())),
            _ => Failure::new(format!("the file {} cannot be made: {error}", path.display())),
        })?;
        Ok(Some(Target { path: path.clone(), file, is_filled: false }))
    }
}

/// A file that waits for its secret.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    is_filled: bool,
}

impl Target {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the secret, without a line end: it is read by programs.
    ///
    /// # Errors
    /// It cannot be written. What is there of it goes away.
    pub fn fill(mut self, secret: &str) -> Result<(), Failure> {
        let written = self.file.write_all(secret.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error: io::Error| Failure::new(format!("the file {} cannot be written: {error}", self.path.display())))?;
        self.is_filled = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_filled {
            drop(fs::remove_file(&self.path));
        }
    }
}
