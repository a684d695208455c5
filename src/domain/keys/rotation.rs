//! What is due of the signing keys, and doing it.

use std::{sync::Arc, time::Duration};

use super::{KEY_SET_MAX_AGE, PUBLISHED_BEFORE, material};
use crate::{
    app::App,
    config,
    domain::audit::{About, Actor, Event, Origin, Trail},
    error::{Error, Result},
    store::{
        Store, Tx, audit_events, instance,
        signing_keys::{self, KeyState, SigningKey},
    },
    values::{
        algorithm::SigningAlgorithm,
        entropy::Entropy,
        ids::SigningKeyId,
        secret::RootSecrets,
        time::{Clock, Timestamp},
    },
};

/// Not more often are the keys read, however fresh they are to be.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Why nothing can be done to keys.
const SECRETS_SIGN: &str = "tokens are signed with tokens.hmac_secret: append a new secret everywhere, then move it to the front, and \
                            take the old one away once its last token has expired";

/// When keys move on by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// What new keys are for; none where configured secrets sign.
    algorithm: Option<SigningAlgorithm>,
    /// How long a key signs; none for until somebody says so.
    rotation: Option<Duration>,
    /// How long a retired key stays.
    stays: Duration,
}

/// A step that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new key, which signs at once where none does.
    Make(KeyState),
    /// A pending key begins to sign.
    Activate(SigningKeyId),
    /// An active key ceases to.
    Retire(SigningKeyId),
    /// A retired key has no more good tokens.
    Remove(SigningKeyId),
}

impl Step {
    const fn told(self) -> &'static str {
        match self {
            Self::Make(KeyState::Active) => "a signing key was made, and signs",
            Self::Make(_) => "a signing key was made, and is published before it signs",
            Self::Activate(_) => "a signing key signs from now on",
            Self::Retire(_) => "a signing key is retired: it verifies what it signed",
            Self::Remove(_) => "a signing key is gone: no token of it is good any more",
        }
    }
}

impl Outlook {
    /// By the configuration.
    #[must_use]
    pub fn new(tokens: &config::Tokens) -> Self {
        Self {
            algorithm: Some(tokens.algorithm).filter(|algorithm| algorithm.secret_bytes().is_none()),
            rotation: Some(tokens.key_rotation).filter(|every| !every.is_zero()),
            stays: tokens.max_access_lifetime.saturating_add(KEY_SET_MAX_AGE),
        }
    }

    /// What new keys are for; none where configured secrets sign.
    #[must_use]
    pub const fn algorithm(&self) -> Option<SigningAlgorithm> {
        self.algorithm
    }

    /// When a key begins, or began, to sign; none for one that never did.
    #[must_use]
    pub fn activates_at(&self, key: &SigningKey) -> Option<Timestamp> {
        if key.state == KeyState::Pending { Some(key.created_at.plus(PUBLISHED_BEFORE)) } else { key.activated_at }
    }

    /// When a retired key goes.
    #[must_use]
    pub fn removes_at(&self, key: &SigningKey) -> Option<Timestamp> {
        key.retired_at.filter(|_| key.state == KeyState::Retired).map(|retired| retired.plus(self.stays))
    }

    /// Whether a pending key was published long enough to sign.
    #[must_use]
    pub fn may_sign(&self, key: &SigningKey, now: Timestamp) -> bool {
        key.state == KeyState::Pending && key.created_at.plus(PUBLISHED_BEFORE) <= now
    }

    /// Whether the key that signs is to have a successor, which has yet to be published.
    fn wants_successor(&self, active: &SigningKey, now: Timestamp) -> bool {
        let is_of_another = self.algorithm.is_some_and(|algorithm| algorithm.as_str() != active.algorithm);
        let since = active.activated_at.unwrap_or(active.created_at);
        is_of_another || self.rotation.is_some_and(|every| since.plus(every).minus(PUBLISHED_BEFORE) <= now)
    }
}

/// What is due at a time. Of what is due only the first few steps may be answered; asked again after them, the rest is.
#[must_use]
pub fn due(keys: &[SigningKey], outlook: &Outlook, now: Timestamp) -> Vec<Step> {
    let mut steps: Vec<Step> =
        keys.iter().filter(|key| outlook.removes_at(key).is_some_and(|at| at <= now)).map(|key| Step::Remove(key.id)).collect();
    let of_state = |state| keys.iter().filter(move |key: &&SigningKey| key.state == state);
    let newest = of_state(KeyState::Active).next_back();
    let next = of_state(KeyState::Pending).find(|key| newest.is_none() || outlook.may_sign(key, now));
    // Where a configured secret signs, keys rest as they are until somebody retires them.
    let Some(_) = outlook.algorithm else { return steps };
    match (newest, next) {
        (_, Some(next)) => {
            steps.push(Step::Activate(next.id));
            steps.extend(of_state(KeyState::Active).map(|key| Step::Retire(key.id)));
        }
        (None, None) => steps.push(Step::Make(KeyState::Active)),
        (Some(newest), None) => {
            steps.extend(of_state(KeyState::Active).filter(|key| key.id != newest.id).map(|key| Step::Retire(key.id)));
            if of_state(KeyState::Pending).next().is_none() && outlook.wants_successor(newest, now) {
                steps.push(Step::Make(KeyState::Pending));
            }
        }
    }
    steps
}

/// Does what is due of the keys, until it is dropped.
pub async fn follow(app: Arc<App>) -> usize {
    let pause = (app.config.freshness.max_staleness / 4).max(MIN_PAUSE);
    let mut is_failing = false;
    loop {
        tokio::time::sleep(pause).await;
        let outcome = tick(&app).await;
        app.keys.looks.inc();
        match &outcome {
            // What the database's absence does to calls, readiness tells.
            Err(error) if !is_failing => tracing::error!(cause = ?error, "what is due of the signing keys cannot be done"),
            Ok(()) | Err(_) => {}
        }
        is_failing = outcome.is_err();
    }
}

