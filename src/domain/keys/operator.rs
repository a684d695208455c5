//! What operators do to signing keys.
//!
//! | what | from | to |
//! |---|---|---|
//! | [`rotate`] | no key that waits | one is made and published; it signs by itself after a while, or at once where the operator says so |
//! | [`retire`] | active | retired, where a key that was published long enough takes over |
//! | | pending | removed: it signed nothing |
//! | [`revoke`] | any | revoked; where it signed, the next one signs at once, published or not |
//! | [`reseal`] | sealed under any root | sealed under the first |
//!
//! Doing any of them twice is no error. What they do is seen by every replica within `freshness.max_staleness`.

use super::rotation::{Maker, Outlook, Step, carry_out, locked};
use crate::{
    app::App,
    domain::audit::{About, Actor, Event, Origin, Trail},
    error::{Error, Result},
    store::{
        Tx, audit_events, instance,
        signing_keys::{self, KeyState, SigningKey},
    },
    values::time::Timestamp,
};

/// Whoever administers the keys.
#[derive(Clone, Debug)]
pub struct KeyOperator {
    actor: Actor,
    origin: Origin,
    is_superuser_access: bool,
}

impl KeyOperator {
    /// Whoever calls.
    #[must_use]
    pub const fn calling(actor: Actor, origin: Origin, is_superuser_access: bool) -> Self {
        Self { actor, origin, is_superuser_access }
    }

    /// An operator at the command line.
    #[must_use]
    pub fn at_the_command(app: &App, actor: Actor) -> Self {
        Self { actor, origin: Origin::local(app), is_superuser_access: false }
    }

    const fn now(&self) -> Timestamp {
        self.origin.time
    }

    fn trail(self, app: &App) -> Trail {
        Trail::new(&app.entropy, &app.clock, self.actor, self.origin).by_flag(self.is_superuser_access)
    }
}

/// What came of sealing anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Keys that were sealed under another root.
    pub changed: u32,
    /// Keys that were sealed under the first one already.
    pub unchanged: u32,
}

/// All keys, oldest first, revoked ones too.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(app: &App) -> Result<Vec<SigningKey>> {
    app.store.read("list_signing_keys", (), |db, ()| async move { signing_keys::list(&db).await }).await
}

/// The key of this name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(app: &App, kid: &str) -> Result<SigningKey> {
    find(list(app).await?, kid)
}

/// Makes the next key, if none waits, and answers it. With `at_once` it signs from now on, and who keeps the published keys does not know
/// it yet.
///
/// # Errors
/// [`Error::FeatureDisabled`] where configured secrets sign.
pub async fn rotate(app: &App, by: KeyOperator, at_once: bool) -> Result<SigningKey> {
    let now = by.now();
    let fresh = Maker::of(app).make(now).await?;
    let input = (fresh, at_once, now, by.trail(app));
    app.store.write("rotate_on_demand", input, |tx, (fresh, at_once, now, trail)| next(tx, fresh, at_once, now, trail)).await
}

async fn next(tx: Tx, fresh: SigningKey, at_once: bool, now: Timestamp, trail: Trail) -> Result<SigningKey> {
    let mut rows = locked(&tx).await?;
    let waiting = rows.iter().find(|key| key.state == KeyState::Pending);
    let kid = waiting.unwrap_or(&fresh).kid.clone();
    if waiting.is_none() {
        carry_out(&tx, &rows, vec![Step::Make(KeyState::Pending)], Some(fresh), now, &trail).await?;
        rows = signing_keys::list(&tx).await?;
    }
    if at_once {
        let steps = take_over(&rows, &kid);
        carry_out(&tx, &rows, steps, None, now, &trail).await?;
        rows = signing_keys::list(&tx).await?;
    }
    find(rows, &kid)
}

/// The steps by which a pending key signs in place of whichever does.
fn take_over(rows: &[SigningKey], kid: &str) -> Vec<Step> {
    let activated = rows.iter().filter(|key| key.kid == kid).map(|key| Step::Activate(key.id));
    activated.chain(rows.iter().filter(|key| key.state == KeyState::Active).map(|key| Step::Retire(key.id))).collect()
}

/// Lets a key sign no more, and answers it as it is then; none for one that is gone, as it never signed.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::KeyState`] for the key that signs, while no other could take over, and for a revoked one.
pub async fn retire(app: &App, by: KeyOperator, kid: &str) -> Result<Option<SigningKey>> {
    let now = by.now();
    let input = (kid.to_owned(), Outlook::new(&app.config.tokens), now, by.trail(app));
    app.store
        .write("retire_signing_key", input, |tx, (kid, outlook, now, trail)| async move {
            let rows = locked(&tx).await?;
            let key = find(rows.clone(), &kid)?;
            let steps = match key.state {
                KeyState::Pending => vec![Step::Remove(key.id)],
                KeyState::Active if outlook.algorithm().is_none() => vec![Step::Retire(key.id)],
                KeyState::Active => take_over(&rows, &successor(&rows, &outlook, now)?.kid),
                KeyState::Retired => Vec::new(),
                KeyState::Revoked => return Err(Error::KeyState("the key is revoked, and signs nothing".to_owned())),
                KeyState::Unknown => return Err(Error::KeyState("the key is in a state of another version".to_owned())),
            };
            carry_out(&tx, &rows, steps, None, now, &trail).await?;
            Ok(signing_keys::list(&tx).await?.into_iter().find(|key| key.kid == kid))
        })
        .await
}

