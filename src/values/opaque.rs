//! Opaque tokens: strings that only this service can read, and that it can refuse without asking the database.
//!
//! A prefix names the kind; then comes unpadded base64url of
//!
//! ```text
//! key id 4 ‖ object id 16 ‖ (generation 4) ‖ secret 32 ‖ tag 16
//! ```
//!
//! The tag is the first half of the HMAC of everything before it, prefix included, under the root that the key id names. The
//! tag keeps guesses and typing errors away from the database; what lets somebody in is the secret, of which the database keeps
//! the SHA-256 only.
//!
//! The secrets of a refresh chain follow from one another, so that two replicas that are handed the same token make the same
//! successor, and none of them has to keep it: `secret(n+1) = HMAC(refresh key, session ‖ n+1 ‖ secret(n))`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::entropy::Entropy;
use super::ids::{ServiceAccountSecretId, SessionId};
use super::secret::{KEY_ID_BYTES, Purpose, Root, RootSecrets, equal, sha256};

/// The bytes of the tag at the end of an opaque or page token.
pub(super) const TAG_BYTES: usize = 16;

const REFRESH_BYTES: usize = KEY_ID_BYTES + 16 + 4 + 32 + TAG_BYTES;
/// Not a multiple of three: the decoder refuses a last character whose unused bits are not zero, so this too has one spelling only.
const CLIENT_SECRET_BYTES: usize = KEY_ID_BYTES + 16 + 32 + TAG_BYTES;

/// What an opaque token is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Makes new access tokens for a session, `dw_rt_`.
    Refresh,
    /// A service account's secret, which buys it access tokens, `dw_cs_`.
    ClientSecret,
    /// The standing credential of a service account, `dw_ak_`.
    ApiKey,
    /// Sets a new password, once, `dw_pr_`.
    PasswordReset,
    /// Proves that mail arrives, once, `dw_ev_`.
    EmailVerification,
    /// Accepts an invitation, once, `dw_in_`.
    Invitation,
    /// Marks a device from which the account's owner has logged in, `dw_dt_`.
    Device,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Refresh, Self::ClientSecret, Self::ApiKey, Self::PasswordReset, Self::EmailVerification, Self::Invitation, Self::Device];

    /// The six characters that a token of this kind begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Refresh => "dw_rt_",
            Self::ClientSecret => "dw_cs_",
            Self::ApiKey => "dw_ak_",
            Self::PasswordReset => "dw_pr_",
            Self::EmailVerification => "dw_ev_",
            Self::Invitation => "dw_in_",
            Self::Device => "dw_dt_",
        }
    }
}

/// The kind that a string claims to be by its prefix; nothing else of it is looked at.
#[must_use]
pub fn kind_of(token: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| token.starts_with(kind.prefix()))
}

/// Why a string is no opaque token of ours. Callers see `TOKEN_INVALID` whichever it is; the difference is for the metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpaqueError {
    /// Another prefix or length, or not strict base64url.
    #[error("not in the form of the token")]
    Malformed,
    /// The root that it names is not in the list.
    #[error("made under a root secret that is not in the list")]
    UnknownKey,
    /// The tag does not fit.
    #[error("the tag does not fit")]
    Forged,
}

/// A refresh token: the right to the next set of tokens of one session, once.
#[derive(Clone)]
pub struct RefreshToken {
    /// The root under which the chain was begun; the whole chain stays with it.
    pub key_id: [u8; KEY_ID_BYTES],
    /// The session that it continues.
    pub session: SessionId,
    /// Its place in the chain, from zero.
    pub generation: u32,
    /// What proves it.
    pub secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RefreshToken").field("session", &self.session).field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// Begins the chain of a session, under the first root.
    #[must_use]
    pub fn first(roots: &RootSecrets, session: SessionId, entropy: &Entropy) -> Self {
        Self { key_id: roots.first().key_id(), session, generation: 0, secret: Zeroizing::new(entropy.bytes()) }
    }

    /// The text that goes to the client, 102 characters; `None` when the root that the token names is not in the list.
    #[must_use]
    pub fn encode(&self, roots: &RootSecrets) -> Option<SecretString> {
        let (session, generation) = (self.session.as_bytes(), self.generation.to_be_bytes());
        seal::<REFRESH_BYTES>(Kind::Refresh, roots, &[&self.key_id, &session, &generation, self.secret.as_slice()])
    }

    /// Reads what [`RefreshToken::encode`] wrote, under any root of the list.
    ///
    /// # Errors
    /// Everything else: every other string, however near.
    pub fn parse(text: &str, roots: &RootSecrets) -> Result<Self, OpaqueError> {
        let bytes = open::<REFRESH_BYTES>(text, Kind::Refresh, roots)?;
        let mut fields = Fields(bytes.as_slice());
        Ok(Self {
            key_id: fields.take()?,
            session: SessionId::from_uuid(Uuid::from_bytes(fields.take()?)),
            generation: u32::from_be_bytes(fields.take()?),
            secret: Zeroizing::new(fields.take()?),
        })
    }

