//! What a signing key is made of: its two halves, and a shared secret where there are none.
//!
//! A private key is read once, when it comes into the ring, and not at each signature, as `jsonwebtoken`'s `encode` does: for ES256 reading
//! takes as long as signing.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk, KeyAlgorithm,
        OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, RSAKeyParameters, RSAKeyType, ThumbprintHash,
    },
};
use zeroize::Zeroizing;

use crate::{
    domain::tokens::jws::{JwsError, VerifyingKey},
    error::{Error, Result},
    values::{algorithm::SigningAlgorithm, secret},
};

/// What the name of a shared secret begins with. A thumbprint, the name of every other key, has no such length.
const SHARED: &str = "hmac-";

/// A private key or a shared secret, ready to sign.
pub(super) enum Material {
    /// ES256.
    Ec(EcdsaKeyPair),
    /// `EdDSA`.
    Ed(Ed25519KeyPair),
    /// RS256.
    Rsa(RsaKeyPair),
    /// HS256, HS384, HS512.
    Shared(Box<hmac::Key>),
}

/// A new private key in PKCS#8. RSA takes a second at times: not for a thread that serves.
///
/// # Errors
/// [`Error::Internal`] where the library refuses, and for an algorithm of shared secrets, which are configured.
pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>> {
    let unmade = |_| Error::internal("the signing key could not be made");
    let document = match algorithm {
        SigningAlgorithm::Es256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(unmade)?.as_ref().to_vec()
        }
        SigningAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unmade)?.as_ref().to_vec(),
        SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).map_err(unmade)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(unmade)?.as_ref().to_vec()
        }
        SigningAlgorithm::Hs256 | SigningAlgorithm::Hs384 | SigningAlgorithm::Hs512 => {
            return Err(Error::internal("shared secrets are configured, not made"));
        }
    };
    Ok(Zeroizing::new(document))
}

impl Material {
    /// Reads a private key in PKCS#8.
    ///
    /// # Errors
    /// [`Error::Internal`] for what is none of this algorithm.
    pub(super) fn parse(algorithm: SigningAlgorithm, pkcs8: &[u8]) -> Result<Self> {
        match algorithm {
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Self::Ec).map_err(Error::internal)
            }
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(Self::Ed).map_err(Error::internal),
            SigningAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(Self::Rsa).map_err(Error::internal),
            SigningAlgorithm::Hs256 | SigningAlgorithm::Hs384 | SigningAlgorithm::Hs512 => {
                Err(Error::internal("a stored key of an algorithm of shared secrets"))
            }
        }
    }

    /// The signature of a message (RFC 7518, section 3; RFC 8037), in base64url.
    pub(super) fn sign(&self, message: &[u8]) -> std::result::Result<String, JwsError> {
        let unusable = |_| JwsError::UnusableKey;
        Ok(match self {
            Self::Ec(pair) => URL_SAFE_NO_PAD.encode(pair.sign(&SystemRandom::new(), message).map_err(unusable)?),
            Self::Ed(pair) => URL_SAFE_NO_PAD.encode(pair.sign(message)),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(unusable)?;
                URL_SAFE_NO_PAD.encode(signature)
            }
            Self::Shared(key) => URL_SAFE_NO_PAD.encode(hmac::sign(key, message)),
        })
    }

    /// The public half, with its name; a shared secret has none.
    ///
    /// # Errors
    /// [`Error::Internal`] where the library answers something else than a public key.
    pub(super) fn public(&self) -> Result<Jwk> {
        let (algorithm, key_algorithm) = match self {
            Self::Ec(pair) => {
                // An uncompressed point: 4, then the two coordinates (SEC 1, section 2.3.3).
                let point = pair.public_key().as_ref();
                let (x, y) = point.strip_prefix(&[4]).and_then(|xy| xy.split_at_checked(32)).ok_or_else(|| Error::internal("no point"))?;
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                let (key_type, curve) = (EllipticCurveKeyType::EC, EllipticCurve::P256);
                let point = EllipticCurveKeyParameters { key_type, curve, x, y };
                (AlgorithmParameters::EllipticCurve(point), KeyAlgorithm::ES256)
            }
            Self::Ed(pair) => {
                let (key_type, curve) = (OctetKeyPairType::OctetKeyPair, EllipticCurve::Ed25519);
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                (AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters { key_type, curve, x }), KeyAlgorithm::EdDSA)
            }
            Self::Rsa(pair) => {
                let RsaPublicKeyComponents::<Vec<u8>> { n, e } = pair.public_key().into();
                let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
                (AlgorithmParameters::RSA(RSAKeyParameters { key_type: RSAKeyType::RSA, n, e }), KeyAlgorithm::RS256)
            }
            Self::Shared(_) => return Err(Error::internal("a shared secret has no public half")),
        };
        let common = CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(key_algorithm),
            ..CommonParameters::default()
        };
        let mut jwk = Jwk { common, algorithm };
        jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)?);
        Ok(jwk)
    }
}

/// A configured secret under one of its algorithms, as the key that verifies and as that which signs; none where it is too short for it.
pub(super) fn shared(algorithm: SigningAlgorithm, bytes: &[u8]) -> Option<(VerifyingKey, Material)> {
    let hash = match algorithm {
        SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa | SigningAlgorithm::Rs256 => return None,
        SigningAlgorithm::Hs256 => hmac::HMAC_SHA256,
        SigningAlgorithm::Hs384 => hmac::HMAC_SHA384,
        SigningAlgorithm::Hs512 => hmac::HMAC_SHA512,
    };
    algorithm.secret_bytes().filter(|floor| bytes.len() >= *floor)?;
    let kid = format!("{SHARED}{}", name(algorithm, bytes));
    let verifying = VerifyingKey { kid, algorithm: Algorithm::from(algorithm), key: DecodingKey::from_secret(bytes) };
    Some((verifying, Material::Shared(Box::new(hmac::Key::new(hash, bytes)))))
}

/// What a secret is called in the header of tokens: says nothing about it, and another thing for each algorithm.
fn name(algorithm: SigningAlgorithm, bytes: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let tag = hmac::sign(&key, format!("doorward.v1 kid {algorithm}").as_bytes());
    // Half of a hash: two secrets of one installation do not meet.
    secret::hex(tag.as_ref().get(..16).unwrap_or_default())
}
