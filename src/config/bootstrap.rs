//! `[bootstrap]`: the first superuser, where nobody sits at a terminal to read a printed password.
//!
//! Judged at every load, so that a mistake shows before there is a database: the names, what needs what, and the password in the file.
//! The file itself may be gone: once the superuser is made nobody reads it, and a secret that nobody needs should not lie about. (If it
//! is still needed, start-up says that it is missing.) A pipe can be read once only and is left to that.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::passwords::Passwords;
use super::reader::{Reader, Section, key};
use super::setting::NOT_SET;
use super::source;
use crate::values::secret::Password;
use crate::values::{EmailAddress, Username};

/// The first superuser, created once in an empty database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// E-mail address.
    pub email: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// File that holds the first password.
    pub password_file: Option<PathBuf>,
}

impl Bootstrap {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut bootstrap = Self::default();
        section.set(
            key("email", "E-mail address of the first superuser, who is created once, in a database without users.")
                .unset(NOT_SET, "\"admin@example.com\""),
            &mut bootstrap.email,
        );
        if let Some(Err(flaw)) = bootstrap.email.as_deref().map(EmailAddress::parse) {
            section.problem("email", flaw);
        }
        section.set(
            key("username", "User name of the first superuser, besides or in place of the address.").unset(NOT_SET, "\"admin\""),
            &mut bootstrap.username,
        );
        if let Some(Err(flaw)) = bootstrap.username.as_deref().map(Username::parse) {
            section.problem("username", flaw);
        }
        section.set(
            key(
                "password_file",
                "File with the first superuser's password, which must be changed at the first login. Needed once: it may be deleted \
                 when the superuser is there.",
            )
            .unset(NOT_SET, "\"/run/secrets/first_password\""),
            &mut bootstrap.password_file,
        );
        bootstrap
    }

    pub(super) fn check(&self, reader: &mut Reader) {
        const NEEDS_PASSWORD: &str = "needs bootstrap.password_file";
        let has_name = self.email.is_some() || self.username.is_some();
        reader.require(
            has_name == self.password_file.is_some(),
            &[
                ("bootstrap.email", NEEDS_PASSWORD),
                ("bootstrap.username", NEEDS_PASSWORD),
                ("bootstrap.password_file", "needs bootstrap.email or bootstrap.username"),
            ],
        );
    }

    /// What is wrong with the password in the file, if there is one. Not a matter of every load: once the superuser is made nobody reads
    /// it, and a rule that changed since must not keep anybody from working.
    ///
    /// Where it is `needed`, it must be there.
    pub(super) fn check_password(&self, passwords: &Passwords, needed: bool, reader: &mut Reader) {
        let flaw = self.password_file.as_deref().and_then(|path| password_flaw(path, passwords.min_length, needed).err());
        if let Some(flaw) = flaw.filter(|_| !reader.is_unread("passwords.min_length")) {
            reader.problem("bootstrap.password_file", flaw);
        }
    }
}

/// What is wrong with the password in the file, if there is one.
fn password_flaw(path: &Path, min_length: usize, needed: bool) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {
            let bytes = source::read_small(path)?;
            let password = Password::from_source(&bytes).map_err(|flaw| format!("names a file that {flaw}"))?;
            password.check(min_length).map_err(|flaw| format!("names a file whose password {flaw}"))
        }
        Ok(found) if found.is_dir() => Err("names a folder, not a file".to_owned()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && !needed => Ok(()),
        Err(error) => Err(format!("names a file that cannot be read: {error}")),
    }
}
