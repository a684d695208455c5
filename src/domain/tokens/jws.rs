//! The first layer of access-token verification: is this string signed by one of our keys?
//!
//! [`verify`] answers with the payload bytes and the token's kind (`typ`); what the payload *means* is the second layer,
//! [`claims`](super::claims). Nothing here knows a clock, an issuer or a claim.
//!
//! The steps, cheapest first, and each of them final:
//!
//! 1. length, before anything is decoded;
//! 2. compact serialisation: three parts of canonical, unpadded base64url (RFC 7515 §7.1);
//! 3. header: a JSON object of nothing but `typ`, `alg` and `kid`, each a string, none twice. Whatever else a header could
//!    carry either changes what is signed (`crit`, `b64`, `zip`), brings a key along (`jwk`, `x5c`) or names a place to
//!    fetch one from (`jku`, `x5u`), and we never write any of it. RFC 8725 §3.10 asks to refuse these one by one; a list of
//!    what is allowed cannot be incomplete;
//! 4. `typ`, which keeps the kinds of tokens apart (RFC 8725 §3.11);
//! 5. `kid` picks the key, and the *key* says which algorithm is used: the header's `alg` may only agree (RFC 8725 §3.1).
//!    That is why `none` and a public key used as an HMAC secret need no rule of their own;
//! 6. the signature, over the text as it arrived.
//!
//! Of `jsonwebtoken` only the primitives are used: its `decode` accepts unknown `crit`, any `typ` and embedded keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, crypto};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes. Ours are near one KiB; the cap keeps the work for a forged one small.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why a token was not accepted, or not made. Holds no part of the token.
///
/// To a caller every variant but the last two is `TOKEN_INVALID`; which one it was is for tests and sampled logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`MAX_TOKEN_BYTES`]; from [`sign`] too, as such a token would be of no use to anybody.
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of canonical base64url with a header of the one accepted shape.
    #[error("the token is not a well-formed JWS")]
    Malformed,
    /// A token of another kind than the [`HeaderRule`] accepts.
    #[error("the token is of another kind")]
    WrongType,
    /// `alg` is not the algorithm of the key that `kid` names.
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    /// No key of the set has this `kid`: foreign, revoked, removed, or newer than our copy of the set.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// The signature is not the key's over this text.
    #[error("the signature does not match")]
    BadSignature,
    /// One of *our* keys cannot do its work: a bug or a damaged store, never the sender's fault.
    #[error("the key cannot be used with its algorithm")]
    UnusableKey,
    /// The payload given to [`sign`] does not serialise: a bug.
    #[error("the payload cannot be written as JSON")]
    Unserialisable,
}

/// A key that verifies, with its name and the one algorithm it is used for.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    /// Key id as it stands in headers and in the published key set; RFC 7638 thumbprint for our own.
    pub kid: String,
    /// The only algorithm this key verifies (RFC 7517 §4.4).
    pub algorithm: Algorithm,
    /// Public key, or the shared secret of the HMAC algorithms.
    pub key: DecodingKey,
}

/// The keys that tokens may be signed with, each under its own `kid`.
///
/// A linear search: there is one active key, one or two waiting or retired ones, and a miss must not cost more than a hit.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<VerifyingKey>);

impl KeySet {
    /// An empty set, which accepts no token.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a key.
    ///
    /// # Errors
    ///
    /// [`JwsError::UnusableKey`] for an empty `kid` or one that the set has already (whose key would it be?), for a key of
    /// another family than its algorithm, and for an HMAC secret shorter than the hash (RFC 7518 §3.2). RSA below 2048 bits
    /// and points off the curve are found, and refused, by the primitive when it verifies.
    pub fn push(&mut self, key: VerifyingKey) -> Result<(), JwsError> {
        let secret = key.key.try_get_as_bytes().unwrap_or_default();
        if key.kid.is_empty() || self.find(&key.kid).is_some() || key.key.family() != key.algorithm.family() {
            return Err(JwsError::UnusableKey);
        }
        is_long_enough(key.algorithm, secret)?;
        self.0.push(key);
        Ok(())
    }

