//! What proves a service account: its secrets, and the names in certificates that stand for it.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;

use super::{Administrator, get_locked, may_let_act};
use crate::{
    app::App,
    domain::audit::Event,
    error::{Error, Result},
    store::{
        Tx, account_facts, audit_events,
        audit_events::Row,
        service_account_secrets::{self as secrets, AccountSecret},
        service_accounts::{self as accounts, ServiceAccount},
    },
    values::{
        certificate::certificate_name,
        ids::{ServiceAccountId, ServiceAccountSecretId},
        opaque::ClientSecret,
        time::Timestamp,
    },
};

/// The most secrets that are good at a time: enough for two to overlap in each of two deployments.
const MAX_SECRETS: u64 = 5;
/// The longest life of a secret that has an end.
const MAX_LIFETIME: Duration = Duration::from_hours(24 * 3_653);

/// A secret that is ready to be stored, and its text, which is nowhere else.
pub(super) struct Made {
    pub(super) secret: AccountSecret,
    pub(super) text: SecretString,
}

/// Makes a secret of an account. `field` is where the request says when it expires.
pub(super) fn make(app: &App, account: ServiceAccountId, expires_at: Option<Timestamp>, now: Timestamp, field: &str) -> Result<Made> {
    if expires_at.is_some_and(|expires| expires <= now) {
        return Err(Error::field(field, "must be in the future"));
    }
    if expires_at.is_some_and(|expires| expires > now.plus(MAX_LIFETIME)) {
        return Err(Error::field(field, "must be at most ten years away; leave it out for a secret that does not expire"));
    }
    let id = ServiceAccountSecretId::generate(&app.entropy, &app.clock);
    let made = ClientSecret::generate(&app.roots, id, &app.entropy);
    let text = made.encode(&app.roots).ok_or_else(|| Error::internal("a client secret under an unknown root"))?;
    let secret = AccountSecret { id, account_id: account, digest: made.digest().to_vec(), created_at: now, expires_at, last_used_at: None };
    Ok(Made { secret, text })
}

/// Gives an account one more secret, and answers it with its text.
///
/// # Errors
/// [`Error::InvalidField`] for an expiry in the past or too far away, and where the account has as many secrets as it may;
/// [`Error::NotFound`], [`Error::GrantExceedsOwn`].
pub async fn add_secret(
    app: &App,
    by: Administrator,
    id: ServiceAccountId,
    expires_at: Option<Timestamp>,
) -> Result<(AccountSecret, SecretString)> {
    let Made { secret, text } = make(app, id, expires_at, by.now(), "expire_time")?;
    let event = by.event(app, Event::ServiceAccountSecretAdded, id, json!({ "secret_id": secret.id.to_string() }))?;
    let input = (by, secret.clone(), event);
    app.store.write("add_account_secret", input, |tx, (by, secret, event)| async move { add(&tx, &by, secret, event).await }).await?;
    Ok((secret, text))
}

async fn add(tx: &Tx, by: &Administrator, secret: AccountSecret, mut event: Row) -> Result<()> {
    let account = get_locked(tx, by, secret.account_id).await?;
    may_let_act(tx, by, &account, &mut event).await?;
    // Under the account's lock, so that no two additions count the same ones.
    if secrets::forget_expired(tx, account.id, by.now()).await? >= MAX_SECRETS {
        return Err(Error::field("service_account_id", format!("has {MAX_SECRETS} secrets already: remove one first")));
    }
    secrets::insert(tx, secret).await?;
    audit_events::insert(tx, event).await
}

/// Takes a secret from an account. With `revoke_tokens` every token of the account dies, whichever secret bought it.
///
/// # Errors
/// [`Error::NotFound`] for the account, and for a secret that is not its own.
pub async fn remove_secret(
    app: &App,
    by: Administrator,
    id: ServiceAccountId,
    secret: ServiceAccountSecretId,
    revoke_tokens: bool,
) -> Result<()> {
    let details = json!({ "secret_id": secret.to_string(), "revoke_tokens": revoke_tokens });
    let event = by.event(app, Event::ServiceAccountSecretRemoved, id, details)?;
    let unit = |tx, (by, id, secret, revoke_tokens, event)| async move {
        let account = get_locked(&tx, &by, id).await?;
        if !secrets::remove(&tx, account.id, secret).await? {
            return Err(Error::NotFound("secret"));
        }
        if revoke_tokens {
            accounts::bump_epoch(&tx, account.id).await?;
        }
        audit_events::insert(&tx, event).await
    };
    app.store.write("remove_account_secret", (by, id, secret, revoke_tokens, event), unit).await
}

/// Lets a name in client certificates stand for an account. Doing it twice is no error.
///
/// # Errors
/// [`Error::InvalidField`] for what is no name, and for one that stands for another account; [`Error::NotFound`],
/// [`Error::GrantExceedsOwn`].
pub async fn add_certificate(app: &App, by: Administrator, id: ServiceAccountId, name: String) -> Result<()> {
    by.may_name_certificates()?;
    certificate_name(&name).map_err(|e| Error::field("certificate_names", e.to_string()))?;
    let event = by.event(app, Event::ServiceAccountCertificateAdded, id, json!({ "certificate_name": name }))?;
    let unit = |tx, (by, id, name, event): (Administrator, ServiceAccountId, String, Row)| async move {
        name_certificate(&tx, &by, id, &name, event).await
    };
    app.store.write("add_account_certificate", (by, id, name, event), unit).await
}

async fn name_certificate(tx: &Tx, by: &Administrator, id: ServiceAccountId, name: &str, mut event: Row) -> Result<()> {
    let account = get_locked(tx, by, id).await?;
    may_let_act(tx, by, &account, &mut event).await?;
    let names = accounts::certificates_of(tx, &[id]).await?.remove(&id).unwrap_or_default();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    if names.len() >= super::MAX_CERTIFICATES {
        return Err(super::too_many_certificates());
    }
    if !accounts::add_certificate(tx, id, name, by.now()).await? {
        return Err(Error::field("certificate_names", super::ANOTHERS));
    }
    audit_events::insert(tx, event).await
}

/// Takes a name in client certificates from an account.
///
/// # Errors
/// [`Error::NotFound`] for the account, and for a name that does not stand for it.
pub async fn remove_certificate(app: &App, by: Administrator, id: ServiceAccountId, name: String) -> Result<()> {
    let event = by.event(app, Event::ServiceAccountCertificateRemoved, id, json!({ "certificate_name": name }))?;
    let unit = |tx, (by, id, name, event): (Administrator, ServiceAccountId, String, Row)| async move {
        let account = get_locked(&tx, &by, id).await?;
        if !accounts::remove_certificate(&tx, account.id, &name).await? {
            return Err(Error::NotFound("certificate name"));
        }
        audit_events::insert(&tx, event).await
    };
    app.store.write("remove_account_certificate", (by, id, name, event), unit).await
}

/// The account that a name in certificates stands for, wherever it is: for operators, who may know.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn holder_of_certificate(app: &App, name: &str) -> Result<Option<ServiceAccount>> {
    let unit = |db, names: Vec<String>| async move { account_facts::find_by_certificate(&db, &names).await };
    let found = app.store.read("certificate_holder", vec![name.to_owned()], unit).await?;
    Ok(found.into_iter().next().map(|facts| facts.account))
}
