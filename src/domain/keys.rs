//! Signing keys: which there are, which of them signs, and what a replica keeps of them.
//!
//! ```text
//!            made                 published long enough          the next one signs         its last token has expired
//!   (none) ────────► pending ───────────────────────────► active ───────────────────► retired ─────────────────► (removed)
//!     │               │                                   │                           │
//!     │ first start   └───────────────────────────────────┴───────────────────────────┘
//!     └──────────────────────────────────────────────────►│ compromised
//!                                                         ▼
//!                                                      revoked      its private half is forgotten; the row stays as a record
//! ```
//!
//! *Pending*, *active* and *retired* keys verify and are published; the newest *active* one signs. Where `tokens.algorithm` is one of the
//! HMAC ones a configured secret signs instead; what secrets are configured verifies, whatever signs.
//!
//! **Published before use.** Who verifies tokens without asking keeps the published keys for [`KEY_SET_MAX_AGE`]. A pending key signs after
//! [`PUBLISHED_BEFORE`], twice as long: a reader's copy was made when the key was there, also by a clock that is minutes off.
//!
//! **Retired until the end.** A retired key goes once `tokens.max_access_lifetime` has passed since it ceased to sign, and
//! [`KEY_SET_MAX_AGE`] more, for replicas that heard of it late and clocks that differ.
//!
//! **What a replica keeps** ([`Keys`]) is read anew four times in `freshness.max_staleness`, and trusted while the start of the last such
//! reading is no longer ago than that, by the monotonic clock. After that a verification reads the database itself, and answers UNAVAILABLE
//! where that is away: a key that was revoked meanwhile must not let anybody in. The key set is answered all the same; whoever
//! reads it keeps it longer than that anyway.
//!
//! **A token of a key that is not known** may be of one that another replica made a moment ago, where it had to sign at once: it is judged by
//! keys that were read after the token came. For such readings all wait in one line, and one is done in fifty milliseconds at most.
//!
//! **Rotation** is a function of the rows and the time ([`rotation::due`]): whichever replica finds something due does it, under the lock of
//! the instance row, and asks again there.
//!
//! A private key is at rest only sealed under the root secret, bound to its row's id, so that a sealed key moved to another row does not
//! open. The key id is the RFC 7638 thumbprint of the public key.
//!
//! | file | what |
//! |---|---|
//! | `material.rs` | key pairs, shared secrets, signatures, public halves |
//! | `rotation.rs` | what is due, and doing it |
//! | `operator.rs` | what operators do: list, rotate, retire, revoke, seal anew |

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Mutex, time::Instant};

use self::{material::Material, rotation::Maker};
use super::tokens::jws::{JwsError, KeySet, VerifyingKey};
use crate::{
    app::App,
    config::Config,
    error::{Error, Result},
    store::{
        Store,
        signing_keys::{self, KeyState, SigningKey},
    },
    values::{
        algorithm::SigningAlgorithm,
        entropy::Entropy,
        secret::{self, RootSecrets},
        time::Clock,
    },
};

mod material;
mod operator;
pub mod rotation;

pub use operator::{KeyOperator, Resealed, get, list, reseal, retire, revoke, rotate};
pub use rotation::{Outlook, follow};

/// How long the published keys may be kept by who reads them.
pub const KEY_SET_MAX_AGE: Duration = Duration::from_mins(5);
/// How long a key is published before it signs.
pub const PUBLISHED_BEFORE: Duration = Duration::from_mins(10);

/// How long after one reading of the keys the next one begins, where it is not its turn.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The keys that a replica signs and verifies with, at one moment.
pub struct KeyRing {
    /// Every key that verifies.
    pub verifying: KeySet,
    /// The public ones among them, as everybody may have them.
    pub published: Vec<Jwk>,
    /// The key that signs; none for the moment in which somebody took it away and no other was made.
    signing: Option<Signer>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("signing", &self.signing.as_ref().map(|signer| &signer.kid)).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// The key that signs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where none does: one is made within a moment.
    pub fn signer(&self) -> Result<&Signer> {
        self.signing.as_ref().ok_or_else(|| Error::Unavailable("no signing key is active".to_owned()))
    }
}

/// The key that signs.
pub struct Signer {
    /// Its key id.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    material: Material,
}

impl Signer {
    /// The signature of a message, in base64url.
    ///
    /// # Errors
    /// [`JwsError::UnusableKey`] where the library refuses.
    pub fn sign(&self, message: &[u8]) -> std::result::Result<String, JwsError> {
        self.material.sign(message)
    }
}

/// The keys as a replica knows them.
#[derive(Debug)]
pub struct Keys {
    seen: ArcSwap<Seen>,
    max_staleness: Duration,
    /// One reading out of turn at a time, which leaves here when it began and why it failed, for those who waited for it.
    turn: Mutex<Option<(Instant, String)>>,
}

/// What was read of the keys, and since when nothing newer is known.
#[derive(Debug)]
struct Seen {
    rows: Vec<SigningKey>,
    ring: Arc<KeyRing>,
    /// When the reading began.
    at: Instant,
}

impl Keys {
    /// The keys as they were last read, however long ago: for signing, and for who keeps them longer anyway.
    #[must_use]
    pub fn latest(&self) -> Arc<KeyRing> {
        Arc::clone(&self.seen.load().ring)
    }

