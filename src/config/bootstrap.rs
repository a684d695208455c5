//! `[bootstrap]`: the first superuser, where nobody sits at a terminal to read a printed password.

use std::path::PathBuf;

use super::reader::{Reader, Section};

/// The first superuser, created once in an empty database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// E-mail address.
    pub email: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// File that holds the first password, which has to be changed at the first login. Read only when the superuser is
    /// made, so that it may be deleted afterwards.
    pub password_file: Option<PathBuf>,
}

impl Bootstrap {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut bootstrap = Self::default();
        section.set("email", &mut bootstrap.email);
        section.set("username", &mut bootstrap.username);
        section.set("password_file", &mut bootstrap.password_file);
        bootstrap
    }

    pub(super) fn check(&self, reader: &mut Reader) {
        let has_name = self.email.is_some() || self.username.is_some();
        let keys = ["bootstrap.password_file", "bootstrap.email", "bootstrap.username"];
        reader.require(
            &keys,
            has_name || self.password_file.is_none(),
            "bootstrap.password_file needs bootstrap.email or bootstrap.username",
        );
        reader.require(
            &keys,
            !has_name || self.password_file.is_some(),
            "bootstrap.email and bootstrap.username need bootstrap.password_file",
        );
    }
}
