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
//! **Published before use.** Who verifies tokens without asking keeps the published keys for [`KEY_SET_MAX_AGE`], and may have got them from
//! a cache that kept them as long. A pending key signs after [`PUBLISHED_BEFORE`], three times as long: a reader's copy was made when the
//! key was there, also by a clock that is minutes off.
//!
//! **Retired until the end.** A retired key goes once `tokens.max_access_lifetime` has passed since it ceased to sign, and
//! [`KEY_SET_MAX_AGE`] more, for replicas that heard of it late and clocks that differ.
//!
//! **What a replica keeps** ([`Keys`]) is read anew when the database tells of a change ([`super::freshness`]), and trusted while the start
//! of the last look at the changes is no longer ago than `freshness.max_staleness`, by the monotonic clock. After that whoever verifies or
//! signs reads the database, and answers UNAVAILABLE where that is away: a key that was revoked meanwhile must not let anybody in, nor make
//! tokens that nobody takes. The key set is answered all the same; whoever reads it keeps it longer than that anyway.
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

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
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
pub const PUBLISHED_BEFORE: Duration = Duration::from_mins(15);

/// How long after one reading of the keys the next one begins, where it is not its turn.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a reading may take: the pool finds out by itself that a connection fell silent, and a reading that waits for it finds out
/// nothing.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// The keys that a replica signs and verifies with, at one moment.
pub struct KeyRing {
    /// Every key that verifies.
    pub verifying: KeySet,
    /// The public ones among them, as everybody may have them.
    pub published: Vec<Jwk>,
    /// The same with their private halves.
    loaded: Vec<Arc<Loaded>>,
    /// The key that signs; none for the moment in which somebody took it away and no other was made.
    signing: Option<Signer>,
    /// Names of keys that are there and cannot be used.
    unusable: Vec<String>,
    /// Which ring this is, of those that a replica had.
    generation: u64,
}

/// What verified a token.
#[derive(Clone, Debug)]
pub struct SignedBy {
    kid: String,
    /// The ring's.
    generation: u64,
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
        self.signing.as_ref().ok_or_else(|| Error::Unavailable("no signing key can be used".to_owned()))
    }

    /// That a token was verified by the key of this name.
    #[must_use]
    pub const fn signed_by(&self, kid: String) -> SignedBy {
        SignedBy { kid, generation: self.generation }
    }

    /// Whether the key that signed a token then is one that verifies now. A name is the thumbprint of its key: the same name is the same
    /// key.
    #[must_use]
    pub fn still_verifies(&self, signed_by: &SignedBy) -> bool {
        signed_by.generation == self.generation || self.verifying.find(&signed_by.kid).is_some()
    }

    /// Whether this key is there and this replica can make nothing of it, so that its tokens may be good ones.
    #[must_use]
    pub fn is_unusable(&self, kid: &str) -> bool {
        self.unusable.iter().any(|unusable| unusable == kid)
    }
}

/// A key that was opened.
struct Loaded {
    jwk: Jwk,
    verifying: VerifyingKey,
    material: Arc<Material>,
}

/// The key that signs.
pub struct Signer {
    /// Its key id.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    material: Arc<Material>,
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
    /// One reading out of turn at a time.
    turn: Mutex<Option<Attempt>>,
    /// How often this replica looked whether anything is due.
    looks: Counter,
    /// How many rings there were: two readings at once make two.
    rings: AtomicU64,
}

/// What was read of the keys, and since when nothing newer is known.
#[derive(Debug)]
struct Seen {
    rows: Arc<Vec<SigningKey>>,
    ring: Arc<KeyRing>,
    /// When the reading began.
    at: Instant,
}

/// The last reading out of turn, for those who waited for it.
#[derive(Debug)]
struct Attempt {
    began: Instant,
    /// Why it failed; none also where whoever read is gone.
    failed: Option<String>,
}

