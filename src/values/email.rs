//! E-mail addresses: as stored, for mail, and in canonical form, for "is this the same person?".
//!
//! Understood are dot-atom local parts (RFC 5322, section 3.2.3) with UTF-8 (RFC 6532, section 3.2) and host names with
//! international labels. Quoted local parts, comments, folding white space and address literals are refused: nobody's mail
//! needs them, and they give one mailbox many spellings.
//!
//! *Stored* is the NFC of what was given (RFC 6532, section 3.1, asks for it). *Canonical* is `NFC(lower(NFC(local part)))` `@`
//! the UTS #46 ASCII form of the domain. What that merges and what it does not:
//!
//! - Letter case, and spellings that Unicode itself declares the same text: the Kelvin sign `K` *is* `K` under NFC, as `Å` in
//!   one or two code points is one letter. Fonts and mail systems may show no difference, so neither may accounts.
//! - Nothing that only looks alike: dotless `ı` is not `i`, the Turkish capital `İ` becomes `i` with a dot above, which is not
//!   `i`, `ß` is not `ss`, full-width letters are not the plain ones, `ſ` is not `s`. (The domain is another matter: there UTS
//!   #46 says which names are one host.)
//! - No provider's private rules: dots and `+tags` count.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization as _;

use super::text::{is_control, is_invisible};

/// The most bytes of a local part (RFC 5321, section 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// The most bytes of an address: a path of 256 less its brackets (RFC 5321, section 4.5.3.1.3).
const ADDRESS_MAX: usize = 254;
/// Nothing longer is even normalised. No address in bounds is longer than this in another spelling.
const RAW_MAX: usize = 4 * ADDRESS_MAX;

/// Why a text is no e-mail address. The sentence goes behind the field's name in a `BadRequest`; it never repeats the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EmailError {
    /// The address, its local part, or the canonical form of either is too long.
    #[error("must not be longer than {ADDRESS_MAX} bytes, nor {LOCAL_MAX} before the @, in any spelling")]
    Length,
    /// White space or control characters, at whatever place.
    #[error("must not hold white space, control or invisible characters")]
    Character,
    /// There is no `@`.
    #[error("must have the form name@domain")]
    Form,
    /// What stands before the last `@` is no dot-atom.
    #[error("must have letters, digits and !#$%&'*+-/=?^_`{{|}}~ before the @, with single dots between")]
    Local,
    /// What stands behind the last `@` is no host name.
    #[error("must have a domain name after the @")]
    Domain,
}

/// An e-mail address. `Debug` shows none of it: addresses do not belong into logs.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct EmailAddress {
    address: String,
    canonical: String,
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("EmailAddress(…)")
    }
}

impl EmailAddress {
    /// Reads an address; see the module doc for what is understood.
    ///
    /// # Errors
    /// See [`EmailError`]. White space at the ends is refused, not cut off: what is stored is what was given.
    pub fn parse(raw: &str) -> Result<Self, EmailError> {
        if raw.len() > RAW_MAX {
            return Err(EmailError::Length);
        }
        // First NFC, then the checks: it makes `;` of the Greek question mark.
        let address: String = raw.nfc().collect();
        let unseen = |c: char| c.is_whitespace() || is_control(c) || is_invisible(c);
        if address.chars().any(unseen) {
            return Err(EmailError::Character);
        }
        let (local, domain) = address.rsplit_once('@').ok_or(EmailError::Form)?;
        if !is_dot_atom(local) {
            return Err(EmailError::Local);
        }
        let lower: String = local.to_lowercase().nfc().collect();
        let host = host(domain)?;
        let canonical = format!("{lower}@{host}");
        // Both forms keep both limits, so that a canonical form is itself an address.
        if local.len().max(lower.len()) > LOCAL_MAX || address.len().max(canonical.len()) > ADDRESS_MAX {
            return Err(EmailError::Length);
        }
        Ok(Self { address, canonical })
    }

    /// The address as stored; mail goes here.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// The form by which two addresses are compared. Stable: its own canonical form is itself.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

/// Atoms of `atext` (RFC 5322, section 3.2.3) or of characters beyond ASCII, with single dots between.
fn is_dot_atom(local: &str) -> bool {
    let atext = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

/// The domain in the ASCII form of UTS #46, lower case: letters, digits and hyphens, labels of 1 to 63, no dot at the end.
fn host(domain: &str) -> Result<String, EmailError> {
    // Hyphens in third and fourth place are allowed: such names exist. STD3 also shuts out what full-width forms map to.
    Uts46::new()
        .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| EmailError::Domain)
}
