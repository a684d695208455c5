//! The second layer of access-token verification: what a signed payload says, and whether it holds now.
//!
//! [`Claims`] is the one shape of our access tokens (RFC 9068, with the additions of this service). It is written by its
//! `Serialize` and read by [`parse`], which takes nothing that the former would not write: every registered claim is there and
//! of its type, none is there twice, and those of the other kind of subject are absent.
//!
//! | claim | user | service account | without `tid` | with `tid` |
//! |---|---|---|---|---|
//! | `iss sub sub_kind aud client_id iat nbf exp jti` | yes | yes | | |
//! | `sid auth_time amr` | yes | no | | |
//! | `ver` | | | 2 entries | 4 entries |
//! | `roles` | | | no | yes |
//! | `permissions` | | | no | unless too many |
//! | `scope` | where set | where set | | |
//!
//! All else is a custom claim. Strictness towards our own signature is no contradiction: it is what keeps a bug in minting, or
//! a stolen key, from making tokens without an end. Not decided here: whether the audience suits the endpoint
//! ([`Claims::has_audience`]), and whether session, epochs and states still stand.

use std::time::Duration;

use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::jws;
use crate::values::ids::{SessionId, TenantId, TokenId};
use crate::values::time::Timestamp;

/// How far the clocks of two replicas may be apart, in either direction.
pub const LEEWAY: Duration = Duration::from_secs(5);
/// More permissions than this are left out of a token; an offline verifier that misses the claim has to ask.
pub const MAX_PERMISSIONS: usize = 64;
/// So are permissions that are longer than this together, in bytes: 64 of the longest would not fit into a token.
pub const MAX_PERMISSIONS_BYTES: usize = 2 * 1024;
/// The longest `scope`, in bytes. It is never left out, so longer ones have to be refused where they are asked for.
pub const MAX_SCOPE_BYTES: usize = 2 * 1024;
/// The most audiences of one token.
pub const MAX_AUDIENCES: usize = 16;
/// All custom claims of a token together, in bytes of JSON.
pub const MAX_CUSTOM_BYTES: usize = 1024;

/// The longest single string, in bytes; issuer and audiences are URLs, all others are shorter.
const MAX_TEXT_BYTES: usize = 512;
/// The most entries of a list that has no limit of its own. The size of a token limits them further.
const MAX_ENTRIES: usize = 256;
/// 2^53: above it, a reader that keeps JSON numbers as doubles sees another number than we do (RFC 7493 §2.2).
const INTEGER_LIMIT: u64 = 1 << 53;
const LEEWAY_SECONDS: i64 = LEEWAY.as_secs().cast_signed();

/// Every claim that has a meaning of its own, in the order in which they are written. A custom claim never takes their place.
pub const REGISTERED: [&str; 17] = [
    "iss",
    "sub",
    "sub_kind",
    "aud",
    "client_id",
    "iat",
    "nbf",
    "exp",
    "jti",
    "ver",
    "sid",
    "auth_time",
    "amr",
    "scope",
    "tid",
    "roles",
    "permissions",
];

/// Why the payload of a well-signed token was not accepted. Holds no value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// This claim is missing, there for the wrong kind of token, of another type, out of bounds, or at odds with the others;
    /// `payload` for something that is no JSON object or has a member twice, `custom` for too many custom claims.
    /// `TOKEN_INVALID`.
    #[error("claim {0} is missing or malformed")]
    Malformed(&'static str),
    /// Over, leeway included. `TOKEN_EXPIRED`.
    #[error("the token has expired")]
    Expired,
    /// Issued or valid only in the future, leeway included. `TOKEN_INVALID`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Lives longer than any token may that we make. `TOKEN_INVALID`.
    #[error("the token's lifetime is above the maximum")]
    TooLongLived,
    /// Made by somebody else, or by us under another name. `TOKEN_INVALID`.
    #[error("the token is of another issuer")]
    WrongIssuer,
}

/// Whom a token speaks for: the claim `sub_kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// A person, in a session.
    User,
    /// A workload, which has no session.
    ServiceAccount,
}

