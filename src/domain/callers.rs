//! Callers: the workloads that call, as opposed to the subject that a call is about.
//!
//! ```text
//! client certificate ──names──► account ─┐ both: the same one,
//!                                        ├─ or refused ────────► caller ──► client of the call's sessions
//! doorward-caller ──token──► account ────┘
//! neither, or a certificate whose names are nobody's: no caller
//! ```
//!
//! Who calls is answered from memory, as far as that is current: every call of a known caller asks. Where the caller decides what may be
//! done, the memory is asked for the latest.
//!
//! A claim that does not hold is refused, whatever `callers.mode` says: a caller that may be anybody is not let in as nobody. That goes for
//! a certificate that stands for a disabled account, and for one whose names stand for two.

use std::sync::Arc;

use super::{
    access::{self, Accepts, Principal, workload::Workload},
    memory::Freshness,
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{account_facts, facts::About},
    values::time::Timestamp,
};

/// The client of sessions that came from another system.
pub const IMPORTED: &str = "imported";

/// The client that a call's sessions and refresh tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The caller's service-account id; `tokens.default_client_id` where the caller is not known.
    pub id: String,
    /// Whether the caller proved an identity of its own.
    pub is_known: bool,
}

impl Client {
    /// The client of a call by this caller.
    #[must_use]
    pub fn of(app: &App, caller: Option<&Workload>) -> Self {
        match caller {
            Some(caller) => Self { id: caller.account().id.to_string(), is_known: true },
            None => Self { id: app.config.tokens.default_client_id.clone(), is_known: false },
        }
    }

    /// The clients whose sessions become this one's when it refreshes them: those of nobody in particular. Only a caller that proved who
    /// it is takes a session from everybody else.
    #[must_use]
    pub fn takes_over(&self, app: &App) -> [Option<String>; 2] {
        if self.is_known { [Some(app.config.tokens.default_client_id.clone()), Some(IMPORTED.to_owned())] } else { [None, None] }
    }

    /// Whether it may go on with a session that is of `client_id`, or end it by its refresh token.
    #[must_use]
    pub fn fits(&self, app: &App, client_id: &str) -> bool {
        self.id == client_id || self.takes_over(app).iter().flatten().any(|taken| taken == client_id)
    }
}

/// What a call brings to prove who calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proof<'call> {
    /// The names in the client certificate that the connection was opened with; none without one.
    pub certificate: &'call [String],
    /// The token of `doorward-caller`.
    pub token: Option<&'call str>,
}

/// Who calls, if the call proves it.
///
/// # Errors
/// [`Error::CallerUnauthenticated`] for a proof that does not hold; [`Error::Unavailable`] where the database is away.
pub async fn authenticate(app: &App, proof: Proof<'_>, freshness: Freshness, now: Timestamp) -> Result<Option<Arc<Workload>>> {
    let by_certificate = by_certificate(app, proof.certificate, freshness).await.map_err(unauthenticated)?;
    let by_token = match proof.token {
        Some(token) => Some(by_token(app, token, freshness, now).await.map_err(unauthenticated)?),
        None => None,
    };
    match (by_certificate, by_token) {
        (Some(one), Some(other)) if one.account().id != other.account().id => Err(Error::CallerUnauthenticated),
        // The token's, which may be capped.
        (_, Some(caller)) | (Some(caller), None) => Ok(Some(caller)),
        (None, None) => Ok(None),
    }
}

async fn by_certificate(app: &App, names: &[String], freshness: Freshness) -> Result<Option<Arc<Workload>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let found = if let Some(found) = app.memory.accounts(app, names, freshness).await {
        found
    } else {
        let position = app.store.feed().position();
        let unit = |db, names: Vec<String>| async move { account_facts::find_by_certificate(&db, &names).await };
        let found = Arc::new(app.store.read("caller_by_certificate", names.to_vec(), unit).await?);
        app.memory.keep_accounts(names.to_vec(), &found, position);
        found
    };
    match found.as_slice() {
        [] => Ok(None),
        [facts] => Workload::proved(facts.clone(), None).map(Arc::new).map(Some),
        _ => Err(Error::CallerUnauthenticated),
    }
}

/// A caller's token is one of Doorward's own: always for the issuer.
async fn by_token(app: &App, token: &str, freshness: Freshness, now: Timestamp) -> Result<Arc<Workload>> {
    match access::authenticate(app, token, Accepts::WORKLOAD, About::Own, freshness, now).await? {
        Principal::ServiceAccount(workload, _) => Ok(workload),
        Principal::User(_) => Err(Error::TokenInvalid),
    }
}

/// What somebody hears whose proof does not hold. A caller learns only that it is not let in: why, is between it and the token endpoint. An
/// outage is none of its faults.
#[must_use]
pub fn unauthenticated(error: Error) -> Error {
    match error {
        Error::Unavailable(_) | Error::Internal(_) | Error::Conflict | Error::Deadline => error,
        _ => Error::CallerUnauthenticated,
    }
}
