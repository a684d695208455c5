//! The algorithms that access tokens may be signed with.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::Algorithm;

/// A JWS algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1) that this service signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// HMAC with SHA-256: whoever verifies can also sign.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256, Self::Hs384, Self::Hs512];

    /// The registered name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// The bytes that a shared secret must have at least, those of the hash (RFC 7518, section 3.2); none for an algorithm with a key
    /// pair, whose public half may be published.
    #[must_use]
    pub const fn secret_bytes(self) -> Option<usize> {
        match self {
            Self::Es256 | Self::EdDsa | Self::Rs256 => None,
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// No algorithm of this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be ES256, EdDSA, RS256, HS256, HS384 or HS512")]
pub struct UnknownAlgorithm;

impl FromStr for SigningAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name).ok_or(UnknownAlgorithm)
    }
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::Es256 => Self::ES256,
            SigningAlgorithm::EdDsa => Self::EdDSA,
            SigningAlgorithm::Rs256 => Self::RS256,
            SigningAlgorithm::Hs256 => Self::HS256,
            SigningAlgorithm::Hs384 => Self::HS384,
            SigningAlgorithm::Hs512 => Self::HS512,
        }
    }
}