impl SubjectKind {
    /// As it stands in the token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceAccount => "service_account",
        }
    }

    fn read(value: Value) -> Option<Self> {
        let word = text(value)?;
        [Self::User, Self::ServiceAccount].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The claims of an access token. Which are there for whom: see the module doc.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Issuer: `tokens.issuer`, byte for byte (RFC 9068 §4).
    pub iss: String,
    /// Id of the user or service account.
    pub sub: Uuid,
    /// Which of the two `sub` is.
    pub sub_kind: SubjectKind,
    /// Whom the token is meant for, 1 to [`MAX_AUDIENCES`]; without the issuer among them the token is *narrowed*.
    pub aud: Vec<String>,
    /// The client it was given to (RFC 8693 §4.3): a service-account id or `tokens.default_client_id`.
    pub client_id: String,
    /// When it was made.
    pub iat: Timestamp,
    /// From when on it is good; not before `iat`.
    pub nbf: Timestamp,
    /// From when on it is not; after `nbf`.
    pub exp: Timestamp,
    /// Id of this very token, so that no two are equal.
    pub jti: TokenId,
    /// The user's session.
    pub sid: Option<SessionId>,
    /// When the user proved who they are.
    pub auth_time: Option<Timestamp>,
    /// How they did (RFC 8176). Empty for a service account.
    pub amr: Vec<String>,
    /// Epochs under which the token was made: instance, principal and, with `tid`, tenant and membership (0 for a principal
    /// who has none there). Each at least 0.
    pub ver: Vec<i64>,
    /// Space-separated permissions that cap every answer (RFC 6749 §3.3), at most [`MAX_SCOPE_BYTES`].
    pub scope: Option<String>,
    /// The tenant that the token is bound to.
    pub tid: Option<TenantId>,
    /// Names of the roles there, for offline verifiers only; present, if empty, whenever `tid` is.
    pub roles: Option<Vec<String>>,
    /// Permissions there, for offline verifiers only; not written above [`MAX_PERMISSIONS`] or [`MAX_PERMISSIONS_BYTES`].
    pub permissions: Option<Vec<String>>,
    /// Custom claims, at most [`MAX_CUSTOM_BYTES`]. A registered name in here is not written.
    pub custom: Map<String, Value>,
}

impl Claims {
    /// Whether the token is meant for this audience.
    #[must_use]
    pub fn has_audience(&self, audience: &str) -> bool {
        self.aud.iter().any(|one| one == audience)
    }

    /// The times against the clock.
    ///
    /// # Errors
    /// [`ClaimsError::NotYetValid`], [`ClaimsError::Expired`].
    pub fn judge_time(&self, now: Timestamp, expiry: ExpiryRule) -> Result<(), ClaimsError> {
        let now = now.as_unix();
        // `nbf` is not before `iat`, so this covers both.
        if self.nbf.as_unix() > now.saturating_add(LEEWAY_SECONDS) {
            return Err(ClaimsError::NotYetValid);
        }
        match expiry {
            ExpiryRule::Enforced if now >= self.exp.as_unix().saturating_add(LEEWAY_SECONDS) => Err(ClaimsError::Expired),
            ExpiryRule::Enforced | ExpiryRule::Ignored => Ok(()),
        }
    }

    /// The permissions, where they are few and short enough to travel in a token.
    fn portable_permissions(&self) -> Option<&Vec<String>> {
        self.permissions.as_ref().filter(|all| {
            let bytes: usize = all.iter().map(String::len).sum();
            all.len() <= MAX_PERMISSIONS && bytes <= MAX_PERMISSIONS_BYTES
        })
    }
}

