//! Passwords as they are typed, and what may be set as one.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// The longest password, in bytes as typed.
pub const PASSWORD_MAX_BYTES: usize = 1024;

/// A password as it was typed. Wiped from memory when dropped, never shown.
///
/// No rule is checked here: a login with a password that no rule would allow must take the path of a wrong one.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why a password may not be set: a sentence that goes behind what it is about. Holds no part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PasswordFlaw {
    /// More than [`PASSWORD_MAX_BYTES`].
    #[error("must have at most {PASSWORD_MAX_BYTES} bytes")]
    Long,
    /// Fewer characters than are asked for.
    #[error("must have at least {min_length} characters")]
    Short {
        /// How many are asked for.
        min_length: usize,
    },
}

impl Password {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The password that a file or standard input holds: its one line, with or without a line end.
    ///
    /// # Errors
    /// No text, nothing, or several lines: the rest of a sentence that names the source.
    pub fn from_source(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text")?;
        let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() {
            return Err("holds no password");
        }
        // The rest of a file that was meant for something else, or an empty line too many: better asked than set and not known.
        if line.contains('\n') {
            return Err("holds more than one line: a password is one, so leave the others out");
        }
        Ok(Self::new(line.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it may be set where a password needs `min_length` characters. They are counted after normalisation: what counts is what
    /// is hashed.
    ///
    /// # Errors
    /// See [`PasswordFlaw`].
    pub fn check(&self, min_length: usize) -> Result<(), PasswordFlaw> {
        if self.0.len() > PASSWORD_MAX_BYTES {
            return Err(PasswordFlaw::Long);
        }
        if self.0.nfkc().count() < min_length {
            return Err(PasswordFlaw::Short { min_length });
        }
        Ok(())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(…)")
    }
}
