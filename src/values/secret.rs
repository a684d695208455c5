//! Root secrets, and all that is derived from them.
//!
//! A root is at least 32 random bytes that the operator keeps. HKDF-SHA256 (RFC 5869) makes one sub-key a purpose, so that what
//! one purpose shows to the world says nothing about another:
//!
//! ```text
//! secrets.root = [ first, … ]      first makes, all are accepted
//!                    │ HKDF: salt "doorward.v1", info = label
//!    ┌───────────────┼────────────────────────┬──────────────┐
//!  sealing      one for each Purpose        key-id         check
//!  AES-256-GCM  HMAC-SHA256                 4 bytes in     text in the
//!                                           every token    database
//! ```
//!
//! Salt and labels are frozen: another one makes every token, digest and sealed key of every installation invalid.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::entropy::Entropy;

mod password;
mod unfit;

pub use password::{PASSWORD_MAX_BYTES, Password, PasswordFlaw};
pub use unfit::{RootFlaw, read_root};

/// The least number of bytes of a root.
pub const ROOT_BYTES: usize = 32;
/// The bytes of a root's key id.
pub const KEY_ID_BYTES: usize = 4;

const SALT: &[u8] = b"doorward.v1";
const SEAL_VERSION: u8 = 1;
const SEAL_TAG: usize = 16;
/// Version, key id and nonce: what stands before the ciphertext.
const SEAL_HEAD: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

/// What an HMAC is made for. Each has a key of its own.
///
/// Sealing, key id and check have sub-keys too, but no entry here: the first is a cipher's key, and the other two are published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// The next secret of a refresh chain.
    RefreshChain,
    /// The tag of an opaque token.
    TokenTag,
    /// The tag of a page token.
    PageToken,
    /// Keys of counters and audit entries that stand for what people typed as identifier.
    Identifier,
    /// Digests of requests behind idempotency keys.
    Idempotency,
}

/// Why a list of roots is refused; start-up shows it, and counts from one. No variant holds any of the secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RootError {
    /// The list is empty.
    #[error("no root secret is given")]
    Missing,
    /// An entry is not fit to be a root.
    #[error("root secret {} {flaw}", .index + 1)]
    Unfit {
        /// Which entry, from zero.
        index: usize,
        /// Why.
        flaw: RootFlaw,
    },
    /// An entry has the key id of an earlier one: it is the same root, or the one case in four thousand million in which two
    /// cannot be told apart; then make another.
    #[error("root secret {} has the key id of an earlier one", .index + 1)]
    Repeated {
        /// Which entry, from zero.
        index: usize,
    },
    /// The cryptographic library refused to derive a key.
    #[error("root secret {} gave no keys", .index + 1)]
    Derivation {
        /// Which entry, from zero.
        index: usize,
    },
}

/// Why sealed bytes stay closed. Nobody outside sees it: an operator does, in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnsealError {
    /// Too short, or of a version that this program does not know.
    #[error("not in the form of sealed bytes")]
    Malformed,
    /// Sealed under a root that is not in the list; put it back.
    #[error("sealed under a root secret that is not in the list")]
    UnknownKey,
    /// The tag is wrong: the bytes or what they are bound to were changed.
    #[error("the sealed bytes or what they are bound to were changed")]
    Forged,
}

/// The keys of one root secret. The root itself is not kept.
pub struct Root {
    key_id: [u8; KEY_ID_BYTES],
    check: String,
    sealing: LessSafeKey,
    refresh_chain: hmac::Key,
    token_tag: hmac::Key,
    page_token: hmac::Key,
    identifier: hmac::Key,
    idempotency: hmac::Key,
}

impl fmt::Debug for Root {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Root({})", hex(&self.key_id))
    }
}

impl Root {
    fn derive(secret: &[u8]) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
        let mac = |label| {
            let key = expand(&root, label)?;
            Some(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
        };
        let sealing = expand(&root, b"sealing")?;
        let key_id = expand(&root, b"key-id")?;
        Some(Self {
            key_id: *key_id.first_chunk()?,
            check: hex(expand(&root, b"check")?.as_slice()),
            sealing: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, sealing.as_slice()).ok()?),
            refresh_chain: mac(b"refresh-chain")?,
            token_tag: mac(b"token-tag")?,
            page_token: mac(b"page-token")?,
            identifier: mac(b"identifier")?,
            idempotency: mac(b"idempotency")?,
        })
    }

    /// The 4 bytes by which tokens and sealed bytes name this root. Not secret.
    #[must_use]
    pub const fn key_id(&self) -> [u8; KEY_ID_BYTES] {
        self.key_id
    }

    /// 64 hexadecimal characters by which a database remembers its root (`instance.root_check`). Says nothing about the root.
    #[must_use]
    pub fn check(&self) -> String {
        self.check.clone()
    }

    /// HMAC-SHA256 of a list of parts. Each part goes in behind its length (8 bytes, big endian), so that no two lists give
    /// the same input: `["ab", "c"]` and `["a", "bc"]` differ.
    #[must_use]
    pub fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(self.mac_key(purpose));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        array(context.sign().as_ref())
    }

    /// HMAC-SHA256 of the parts one after the other, without lengths. Only for inputs whose parts have fixed lengths, as the
    /// fields of a token; everything else takes [`Root::mac`].
    #[must_use]
    pub fn mac_fixed(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(self.mac_key(purpose));
        for part in parts {
            context.update(part);
        }
        array(context.sign().as_ref())
    }

    /// Seals with AES-256-GCM: version (1) ‖ key id (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16). `associated` is not in the
    /// result, and the same must be given to open it: it binds the bytes to their row.
    ///
    /// Nonces are random; one root may seal 2³² times (NIST SP 800-38D, section 8.3), far beyond the keys ever sealed.
    #[must_use]
    pub fn seal(&self, plaintext: &[u8], associated: &[u8], entropy: &Entropy) -> Vec<u8> {
        let nonce = entropy.bytes::<NONCE_LEN>();
        // All the room at once: growing would leave the plaintext behind in freed memory.
        let mut sealed = Vec::with_capacity(SEAL_HEAD + plaintext.len() + SEAL_TAG);
        sealed.push(SEAL_VERSION);
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let (_, body) = sealed.split_at_mut(SEAL_HEAD);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.sealing.seal_in_place_separate_tag(nonce, Aad::from(associated), body);
        let Ok(tag) = tag else {
            // Only beyond 64 GiB of plaintext. Going on would hand out the plaintext as sealed.
            std::process::abort();
        };
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn mac_key(&self, purpose: Purpose) -> &hmac::Key {
        match purpose {
            Purpose::RefreshChain => &self.refresh_chain,
            Purpose::TokenTag => &self.token_tag,
            Purpose::PageToken => &self.page_token,
            Purpose::Identifier => &self.identifier,
            Purpose::Idempotency => &self.idempotency,
        }
    }
}

