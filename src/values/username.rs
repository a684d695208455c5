//! User names: what people are called who have no e-mail address, or like another name better.
//!
//! Stored as given. Canonical is `lower(NFKC(name))`, normalised once more because lower case can come apart. NFKC goes further
//! than an e-mail address's NFC: full-width `Ａ`, ligature `ﬁ` and `①` are the plain ones, because a user name is ours to define.
//! As there, nothing is merged that only looks alike (dotless `ı`, Cyrillic `а`).
//!
//! A user name holds no `@`, not even after NFKC, so that it never is somebody's e-mail address.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

use super::text::{self, TextError};

const CHARACTERS_MAX: usize = 64;
const BYTES_MAX: usize = 255;

/// Why a text is no user name. The sentence goes behind the field's name in a `BadRequest`; it never repeats the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UsernameError {
    /// It or its canonical form breaks the rule of names.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It holds an `@`, in whatever spelling.
    #[error("must not hold an @")]
    At,
}

/// A user name. `Debug` shows none of it: names do not belong into logs.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Username {
    name: String,
    canonical: String,
}

impl fmt::Debug for Username {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Username(…)")
    }
}

impl Username {
    /// Reads a user name: 1 to 64 characters and at most 255 bytes, all of them seen, single white space between words.
    ///
    /// # Errors
    /// See [`UsernameError`]; what holds for the name holds for its canonical form too.
    pub fn parse(raw: &str) -> Result<Self, UsernameError> {
        // Before any work on it: the bound of length.
        check(raw)?;
        let canonical = canonical(raw);
        check(&canonical)?;
        Ok(Self { name: raw.to_owned(), canonical })
    }

    /// The name as stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The form by which two names are compared. Stable: its own canonical form is itself.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

fn canonical(name: &str) -> String {
    let plain: String = name.nfkc().collect();
    plain.to_lowercase().nfkc().collect()
}

fn check(name: &str) -> Result<(), UsernameError> {
    text::name(name, CHARACTERS_MAX, BYTES_MAX)?;
    text::no_id(name)?;
    if name.contains('@') {
        return Err(UsernameError::At);
    }
    Ok(())
}
