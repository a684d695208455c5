//! Signing keys: making the first one, and what a replica keeps of them.
//!
//! A private key is at rest only sealed under the root secret, bound to its row's id, so that a sealed key moved to another row does not
//! open. The key id is the RFC 7638 thumbprint of the public key. Rotation is a later issue; the states are read as they will be:
//! *pending*, *active* and *retired* keys verify, the newest *active* one signs.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{Jwk, ThumbprintHash},
};

use super::tokens::jws::{JwsError, KeySet, VerifyingKey};
use crate::{
    error::{Error, Result},
    store::{
        Store, instance,
        signing_keys::{self, KeyState, SigningKey},
    },
    values::{
        entropy::Entropy,
        ids::SigningKeyId,
        secret::RootSecrets,
        time::{Clock, Timestamp},
    },
};

/// The algorithm of new keys.
const ALGORITHM: (Algorithm, &str) = (Algorithm::ES256, "ES256");

/// The keys that this replica signs and verifies with.
pub struct KeyRing {
    /// Every key that verifies.
    pub verifying: KeySet,
    /// The key that signs.
    pub signing: Signer,
}

/// The key that signs.
pub struct Signer {
    /// Its key id.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its private half.
    pub key: EncodingKey,
    /// The same, read once: reading takes as long as signing.
    pair: EcdsaKeyPair,
}

impl Signer {
    /// The signature of a message (RFC 7518, section 3.4), in base64url.
    ///
    /// # Errors
    /// [`JwsError::UnusableKey`] where the library refuses.
    pub fn sign(&self, message: &[u8]) -> std::result::Result<String, JwsError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| JwsError::UnusableKey)?;
        Ok(URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("signing", &self.signing.kid).finish_non_exhaustive()
    }
}

/// Makes the first signing key where there is none, and answers all of them.
///
/// # Errors
/// [`Error::Internal`] where a key does not open: it was sealed under a root secret that is not in `secrets.root`.
pub async fn ensure(store: &Store, roots: &RootSecrets, entropy: &Entropy, clock: &Clock) -> Result<KeyRing> {
    let fresh = generate(roots, entropy, clock)?;
    let keys = store.write("ensure_signing_key", (fresh, clock.now()), |tx, (fresh, now)| async move { first_key(tx, fresh, now).await });
    assemble(&keys.await?, roots)
}

/// Two replicas that start on an empty database queue for the instance row; the second finds the key of the first.
async fn first_key(tx: crate::store::Tx, fresh: SigningKey, now: Timestamp) -> Result<Vec<SigningKey>> {
    instance::lock(&tx).await?;
    let keys = signing_keys::list(&tx).await?;
    if keys.iter().any(|key| key.state == KeyState::Active) {
        return Ok(keys);
    }
    signing_keys::insert_active(&tx, fresh, now).await?;
    signing_keys::list(&tx).await
}

fn generate(roots: &RootSecrets, entropy: &Entropy, clock: &Clock) -> Result<SigningKey> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| Error::internal("the signing key could not be made"))?;
    let id = SigningKeyId::generate(entropy, clock);
    let jwk = public_jwk(&EncodingKey::from_ec_der(document.as_ref()), ALGORITHM.0)?;
    Ok(SigningKey {
        id,
        kid: jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)?,
        algorithm: ALGORITHM.1.to_owned(),
        state: KeyState::Active,
        sealed_private_key: roots.first().seal(document.as_ref(), &id.as_bytes(), entropy),
    })
}

fn assemble(keys: &[SigningKey], roots: &RootSecrets) -> Result<KeyRing> {
    let mut verifying = KeySet::new();
    let mut signing = None;
    for key in keys {
        let private = roots
            .unseal(&key.sealed_private_key, &key.id.as_bytes())
            .map_err(|e| Error::Internal(format!("the signing key {} does not open: {e}", key.kid)))?;
        let (algorithm, encoding) = match key.algorithm.as_str() {
            "ES256" => (Algorithm::ES256, EncodingKey::from_ec_der(&private)),
            other => return Err(Error::Internal(format!("the signing key {} has the unknown algorithm {other}", key.kid))),
        };
        let jwk = public_jwk(&encoding, algorithm)?;
        let public = DecodingKey::from_jwk(&jwk).map_err(Error::internal)?;
        verifying.push(VerifyingKey { kid: key.kid.clone(), algorithm, key: public }).map_err(Error::internal)?;
        if key.state == KeyState::Active {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private).map_err(Error::internal)?;
            signing = Some(Signer { kid: key.kid.clone(), algorithm, key: encoding, pair });
        }
    }
    Ok(KeyRing { verifying, signing: signing.ok_or_else(|| Error::internal("there is no active signing key"))? })
}

fn public_jwk(key: &EncodingKey, algorithm: Algorithm) -> Result<Jwk> {
    Jwk::from_encoding_key(key, algorithm).map_err(Error::internal)
}
