//! Identifiers: what people type to say who they are.

use unicode_normalization::UnicodeNormalization as _;

use super::email::EmailAddress;
use super::username::Username;

/// The most bytes that a counter's key is made of.
const THROTTLE_MAX: usize = 1_024;

/// An e-mail address or a user name. An `@` decides which: user names hold none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Identifier {
    /// An e-mail address.
    Email(EmailAddress),
    /// A user name.
    Username(Username),
}

impl Identifier {
    /// Reads an identifier. `None` is for those that nobody can have; a login with one takes the path of an unknown name, so
    /// no reason is given.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.contains('@') { EmailAddress::parse(raw).ok().map(Self::Email) } else { Username::parse(raw).ok().map(Self::Username) }
    }

    /// The form by which it is looked up. One of an e-mail address has an `@`, one of a user name has not.
    #[must_use]
    pub fn canonical(&self) -> &str {
        match self {
            Self::Email(email) => email.canonical(),
            Self::Username(name) => name.canonical(),
        }
    }
}

/// The text under whose HMAC attempts are counted: the canonical form, so that all spellings of an account share a counter; for
/// what is no identifier its NFC in lower case, cut to 1,024 bytes at the end of a character.
#[must_use]
pub fn throttle_text(raw: &str) -> String {
    if let Some(identifier) = Identifier::parse(raw) {
        return identifier.canonical().to_owned();
    }
    let folded: String = raw.nfc().collect();
    let mut folded = folded.to_lowercase();
    folded.truncate(folded.floor_char_boundary(THROTTLE_MAX));
    folded
}