impl Keys {
    /// The keys as they were last read, however long ago: for who keeps them longer anyway.
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
    /// fifty milliseconds: whoever makes up key ids cannot make work.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away.
    pub async fn since(&self, app: &App, moment: Instant) -> Result<Arc<KeyRing>> {
        let mut turn = self.turn.lock().await;
        // A database that is away takes its time to say so, and all who wait would wait in turn.
        if let Some(Attempt { began, failed: Some(cause) }) = turn.as_ref().filter(|attempt| attempt.began >= moment) {
            return Err(Error::Unavailable(format!("{cause}, {} ms ago", began.elapsed().as_millis())));
        }
        let known = || Some(self.seen.load_full()).filter(|known| known.at >= moment).map(|known| Arc::clone(&known.ring));
        if let Some(ring) = known() {
            return Ok(ring);
        }
        if let Some(attempt) = turn.as_ref() {
            tokio::time::sleep_until(attempt.began + LOOK_AGAIN).await;
        }
        if let Some(ring) = known() {
            return Ok(ring);
        }
        let began = Instant::now();
        // Before it is known how it ends: whoever asks may be gone by then, and the pace is kept all the same.
        *turn = Some(Attempt { began, failed: None });
        let outcome = self.refresh(app).await;
        *turn = Some(Attempt { began, failed: outcome.as_ref().err().map(cause) });
        outcome
    }

    /// The rows behind the keys, as they were last read.
    fn rows(&self) -> Arc<Vec<SigningKey>> {
        Arc::clone(&self.seen.load().rows)
    }

    /// Gives what is counted here its name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("doorward_signing_key_looks", "Looks at what is due of the signing keys", self.looks.clone());
    }

    /// Up to this moment the database told of no change that was not read.
    pub fn confirm(&self, at: Instant) {
        self.seen.rcu(|known| {
            if known.at >= at {
                return Arc::clone(known);
            }
            Arc::new(Seen { rows: Arc::clone(&known.rows), ring: Arc::clone(&known.ring), at })
        });
    }

    /// Reads the keys anew.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away or slow, [`Error::Internal`] for keys that contradict each other.
    pub async fn refresh(&self, app: &App) -> Result<Arc<KeyRing>> {
        let at = Instant::now();
        let reading = app.store.read("read_signing_keys", (), |db, ()| async move { signing_keys::list(&db).await });
        let late = |_| Error::Unavailable("the signing keys were not read in time".to_owned());
        let rows = tokio::time::timeout(READ_LIMIT, reading).await.map_err(late)??;
        let before = self.seen.load();
        // Nearly always nothing changed.
        let (rows, ring) = if *before.rows == rows {
            (Arc::clone(&before.rows), Arc::clone(&before.ring))
        } else {
            let generation = self.rings.fetch_add(1, Ordering::Relaxed) + 1;
            let ring = KeyRing { generation, ..assemble(&rows, &app.roots, &app.config, Some(&before.ring))? };
            (Arc::new(rows), Arc::new(ring))
        };
        let fresh = Arc::new(Seen { rows, ring: Arc::clone(&ring), at });
        // Of two readings that overlap, the one that began later knows more.
        let known = self.seen.rcu(|known| Arc::clone(if known.at > fresh.at { known } else { &fresh }));
        if known.at <= fresh.at && !Arc::ptr_eq(&known.rows, &fresh.rows) {
            tell(&known.rows, &fresh.rows);
        }
        Ok(ring)
    }
}

/// Whoever reads this server's log learns of what another server, the command or SQL did with the keys.
fn tell(before: &[SigningKey], rows: &[SigningKey]) {
    let state = |rows: &[SigningKey], kid: &str| rows.iter().find(|row| row.kid == kid).map_or("absent", |row| row.state.as_str());
    let all = before.iter().chain(rows.iter().filter(|row| before.iter().all(|known| known.kid != row.kid)));
    for SigningKey { kid, .. } in all {
        let (was, is) = (state(before, kid), state(rows, kid));
        if was != is {
            tracing::info!(kid, was, is, "a signing key changed");
        }
    }
}

fn cause(error: &Error) -> String {
    match error {
        Error::Unavailable(cause) | Error::Internal(cause) => cause.clone(),
        other => other.to_string(),
    }
}

/// What whoever opens the keys cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A key that signs.
    ASigner,
    /// None of them: a command, which may be there to put them right.
    Nothing,
}