/// The key that may take over.
fn successor<'k>(rows: &'k [SigningKey], outlook: &Outlook, now: Timestamp) -> Result<&'k SigningKey> {
    let waiting = || rows.iter().filter(|key| key.state == KeyState::Pending);
    waiting().find(|key| outlook.may_sign(key, now)).ok_or_else(|| {
        let hint = match waiting().find_map(|key| outlook.activates_at(key)) {
            Some(at) => format!("the next one takes over at {at}, when it was published long enough"),
            None => "make the next one (`doorward key rotate`), and this one retires when that was published long enough".to_owned(),
        };
        Error::KeyState(format!("this key signs, and no other can take over yet: {hint}; revoke a compromised one"))
    })
}

/// Makes a compromised key good for nothing, and answers it. Where it signed, the next one signs at once.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke(app: &App, by: KeyOperator, kid: &str) -> Result<SigningKey> {
    let (now, maker) = (by.now(), Maker::of(app));
    // Where configured secrets sign, nothing has to take over.
    let fresh = if maker.outlook.algorithm().is_some() { Some(maker.make(now).await?) } else { None };
    let input = (kid.to_owned(), fresh, now, by.trail(app));
    app.store
        .write("revoke_signing_key", input, |tx, (kid, fresh, now, trail)| async move {
            let rows = locked(&tx).await?;
            let key = find(rows.clone(), &kid)?;
            if key.state != KeyState::Revoked {
                signing_keys::revoke(&tx, key.id, now).await?;
                record(&tx, &trail, Event::SigningKeyRevoked, &kid).await?;
                tracing::warn!(kid, "a signing key was revoked: tokens that it signed are refused");
            }
            if key.state == KeyState::Active && fresh.is_some() {
                let next = rows.iter().find(|key| key.state == KeyState::Pending);
                let step = next.map_or(Step::Make(KeyState::Active), |next| Step::Activate(next.id));
                carry_out(&tx, &rows, vec![step], fresh, now, &trail).await?;
            }
            find(signing_keys::list(&tx).await?, &kid)
        })
        .await
}

/// Seals every private key under the first root secret, and binds the database to it: the others are no longer needed for keys.
///
/// # Errors
/// [`Error::Internal`] for a key that was sealed under none of the configured roots.
pub async fn reseal(app: &App, by: KeyOperator) -> Result<Resealed> {
    let mut anew = Vec::new();
    let mut unchanged = 0;
    for key in list(app).await? {
        if key.sealed_private_key.is_empty() || app.roots.is_sealed_by_first(&key.sealed_private_key) {
            unchanged += u32::from(!key.sealed_private_key.is_empty());
            continue;
        }
        let open = app.roots.unseal(&key.sealed_private_key, &key.id.as_bytes());
        let private = open.map_err(|e| Error::Internal(format!("the signing key {} does not open: {e}", key.kid)))?;
        let sealed = app.roots.first().seal(&private, &key.id.as_bytes(), &app.entropy);
        anew.push((key, sealed));
    }
    let changed = u32::try_from(anew.len()).map_err(Error::internal)?;
    let input = (anew, app.roots.first().check(), by.trail(app));
    app.store
        .write("reseal_signing_keys", input, |tx, (anew, check, trail)| async move {
            let rows = locked(&tx).await?;
            for (before, sealed) in anew {
                // One that was revoked or removed meanwhile stays as it is.
                if rows.iter().any(|key| key.id == before.id && key.sealed_private_key == before.sealed_private_key) {
                    signing_keys::reseal(&tx, before.id, sealed).await?;
                    record(&tx, &trail, Event::SigningKeyResealed, &before.kid).await?;
                }
            }
            instance::set_root_check(&tx, &check).await
        })
        .await?;
    Ok(Resealed { changed, unchanged })
}

async fn record(tx: &Tx, trail: &Trail, event: Event, kid: &str) -> Result<()> {
    audit_events::insert(tx, trail.success(event, About { object_id: Some(kid.to_owned()), ..About::default() })).await
}

fn find(rows: Vec<SigningKey>, kid: &str) -> Result<SigningKey> {
    rows.into_iter().find(|key| key.kid == kid).ok_or(Error::NotFound("signing key"))
}