async fn tick(app: &App) -> Result<()> {
    let maker = Maker::of(app);
    if due(&app.keys.rows(), &maker.outlook, app.clock.now()).is_empty() {
        return Ok(());
    }
    maker.settle().await?;
    // Also where another replica did it, and this one does not know yet.
    app.keys.refresh(app).await.map(drop)
}

/// What makes keys and moves them on.
pub(super) struct Maker<'a> {
    pub(super) outlook: Outlook,
    pub(super) store: &'a Store,
    pub(super) roots: &'a RootSecrets,
    pub(super) entropy: &'a Entropy,
    pub(super) clock: &'a Clock,
}

impl<'a> Maker<'a> {
    pub(super) fn of(app: &'a App) -> Self {
        let outlook = Outlook::new(&app.config.tokens);
        Self { outlook, store: &app.store, roots: &app.roots, entropy: &app.entropy, clock: &app.clock }
    }

    /// The keys of a start: one is made where none signs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away.
    pub(super) async fn first(&self) -> Result<Vec<SigningKey>> {
        let rows = self.read().await?;
        if rows.iter().any(|key| key.state == KeyState::Active) { Ok(rows) } else { self.settle().await }
    }

    async fn read(&self) -> Result<Vec<SigningKey>> {
        self.store.read("read_signing_keys", (), |db, ()| async move { signing_keys::list(&db).await }).await
    }

    /// Does what is due, and answers the keys after it.
    async fn settle(&self) -> Result<Vec<SigningKey>> {
        let now = self.clock.now();
        let rows = self.read().await?;
        let steps = due(&rows, &self.outlook, now);
        if steps.is_empty() {
            return Ok(rows);
        }
        let fresh = if steps.iter().any(|step| matches!(step, Step::Make(_))) { Some(self.make(now).await?) } else { None };
        let trail = Trail::new(self.entropy, self.clock, Actor::System, Origin::at(now));
        let input = (fresh, self.outlook, now, trail);
        let unit = |tx, (fresh, outlook, now, trail)| async move {
            let rows = locked(&tx).await?;
            // Another replica may have done it meanwhile.
            carry_out(&tx, &rows, due(&rows, &outlook, now), fresh, now, &trail).await?;
            signing_keys::list(&tx).await
        };
        self.store.write("rotate_signing_keys", input, unit).await
    }

    /// A new key pair, sealed, in no state yet.
    ///
    /// # Errors
    /// [`Error::FeatureDisabled`] where configured secrets sign.
    pub(super) async fn make(&self, now: Timestamp) -> Result<SigningKey> {
        let algorithm = self.outlook.algorithm.ok_or(Error::FeatureDisabled(SECRETS_SIGN))?;
        let made = tokio::task::spawn_blocking(move || material::generate(algorithm)).await;
        let private = made.map_err(Error::internal)??;
        let kid = material::Material::parse(algorithm, &private)?.public()?.common.key_id;
        let id = SigningKeyId::generate(self.entropy, self.clock);
        Ok(SigningKey {
            id,
            kid: kid.ok_or_else(|| Error::internal("a key without a name"))?,
            algorithm: algorithm.as_str().to_owned(),
            state: KeyState::Pending,
            sealed_private_key: self.roots.first().seal(&private, &id.as_bytes(), self.entropy),
            created_at: now,
            activated_at: None,
            retired_at: None,
            revoked_at: None,
        })
    }
}

/// All keys, which nobody else changes until the transaction ends.
pub(super) async fn locked(tx: &Tx) -> Result<Vec<SigningKey>> {
    instance::lock(tx).await?;
    signing_keys::list(tx).await
}

/// Takes these steps, each with its event. A key that is to be made and was not is left for the next time.
pub(super) async fn carry_out(
    tx: &Tx,
    rows: &[SigningKey],
    steps: Vec<Step>,
    mut fresh: Option<SigningKey>,
    now: Timestamp,
    trail: &Trail,
) -> Result<()> {
    for step in steps {
        let (kid, events) = match step {
            Step::Make(state) => {
                let Some(key) = fresh.take() else { continue };
                let (kid, is_active) = (key.kid.clone(), state == KeyState::Active);
                let key = SigningKey { state, activated_at: is_active.then_some(now), ..key };
                signing_keys::insert(tx, key).await?;
                let activated = is_active.then_some(Event::SigningKeyActivated);
                (kid, [Some(Event::SigningKeyCreated), activated])
            }
            Step::Activate(id) => {
                signing_keys::activate(tx, id, now).await?;
                (named(rows, id)?, [Some(Event::SigningKeyActivated), None])
            }
            Step::Retire(id) => {
                signing_keys::retire(tx, id, now).await?;
                (named(rows, id)?, [Some(Event::SigningKeyRetired), None])
            }
            Step::Remove(id) => {
                signing_keys::remove(tx, id).await?;
                (named(rows, id)?, [Some(Event::SigningKeyRemoved), None])
            }
        };
        for event in events.into_iter().flatten() {
            let about = About { object_id: Some(kid.clone()), ..About::default() };
            audit_events::insert(tx, trail.success(event, about)).await?;
        }
        tracing::info!(kid, "{}", step.told());
    }
    Ok(())
}

fn named(rows: &[SigningKey], id: SigningKeyId) -> Result<String> {
    rows.iter().find(|key| key.id == id).map(|key| key.kid.clone()).ok_or(Error::Conflict)
}