/// Makes the first signing key where there is none, and answers all of them.
///
/// # Errors
/// [`Error::Internal`] where a signer is needed and does not open: it was sealed under a root secret that is not in `secrets.root`.
pub async fn ensure(config: &Config, store: &Store, roots: &RootSecrets, entropy: &Entropy, clock: &Clock, needs: Needs) -> Result<Keys> {
    let at = Instant::now();
    let maker = Maker { outlook: Outlook::new(&config.tokens), store, roots, entropy, clock };
    let rows = maker.first().await?;
    if let (Needs::ASigner, Some(active)) = (needs, rows.iter().rev().find(|key| key.state == KeyState::Active)) {
        // A server that cannot sign is none. Any other key that cannot be used may be of a newer version.
        load(active, roots)?;
    }
    let ring = Arc::new(assemble(&rows, roots, config, None)?);
    let max_staleness = config.freshness.max_staleness;
    Ok(Keys {
        seen: ArcSwap::from_pointee(Seen { rows: Arc::new(rows), ring, at }),
        max_staleness,
        turn: Mutex::new(None),
        looks: Counter::default(),
        rings: AtomicU64::new(0),
    })
}

/// Puts the keys of these rows together. What was opened before stays open: a name is the thumbprint of the public key, so a row of the
/// same name is the same key, under whichever root it is sealed by now. What cannot be used is told of and left out: it verifies nothing,
/// and the others do.
fn assemble(rows: &[SigningKey], roots: &RootSecrets, config: &Config, before: Option<&KeyRing>) -> Result<KeyRing> {
    let (mut verifying, mut loaded, mut signing, mut unusable) = (KeySet::new(), Vec::new(), None, Vec::new());
    for row in rows.iter().filter(|row| row.state.verifies()) {
        let known = before.and_then(|before| before.loaded.iter().find(|key| key.verifying.kid == row.kid));
        let key = match known.map_or_else(|| load(row, roots).map(Arc::new), |known| Ok(Arc::clone(known))) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(kid = row.kid, state = row.state.as_str(), cause = cause(&error), "a signing key cannot be used");
                unusable.push(row.kid.clone());
                continue;
            }
        };
        verifying.push(key.verifying.clone()).map_err(Error::internal)?;
        if row.state == KeyState::Active {
            let VerifyingKey { kid, algorithm, .. } = key.verifying.clone();
            signing = Some(Signer { kid, algorithm, material: Arc::clone(&key.material) });
        }
        loaded.push(key);
    }
    if let Some(shared) = add_shared(&mut verifying, config.tokens.algorithm, &config.tokens.hmac_secret)? {
        signing = Some(shared);
    }
    let published = loaded.iter().map(|key| key.jwk.clone()).collect();
    Ok(KeyRing { verifying, published, loaded, signing, unusable, generation: 0 })
}

fn load(row: &SigningKey, roots: &RootSecrets) -> Result<Loaded> {
    let SigningKey { kid, algorithm, .. } = row;
    let shut = |e| Error::Internal(format!("the signing key {kid} does not open: {e}; put the root secret back into secrets.root"));
    let private = roots.unseal(&row.sealed_private_key, &row.id.as_bytes()).map_err(shut)?;
    let unknown = |_| Error::Internal(format!("the signing key {kid} has the unknown algorithm {algorithm}"));
    let algorithm: SigningAlgorithm = algorithm.parse().map_err(unknown)?;
    let material = Material::parse(algorithm, &private)?;
    let jwk = material.public()?;
    if jwk.common.key_id.as_ref() != Some(kid) {
        return Err(Error::Internal(format!("the signing key {kid} is not the key of that name")));
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(Error::internal)?;
    Ok(Loaded { jwk, verifying: VerifyingKey { kid: kid.clone(), algorithm: algorithm.into(), key }, material: Arc::new(material) })
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
                signing = Some(Signer { kid: key.kid.clone(), algorithm: key.algorithm, material: Arc::new(material) });
            }
            verifying.push(key).map_err(Error::internal)?;
        }
    }
    Ok(signing)
}
