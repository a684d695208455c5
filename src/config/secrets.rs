//! `[secrets]`: the root secret, from which every other key is derived.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::reader::Section;

/// Bytes at least of a root secret: as many as the keys have that are derived from it.
pub const MIN_ROOT_BYTES: usize = 32;

/// Secrets of the instance. None has a default value.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Root secrets as `doorward secret generate` prints them. The first makes, all are accepted. Empty: not set; then an
    /// `SQLite` database keeps its own beside its file, and on `PostgreSQL` start-up refuses.
    pub root: Vec<SecretString>,
}

impl Secrets {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut secrets = Self::default();
        section.set_secrets("root", &mut secrets.root, |text| check_root(text).map(drop));
        secrets
    }
}

/// The bytes of a root secret, if it is fit to be one: unpadded base64url (RFC 4648 section 5) of at least 32 bytes. Every
/// rule that refuses a root secret belongs here; files and databases go through it too.
///
/// # Errors
/// What is wrong, as the rest of a sentence that starts with the secret's place. Never any part of the secret.
pub fn check_root(text: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if text.contains('=') {
        return Err("must be base64url without padding; `doorward secret generate` makes one");
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| "is not base64url (A-Z a-z 0-9 - _); `doorward secret generate` makes one")?;
    if bytes.len() < MIN_ROOT_BYTES {
        return Err("is shorter than 32 bytes; `doorward secret generate` makes one");
    }
    if bytes.windows(2).all(|pair| pair.first() == pair.last()) {
        return Err("is one byte repeated, not random; `doorward secret generate` makes one");
    }
    Ok(bytes)
}