    /// The key of this name.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// All keys, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.0.iter()
    }

    /// The only key of a set of one.
    fn only(&self) -> Option<&VerifyingKey> {
        match self.0.as_slice() {
            [key] => Some(key),
            _ => None,
        }
    }
}

/// Which kinds of tokens an endpoint takes, by the header's `typ`.
///
/// Compared without regard to ASCII case and with or without `application/` in front (RFC 7515 §4.1.9, RFC 9068 §4). A rule
/// over an empty list accepts nothing.
#[derive(Debug, Clone, Copy)]
pub struct HeaderRule(Option<&'static [&'static str]>);

impl HeaderRule {
    /// Accepts these kinds, written in lower case and without `application/`, and demands a `kid`.
    #[must_use]
    pub const fn new(types: &'static [&'static str]) -> Self {
        Self(Some(types))
    }

    /// Accepts any `typ` or none, and a missing `kid` where the set has exactly one key.
    ///
    /// For vectors and tokens of others, which know no `typ`. No endpoint of ours uses it: it would let every kind of token
    /// pass as every other.
    #[must_use]
    pub const fn any() -> Self {
        Self(None)
    }

    /// The kind in its plain spelling, if this rule takes it.
    fn admit(self, typ: Option<&str>) -> Result<String, JwsError> {
        let plain = typ.unwrap_or_default().to_ascii_lowercase();
        let plain = plain.strip_prefix("application/").unwrap_or(&plain);
        match self.0 {
            Some(types) if !types.contains(&plain) => Err(JwsError::WrongType),
            Some(_) | None => Ok(plain.to_owned()),
        }
    }

    /// The key that `kid` names. Without one, only the relaxed rule finds a key, and only if there is no choice.
    fn select<'k>(self, keys: &'k KeySet, kid: Option<&str>) -> Result<&'k VerifyingKey, JwsError> {
        match (kid, self.0) {
            (Some(kid), _) => keys.find(kid).ok_or(JwsError::UnknownKey),
            (None, None) => keys.only().ok_or(JwsError::UnknownKey),
            (None, Some(_)) => Err(JwsError::Malformed),
        }
    }
}

/// What a good signature vouches for.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    /// The token's kind: lower case, without `application/`; empty where [`HeaderRule::any`] met a token without `typ`.
    pub typ: String,
    /// The payload, decoded but not looked at; it may be empty (RFC 7515 knows such tokens, the claims layer does not).
    pub payload: Vec<u8>,
    /// The key that made it good.
    pub kid: String,
}

impl fmt::Debug for Verified {
    /// Leaves the payload out: it is a person's session, and this may end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("typ", &self.typ).finish_non_exhaustive()
    }
}

/// Checks a compact JWS (RFC 7515 §5.2) against the keys and answers its payload.
///
/// # Errors
///
/// A [`JwsError`] that names the first step which failed; see there, and the module doc for the order.
pub fn verify(token: &str, keys: &KeySet, rule: &HeaderRule) -> Result<Verified, JwsError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwsError::TooLong);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(JwsError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(JwsError::Malformed)?;
    // A fourth part would leave its dot in the payload, and a dot is not in the alphabet.
    let header = Header::parse(&decode(header)?)?;
    let payload = decode(payload)?;
    if decode(signature)?.is_empty() {
        return Err(JwsError::Malformed);
    }

    let typ = rule.admit(header.typ.as_deref())?;
    let key = rule.select(keys, header.kid.as_deref())?;
    if name(key.algorithm) != Some(header.alg.as_str()) {
        return Err(JwsError::WrongAlgorithm);
    }
    match crypto::verify(signature, message.as_bytes(), &key.key, key.algorithm) {
        Ok(true) => Ok(Verified { typ, payload, kid: key.kid.clone() }),
        Ok(false) => Err(JwsError::BadSignature),
        Err(_) => Err(JwsError::UnusableKey),
    }
}

/// The key that a token names, whoever wrote it; none where nothing is named in the form that [`verify`] takes.
#[must_use]
pub fn key_id(token: &str) -> Option<String> {
    let (header, _) = token.split_once('.').filter(|_| token.len() <= MAX_TOKEN_BYTES)?;
    Header::parse(&decode(header).ok()?).ok()?.kid
}