/// The roots of an installation: never empty, no two with one key id.
pub struct RootSecrets {
    first: Root,
    rest: Vec<Root>,
}

impl fmt::Debug for RootSecrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.all()).finish()
    }
}

impl RootSecrets {
    /// Reads the list of `secrets.root`.
    ///
    /// # Errors
    /// The first entry that cannot be used, or that there is none.
    pub fn parse<S: AsRef<str>>(roots: &[S]) -> Result<Self, RootError> {
        let mut parsed: Vec<Root> = Vec::with_capacity(roots.len());
        for (index, text) in roots.iter().enumerate() {
            let secret = read_root(text.as_ref()).map_err(|flaw| RootError::Unfit { index, flaw })?;
            let root = Root::derive(&secret).ok_or(RootError::Derivation { index })?;
            if parsed.iter().any(|earlier| earlier.key_id == root.key_id) {
                return Err(RootError::Repeated { index });
            }
            parsed.push(root);
        }
        let mut parsed = parsed.into_iter();
        let first = parsed.next().ok_or(RootError::Missing)?;
        let rest = parsed.collect();
        Ok(Self { first, rest })
    }

    /// The root that makes new things.
    #[must_use]
    pub const fn first(&self) -> &Root {
        &self.first
    }

    /// All roots, the first one first.
    pub fn all(&self) -> impl Iterator<Item = &Root> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The root with this key id.
    #[must_use]
    pub fn by_key_id(&self, key_id: [u8; KEY_ID_BYTES]) -> Option<&Root> {
        self.all().find(|root| root.key_id == key_id)
    }

    /// Is `stored` the check of one of these roots? Takes the same time whichever it is.
    #[must_use]
    pub fn accepts_check(&self, stored: &str) -> bool {
        self.all().fold(false, |found, root| found | equal(root.check.as_bytes(), stored.as_bytes()))
    }

    /// Whether these bytes were sealed under the first root, by what they say themselves.
    #[must_use]
    pub fn is_sealed_by_first(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=KEY_ID_BYTES).is_some_and(|key_id| key_id == self.first.key_id)
    }

    /// Opens what [`Root::seal`] made under any of these roots.
    ///
    /// # Errors
    /// See [`UnsealError`]; also when `associated` is not what it was sealed with.
    pub fn unseal(&self, sealed: &[u8], associated: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (version, rest) = sealed.split_first().ok_or(UnsealError::Malformed)?;
        let (key_id, rest) = rest.split_first_chunk().ok_or(UnsealError::Malformed)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(UnsealError::Malformed)?;
        if *version != SEAL_VERSION || body.len() < SEAL_TAG {
            return Err(UnsealError::Malformed);
        }
        let root = self.by_key_id(*key_id).ok_or(UnsealError::UnknownKey)?;
        let mut opened = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = root.sealing.open_in_place(nonce, Aad::from(associated), &mut opened).map_err(|_| UnsealError::Forged)?.len();
        opened.truncate(length);
        Ok(opened)
    }
}

/// A new root secret: 32 random bytes as unpadded base64url, 43 characters.
#[must_use]
pub fn generate_root(entropy: &Entropy) -> String {
    generate::<ROOT_BYTES>(entropy)
}

/// A new secret of so many random bytes, as unpadded base64url, in the form of a root.
#[must_use]
pub fn generate<const BYTES: usize>(entropy: &Entropy) -> String {
    loop {
        let root = Zeroizing::new(entropy.bytes::<BYTES>());
        let text = URL_SAFE_NO_PAD.encode(root.as_slice());
        // Once in millions of times chance spells a word that `read_root` refuses.
        if read_root(&text).is_ok() {
            return text;
        }
    }
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, data).as_ref())
}

/// Are the two the same? Takes a time that depends on the lengths only.
#[must_use]
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

fn expand(root: &hkdf::Prk, label: &'static [u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0_u8; 32]);
    root.expand(&[label], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut_slice())).ok()?;
    Some(key)
}

/// The 32 bytes of a SHA-256 output, which has no other length.
fn array(output: &[u8]) -> [u8; 32] {
    let mut bytes = [0_u8; 32];
    bytes.copy_from_slice(output);
    bytes
}

/// The bytes as lower-case hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