    /// The keys as they were last read, if that is no longer ago than `freshness.max_staleness`.
    #[must_use]
    pub fn trusted(&self) -> Option<Arc<KeyRing>> {
        let seen = self.seen.load();
        (seen.at.elapsed() <= self.max_staleness).then(|| Arc::clone(&seen.ring))
    }

    /// Keys that were read since this moment. However many ask, the database is asked by one at a time, and not twice within
    /// [`LOOK_AGAIN`]: whoever makes up key ids cannot make work.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away.
    pub async fn since(&self, app: &App, moment: Instant) -> Result<Arc<KeyRing>> {
        let mut turn = self.turn.lock().await;
        let (at, ring) = {
            let seen = self.seen.load();
            (seen.at, Arc::clone(&seen.ring))
        };
        if at >= moment {
            return Ok(ring);
        }
        // A database that is away takes its time to say so, and all who wait would wait in turn.
        if let Some((began, cause)) = turn.as_ref().filter(|(began, _)| *began >= moment) {
            return Err(Error::Unavailable(format!("{cause}, {} ms ago", began.elapsed().as_millis())));
        }
        tokio::time::sleep_until(at + LOOK_AGAIN).await;
        let began = Instant::now();
        let outcome = self.refresh(app).await;
        *turn = match &outcome {
            Err(Error::Unavailable(cause)) => Some((began, cause.clone())),
            Ok(_) | Err(_) => None,
        };
        outcome.map(|(ring, _)| ring)
    }

    /// Reads the keys anew, and answers them with their rows.
    async fn refresh(&self, app: &App) -> Result<(Arc<KeyRing>, Vec<SigningKey>)> {
        let at = Instant::now();
        let rows = app.store.read("read_signing_keys", (), |db, ()| async move { signing_keys::list(&db).await }).await?;
        let before = self.seen.load();
        let ring = if before.rows == rows { Arc::clone(&before.ring) } else { Arc::new(assemble(&rows, &app.roots, &app.config)?) };
        let fresh = Arc::new(Seen { rows: rows.clone(), ring: Arc::clone(&ring), at });
        // Of two readings that overlap, the one that began later knows more.
        self.seen.rcu(|known| Arc::clone(if known.at > fresh.at { known } else { &fresh }));
        Ok((ring, rows))
    }
}

/// Makes the first signing key where there is none, and answers all of them.
///
/// # Errors
/// [`Error::Internal`] where a key does not open: it was sealed under a root secret that is not in `secrets.root`.
pub async fn ensure(config: &Config, store: &Store, roots: &RootSecrets, entropy: &Entropy, clock: &Clock) -> Result<Keys> {
    let at = Instant::now();
    let maker = Maker { outlook: Outlook::new(&config.tokens), store, roots, entropy, clock };
    let rows = maker.first().await?;
    let ring = Arc::new(assemble(&rows, roots, config)?);
    let max_staleness = config.freshness.max_staleness;
    Ok(Keys { seen: ArcSwap::from_pointee(Seen { rows, ring, at }), max_staleness, turn: Mutex::new(None) })
}

fn assemble(rows: &[SigningKey], roots: &RootSecrets, config: &Config) -> Result<KeyRing> {
    let (mut verifying, mut published, mut signing) = (KeySet::new(), Vec::new(), None);
    for key in rows.iter().filter(|key| key.state.verifies()) {
        let private = roots
            .unseal(&key.sealed_private_key, &key.id.as_bytes())
            .map_err(|e| Error::Internal(format!("the signing key {} does not open: {e}", key.kid)))?;
        let unknown = |_| Error::Internal(format!("the signing key {} has the unknown algorithm {}", key.kid, key.algorithm));
        let algorithm: SigningAlgorithm = key.algorithm.parse().map_err(unknown)?;
        let material = Material::parse(algorithm, &private)?;
        let jwk = material.public()?;
        if jwk.common.key_id.as_deref() != Some(key.kid.as_str()) {
            return Err(Error::Internal(format!("the signing key {} is not the key of that name", key.kid)));
        }
        let public = DecodingKey::from_jwk(&jwk).map_err(Error::internal)?;
        published.push(jwk);
        verifying.push(VerifyingKey { kid: key.kid.clone(), algorithm: algorithm.into(), key: public }).map_err(Error::internal)?;
        if key.state == KeyState::Active {
            signing = Some(Signer { kid: key.kid.clone(), algorithm: algorithm.into(), material });
        }
    }
    if let Some(shared) = add_shared(&mut verifying, config.tokens.algorithm, &config.tokens.hmac_secret)? {
        signing = Some(shared);
    }
    Ok(KeyRing { verifying, published, signing })
}

/// Adds the configured secrets to the keys that verify, each under every algorithm that it is long enough for, and answers the one that
/// signs, if one does.
fn add_shared(verifying: &mut KeySet, in_force: SigningAlgorithm, secrets: &[SecretString]) -> Result<Option<Signer>> {
    let mut signing = None;
    for text in secrets {
        let bytes = secret::read_root(text.expose_secret()).map_err(|flaw| Error::Internal(format!("tokens.hmac_secret {flaw}")))?;
        for algorithm in SigningAlgorithm::ALL {
            let Some((key, material)) = material::shared(algorithm, &bytes) else { continue };
            if algorithm == in_force && signing.is_none() {
                signing = Some(Signer { kid: key.kid.clone(), algorithm: key.algorithm, material });
            }
            verifying.push(key).map_err(Error::internal)?;
        }
    }
    Ok(signing)
}