    /// What the database keeps of it: the SHA-256 of the secret.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.secret.as_slice())
    }

    /// The next token of the chain: always the same one. `None` at the end of the count, or when the root that the token names
    /// is not in the list; the session then goes on only by a new login.
    #[must_use]
    pub fn successor(&self, roots: &RootSecrets) -> Option<Self> {
        let root = roots.by_key_id(self.key_id)?;
        let generation = self.generation.checked_add(1)?;
        let secret = root.mac_fixed(Purpose::RefreshChain, &[&self.session.as_bytes(), &generation.to_be_bytes(), self.secret.as_slice()]);
        Some(Self { key_id: self.key_id, session: self.session, generation, secret: Zeroizing::new(secret) })
    }
}

/// A service account's secret: the right to access tokens of the account, until it is removed.
#[derive(Clone)]
pub struct ClientSecret {
    /// The root under which it was made.
    pub key_id: [u8; KEY_ID_BYTES],
    /// Its row.
    pub id: ServiceAccountSecretId,
    /// What proves it.
    pub secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ClientSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ClientSecret {
    /// A new secret, under the first root.
    #[must_use]
    pub fn generate(roots: &RootSecrets, id: ServiceAccountSecretId, entropy: &Entropy) -> Self {
        Self { key_id: roots.first().key_id(), id, secret: Zeroizing::new(entropy.bytes()) }
    }

    /// The text that goes to the workload, 97 characters; `None` when the root that the secret names is not in the list.
    #[must_use]
    pub fn encode(&self, roots: &RootSecrets) -> Option<SecretString> {
        seal::<CLIENT_SECRET_BYTES>(Kind::ClientSecret, roots, &[&self.key_id, &self.id.as_bytes(), self.secret.as_slice()])
    }

    /// Reads what [`ClientSecret::encode`] wrote, under any root of the list.
    ///
    /// # Errors
    /// Everything else: every other string, however near.
    pub fn parse(text: &str, roots: &RootSecrets) -> Result<Self, OpaqueError> {
        let bytes = open::<CLIENT_SECRET_BYTES>(text, Kind::ClientSecret, roots)?;
        let mut fields = Fields(bytes.as_slice());
        Ok(Self {
            key_id: fields.take()?,
            id: ServiceAccountSecretId::from_uuid(Uuid::from_bytes(fields.take()?)),
            secret: Zeroizing::new(fields.take()?),
        })
    }

    /// What the database keeps of it: the SHA-256 of the secret.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.secret.as_slice())
    }
}

/// The text of a token of `N` bytes: its fields, the first of them the key id, and the tag; none where that key's root is not in the list.
fn seal<const N: usize>(kind: Kind, roots: &RootSecrets, fields: &[&[u8]]) -> Option<SecretString> {
    let root = roots.by_key_id(*fields.first()?.first_chunk()?)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(N));
    for field in fields {
        bytes.extend_from_slice(field);
    }
    let tag = tag(root, kind, &bytes);
    bytes.extend_from_slice(&tag);
    // Room for all of it, so that no half of the token stays behind in freed memory.
    let mut text = String::with_capacity(kind.prefix().len() + chars(N));
    text.push_str(kind.prefix());
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
    Some(SecretString::from(text))
}

/// Checks prefix, length, encoding and tag of a token of `N` bytes, and hands out its bytes.
fn open<const N: usize>(text: &str, kind: Kind, roots: &RootSecrets) -> Result<Zeroizing<[u8; N]>, OpaqueError> {
    let text = text.strip_prefix(kind.prefix()).ok_or(OpaqueError::Malformed)?;
    let bytes = decode::<N>(text).ok_or(OpaqueError::Malformed)?;
    let (body, found) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(OpaqueError::Malformed)?;
    let key_id = body.first_chunk().ok_or(OpaqueError::Malformed)?;
    let root = roots.by_key_id(*key_id).ok_or(OpaqueError::UnknownKey)?;
    if equal(&tag(root, kind, body), found) { Ok(bytes) } else { Err(OpaqueError::Forged) }
}

/// Strict base64url of exactly `N` bytes. The length is checked first: nobody makes us decode a megabyte, and without padding
/// no other number of bytes has that many characters.
pub(super) fn decode<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != chars(N) {
        return None;
    }
    let mut bytes = Zeroizing::new([0_u8; N]);
    URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

/// How many characters unpadded base64url has for so many bytes.
const fn chars(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

fn tag(root: &Root, kind: Kind, body: &[u8]) -> [u8; TAG_BYTES] {
    half(root.mac_fixed(Purpose::TokenTag, &[kind.prefix().as_bytes(), body]))
}

/// The first half of an HMAC: as short as RFC 2104, section 5, lets it be, and beyond guessing.
pub(super) fn half(mac: [u8; 32]) -> [u8; TAG_BYTES] {
    let mut tag = [0_u8; TAG_BYTES];
    tag.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
    tag
}

/// Fields of fixed length, read off one after the other.
struct Fields<'token>(&'token [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], OpaqueError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(OpaqueError::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }
}