/// Makes a compact JWS with a header of exactly `typ`, `alg` and `kid`.
///
/// # Errors
///
/// [`JwsError::UnusableKey`] for a key that is not of the algorithm's family, is too short or does not parse,
/// [`JwsError::Unserialisable`] for a payload that JSON cannot hold, [`JwsError::TooLong`] for a token that [`verify`] would
/// refuse for its length.
pub fn sign(typ: &str, kid: &str, algorithm: Algorithm, key: &EncodingKey, payload: &impl Serialize) -> Result<String, JwsError> {
    is_long_enough(algorithm, key.as_bytes())?;
    let signature = |message: &[u8]| crypto::sign(message, key, algorithm).map_err(|_| JwsError::UnusableKey);
    sign_with(typ, kid, algorithm, payload, signature)
}

/// [`sign`] by a key that was read before: `signature` gives the signature of a message in base64url.
///
/// # Errors
/// Those of [`sign`].
pub fn sign_with(
    typ: &str,
    kid: &str,
    algorithm: Algorithm,
    payload: &impl Serialize,
    signature: impl FnOnce(&[u8]) -> Result<String, JwsError>,
) -> Result<String, JwsError> {
    let alg = name(algorithm).ok_or(JwsError::UnusableKey)?;
    let header = encode(&serde_json::json!({ "typ": typ, "alg": alg, "kid": kid }))?;
    let message = format!("{header}.{}", encode(payload)?);
    let token = format!("{message}.{}", signature(message.as_bytes())?);
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwsError::TooLong);
    }
    Ok(token)
}

/// Reads a JSON object none of whose own members occurs twice. Two parsers that pick different ones of two equal members see
/// two different tokens (RFC 7515 §4 leaves the choice open; we refuse).
///
/// Both layers use it. A derived `Deserialize` would do neither: it takes an array for a struct, and `null` for an `Option`.
///
/// # Errors
///
/// [`JwsError::Malformed`] for anything else than one such object.
pub fn parse_object(json: &[u8]) -> Result<Map<String, Value>, JwsError> {
    serde_json::from_slice(json).map(|StrictObject(members)| members).map_err(|_| JwsError::Malformed)
}

/// See [`parse_object`].
struct StrictObject(Map<String, Value>);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = StrictObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object without duplicate members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<StrictObject, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(StrictObject(members))
    }
}

/// The whole of an acceptable header.
struct Header {
    typ: Option<String>,
    alg: String,
    kid: Option<String>,
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, JwsError> {
        let mut members = parse_object(json)?;
        let mut string = |name| match members.remove(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            None => Ok(None),
            Some(_) => Err(JwsError::Malformed),
        };
        let (typ, alg, kid) = (string("typ")?, string("alg")?, string("kid")?);
        if !members.is_empty() {
            return Err(JwsError::Malformed);
        }
        Ok(Self { typ, alg: alg.ok_or(JwsError::Malformed)?, kid })
    }
}

/// Canonical, unpadded base64url: this engine refuses padding, foreign characters and set trailing bits, so that one token
/// has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed)
}

fn encode(part: &impl Serialize) -> Result<String, JwsError> {
    let json = serde_json::to_vec(part).map_err(|_| JwsError::Unserialisable)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// An HMAC secret has at least the bytes of its hash (RFC 7518 §3.2). Other keys pass.
fn is_long_enough(algorithm: Algorithm, secret: &[u8]) -> Result<(), JwsError> {
    let floor = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        other if other.family() == AlgorithmFamily::Hmac => usize::MAX,
        _ => 0,
    };
    if secret.len() < floor { Err(JwsError::UnusableKey) } else { Ok(()) }
}

/// The registered spelling of the algorithms that we support (RFC 7518 §3.1, RFC 8037 §3.1). Exact: `es256` is no algorithm.
const fn name(algorithm: Algorithm) -> Option<&'static str> {
    Some(match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::HS384 => "HS384",
        Algorithm::HS512 => "HS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::EdDSA => "EdDSA",
        _ => return None,
    })
}
