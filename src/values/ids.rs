//! Ids: one type a noun, so that a role's id never stands where a user's is meant.
//!
//! New ids are UUIDs of version 7 (RFC 9562, section 5.7), which keeps inserts at the end of an index; ids that were imported
//! keep their version. There is one text form, hyphenated; upper case is understood and never written. The other forms that
//! UUID parsers like to accept (braces, `urn:uuid:`, no hyphens) are refused, so that an id has one spelling in logs and keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use super::entropy::Entropy;
use super::time::Clock;

/// The length of the hyphenated form in bytes.
const HYPHENATED: usize = 36;

/// The text is no hyphenated UUID. Callers see it as an `INVALID_FIELD` of the field that held the id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be a UUID in its hyphenated form")]
pub struct IdError;

/// Parses the hyphenated form only, in any case and of any version.
///
/// # Errors
/// Everything else, also other spellings of a UUID.
pub fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    // The hyphenated form is the only one of this length that the library reads.
    if text.len() == HYPHENATED { Uuid::try_parse(text).map_err(|_| IdError) } else { Err(IdError) }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID of any version as it is.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// Makes a new id of version 7.
            #[must_use]
            pub fn generate(entropy: &Entropy, clock: &Clock) -> Self {
                Self(entropy.uuid_v7(clock))
            }

            /// The UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }

            /// The 16 bytes in network order.
            #[must_use]
            pub const fn as_bytes(&self) -> [u8; 16] {
                *self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

ids! {
    /// A person, known to the whole instance.
    UserId,
    /// A tenant.
    TenantId,
    /// A role of one tenant.
    RoleId,
    /// The tie between a user and a tenant.
    MembershipId,
    /// A session: one authentication and what was refreshed from it.
    SessionId,
    /// A workload with an identity of its own.
    ServiceAccountId,
    /// A secret of a service account.
    ServiceAccountSecretId,
    /// A row of `signing_keys`; not the `kid`, which is the key's thumbprint.
    SigningKeyId,
    /// An audit event.
    AuditEventId,
    /// One access token (`jti`, RFC 7519, section 4.1.7).
    TokenId,
}

impl SessionId {
    /// Makes a new id that says in its last bit, one of the random ones, whether the session is bound to a tenant.
    ///
    /// It is a hint and nothing else: who holds a refresh token alone can guess from it which questions the session needs, and asks whether
    /// the guess was right. What was imported may say anything.
    #[must_use]
    pub fn hinting(entropy: &Entropy, clock: &Clock, is_bound: bool) -> Self {
        let id = entropy.uuid_v7(clock).as_u128();
        Self(Uuid::from_u128(id & !1 | u128::from(is_bound)))
    }

    /// What [`SessionId::hinting`] was told, if it made this id.
    #[must_use]
    pub const fn hints_bound(&self) -> bool {
        self.0.as_u128() & 1 == 1
    }
}