impl Serialize for Claims {
    /// Writes the payload that is signed. What belongs to the other kind of subject is left out; custom claims above their
    /// limit are an error, as the token would be refused everywhere.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_within_limit(&self.custom) {
            return Err(S::Error::custom("custom claims are above their limit"));
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("iss", &self.iss)?;
        map.serialize_entry("sub", &self.sub.to_string())?;
        map.serialize_entry("sub_kind", self.sub_kind.as_str())?;
        map.serialize_entry("aud", &self.aud)?;
        map.serialize_entry("client_id", &self.client_id)?;
        map.serialize_entry("iat", &self.iat.as_unix())?;
        map.serialize_entry("nbf", &self.nbf.as_unix())?;
        map.serialize_entry("exp", &self.exp.as_unix())?;
        map.serialize_entry("jti", &self.jti.to_string())?;
        map.serialize_entry("ver", &self.ver)?;
        if self.sub_kind == SubjectKind::User {
            if let Some(sid) = &self.sid {
                map.serialize_entry("sid", &sid.to_string())?;
            }
            if let Some(auth_time) = &self.auth_time {
                map.serialize_entry("auth_time", &auth_time.as_unix())?;
            }
            map.serialize_entry("amr", &self.amr)?;
        }
        if let Some(scope) = &self.scope {
            map.serialize_entry("scope", scope)?;
        }
        if let Some(tid) = &self.tid {
            map.serialize_entry("tid", &tid.to_string())?;
            map.serialize_entry("roles", self.roles.as_deref().unwrap_or_default())?;
            if let Some(permissions) = self.portable_permissions() {
                map.serialize_entry("permissions", permissions)?;
            }
        }
        for (name, value) in self.custom.iter().filter(|(name, _)| !REGISTERED.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// What [`parse`] does about `exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryRule {
    /// An expired token is refused: everywhere but at Logout.
    Enforced,
    /// An expired token is good enough to end its own session.
    Ignored,
}

/// What a token is measured against.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The only issuer accepted.
    pub issuer: &'a str,
    /// The time of the request.
    pub now: Timestamp,
    /// The most that `exp - iat` may be, without leeway.
    pub max_lifetime: Duration,
    /// What to do about `exp`.
    pub expiry: ExpiryRule,
}

/// Reads the payload of a token whose signature was good.
///
/// # Errors
///
/// A [`ClaimsError`]; the shape is judged before the issuer, the issuer before the lifetime, and expiry last, so that
/// [`ClaimsError::Expired`] is only said of a token that was good once.
pub fn parse(payload: &[u8], expected: &Expected) -> Result<Claims, ClaimsError> {
    let mut members = Members(jws::parse_object(payload).map_err(|_| ClaimsError::Malformed("payload"))?);
    let claims = Claims {
        iss: members.get("iss", text)?,
        sub: members.get("sub", uuid)?,
        sub_kind: members.get("sub_kind", SubjectKind::read)?,
        aud: members.get("aud", audiences)?,
        client_id: members.get("client_id", text)?,
        iat: members.get("iat", time)?,
        nbf: members.get("nbf", time)?,
        exp: members.get("exp", time)?,
        jti: members.get("jti", uuid).map(TokenId::from_uuid)?,
        ver: members.get("ver", epochs)?,
        sid: members.find("sid", uuid)?.map(SessionId::from_uuid),
        auth_time: members.find("auth_time", time)?,
        amr: members.find("amr", methods)?.unwrap_or_default(),
        scope: members.find("scope", scope)?,
        tid: members.find("tid", uuid)?.map(TenantId::from_uuid),
        roles: members.find("roles", texts)?,
        permissions: members.find("permissions", permissions)?,
        custom: members.0,
    };
    check_shape(&claims)?;
    if claims.iss != expected.issuer {
        return Err(ClaimsError::WrongIssuer);
    }
    check_times(&claims, expected)?;
    Ok(claims)
}

/// Which claims may and must stand together: the table of the module doc.
fn check_shape(claims: &Claims) -> Result<(), ClaimsError> {
    let is_user = claims.sub_kind == SubjectKind::User;
    let in_tenant = claims.tid.is_some();
    let rules = [
        ("sid", claims.sid.is_some() == is_user),
        ("auth_time", claims.auth_time.is_some() == is_user),
        // `methods` takes no empty list, so an empty one here was absent.
        ("amr", claims.amr.is_empty() != is_user),
        ("ver", claims.ver.len() == if in_tenant { 4 } else { 2 }),
        ("roles", claims.roles.is_some() == in_tenant),
        ("permissions", in_tenant || claims.permissions.is_none()),
        ("custom", is_within_limit(&claims.custom)),
    ];
    match rules.iter().find(|(_, holds)| !holds) {
        Some((claim, _)) => Err(ClaimsError::Malformed(claim)),
        None => Ok(()),
    }
}

/// The times against each other, then against the clock.
fn check_times(claims: &Claims, expected: &Expected) -> Result<(), ClaimsError> {
    let (iat, nbf, exp) = (claims.iat.as_unix(), claims.nbf.as_unix(), claims.exp.as_unix());
    if nbf < iat {
        return Err(ClaimsError::Malformed("nbf"));
    }
    if exp <= nbf {
        return Err(ClaimsError::Malformed("exp"));
    }
    if claims.auth_time.is_some_and(|time| time.as_unix() > iat.saturating_add(LEEWAY_SECONDS)) {
        return Err(ClaimsError::Malformed("auth_time"));
    }
    if u64::try_from(exp.saturating_sub(iat)).is_ok_and(|lifetime| lifetime > expected.max_lifetime.as_secs()) {
        return Err(ClaimsError::TooLongLived);
    }
    claims.judge_time(expected.now, expected.expiry)
}

/// The members not read yet; what is left in the end is custom.
struct Members(Map<String, Value>);

impl Members {
    /// An absent claim is fine; `null` is not absent.
    fn find<T>(&mut self, claim: &'static str, read: impl FnOnce(Value) -> Option<T>) -> Result<Option<T>, ClaimsError> {
        match self.0.remove(claim) {
            Some(value) => read(value).map(Some).ok_or(ClaimsError::Malformed(claim)),
            None => Ok(None),
        }
    }

    fn get<T>(&mut self, claim: &'static str, read: impl FnOnce(Value) -> Option<T>) -> Result<T, ClaimsError> {
        self.find(claim, read)?.ok_or(ClaimsError::Malformed(claim))
    }
}

fn is_within_limit(custom: &Map<String, Value>) -> bool {
    serde_json::to_string(custom).is_ok_and(|json| json.len() <= MAX_CUSTOM_BYTES)
}

/// A string that is not empty, not over-long, and holds no control character (a NUL would not even reach the database).
fn text(value: Value) -> Option<String> {
    text_up_to(value, MAX_TEXT_BYTES)
}

fn text_up_to(value: Value, max_bytes: usize) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && text.len() <= max_bytes && !text.contains(char::is_control) => Some(text),
        _ => None,
    }
}

/// Only the one spelling that we write, hyphenated and in lower case: equal ids are equal strings.
fn uuid(value: Value) -> Option<Uuid> {
    let text = text(value)?;
    Uuid::try_parse(&text).ok().filter(|id| id.to_string() == text)
}

/// A whole number from 0 on. `1.0` and `1e3` are floats to JSON readers, hence not whole.
fn count(value: &Value) -> Option<i64> {
    value.as_u64().filter(|number| *number < INTEGER_LIMIT).and_then(|number| i64::try_from(number).ok())
}

/// A `NumericDate` (RFC 7519 §2), in whole seconds.
#[expect(clippy::needless_pass_by_value, reason = "the readers share one signature")]
fn time(value: Value) -> Option<Timestamp> {
    count(&value).map(Timestamp::from_unix)
}

#[expect(clippy::needless_pass_by_value, reason = "the readers share one signature")]
fn epochs(value: Value) -> Option<Vec<i64>> {
    value.as_array()?.iter().map(count).collect()
}

/// A list of strings; it may be empty.
fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(entries) if entries.len() <= MAX_ENTRIES => entries.into_iter().map(text).collect(),
        _ => None,
    }
}

/// At least one, no two alike. A plain string, which RFC 7519 §4.1.3 allows, is not our way to write it.
fn audiences(value: Value) -> Option<Vec<String>> {
    let all = texts(value)?;
    let mut seen = all.iter().enumerate();
    let no_twins = seen.all(|(at, one)| all.iter().skip(at + 1).all(|other| other != one));
    ((1..=MAX_AUDIENCES).contains(&all.len()) && no_twins).then_some(all)
}

fn methods(value: Value) -> Option<Vec<String>> {
    texts(value).filter(|all| !all.is_empty())
}

fn permissions(value: Value) -> Option<Vec<String>> {
    texts(value).filter(|all| all.len() <= MAX_PERMISSIONS)
}

/// Words with one space between them (RFC 6749 §3.3). What the words mean is decided where they are used.
fn scope(value: Value) -> Option<String> {
    let all = text_up_to(value, MAX_SCOPE_BYTES)?;
    let words = all.split(' ').count();
    (words <= MAX_PERMISSIONS && all.split(' ').all(|word| !word.is_empty())).then_some(all)
}
