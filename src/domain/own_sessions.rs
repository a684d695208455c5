//! What people see of their own sessions, and end of them.
//!
//! Whoever ends sessions asks with one: in the transaction it must still be live, or it ends nothing. The user's row is the queue for all
//! of it, and for the logins that open sessions: of two that end each other, the first one does, and the other finds itself ended.
//!
//! | asked for | what moves |
//! |---|---|
//! | one session | its row is marked |
//! | all | the user's epoch: one row, and what is opened or refreshed at the same moment is caught too |
//! | all but the asking one | the rows are marked, the epoch stays: a moved one would end the asking one with them |

use std::time::Duration;

use serde_json::json;

use super::{
    access::Subject,
    audit::{self, Actor, Event, Origin},
    pages::{self, Page},
    revocation::SessionState,
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{
        Tx, audit_events,
        audit_events::Row,
        facts::{self, About, Whose},
        sessions::{self, Session},
        users,
    },
    values::{ids::SessionId, time::Timestamp},
};

/// What page tokens of the list are bound to.
const LIST: &str = "doorward.v1.AuthService/ListSessions";
/// Why a row is marked, and the cause in the trail.
const CAUSE: &str = "user";
/// Clocks of replicas may be so far apart: what has just expired by this one's may be live by another's, and is ended too.
const CLOCKS_APART: Duration = Duration::from_mins(2);

/// A page of the subject's live sessions, the newest first, and the token of the next one (empty at the end).
///
/// # Errors
/// [`Error::InvalidField`] for a page size below 0 and for a page token that is not of this list and subject.
pub async fn list(app: &App, subject: &Subject, page_size: i32, page_token: &str, now: Timestamp) -> Result<(Vec<Session>, String)> {
    let asked = Page::read(app, LIST, pages::person(subject, Vec::new()), page_size, page_token)?;
    let user = subject.facts.user.id;
    let (before, limit) = (asked.after().map(SessionId::from_uuid), pages::ask(asked.limit()));
    let unit = move |db, ()| async move { facts::list_newest(&db, user, now, before, limit).await };
    let mut found = app.store.read("list_own_sessions", (), unit).await?;
    // Whatever became of the statement: nobody sees another person's.
    if found.iter().any(|session| session.user_id != user) {
        return Err(Error::internal("a list of own sessions holds another person's"));
    }
    let more = pages::cut(&mut found, asked.limit(), |last| Some(last.id));
    let next = more.map(|last| asked.next(app, last.as_uuid())).unwrap_or_default();
    Ok((found, next))
}

/// Ends one of the subject's own sessions. One that was ended before, by itself or with others, is no error and leaves no event; one that
/// is only late by this replica's clock is ended all the same.
///
/// # Errors
/// [`Error::NotFound`] for another person's session as for none at all; [`Error::SessionRevoked`] and the other reasons of a token whose
/// session ended meanwhile.
pub async fn revoke(app: &App, subject: &Subject, id: SessionId, origin: &Origin) -> Result<()> {
    let about = audit::About {
        object_id: Some(id.to_string()),
        session_id: Some(id),
        details: Some(json!({ "cause": CAUSE, "by_session": subject.facts.session.id.to_string() })),
        ..audit::About::default()
    };
    let event = audit::success(app, Event::SessionRevoked, Actor::User(subject.facts.user.id), origin, about);
    let input = (subject.clone(), id, origin.time, event);
    app.store.write("revoke_own_session", input, |tx, input| async move { end_one(tx, input).await }).await
}

async fn end_one(tx: Tx, (subject, id, now, event): (Subject, SessionId, Timestamp, Row)) -> Result<()> {
    let user = asking(&tx, &subject, now).await?.facts.user.id;
    let found = facts::find(&tx, id, &About::Own).await?.filter(|facts| facts.session.user_id == user);
    let facts = found.ok_or(Error::NotFound("session"))?;
    let was_ended = SessionState::of(&facts, now) == SessionState::Revoked;
    if !was_ended && sessions::revoke_own(&tx, user, id, CAUSE, now).await? {
        audit_events::insert(&tx, Row { tenant_id: facts.session.tenant_id, ..event }).await?;
    }
    Ok(())
}

/// Ends every session of the subject, or every one but the asking one; answers how many there were.
///
/// # Errors
/// [`Error::SessionRevoked`] and the other reasons of a token whose session ended meanwhile.
pub async fn revoke_all(app: &App, subject: &Subject, keep_current: bool, origin: &Origin) -> Result<u64> {
    let (user, session) = (subject.facts.user.id, subject.facts.session.id);
    let about = audit::About { object_id: Some(user.to_string()), session_id: Some(session), ..audit::About::default() };
    let event = audit::success(app, Event::UserSessionsRevoked, Actor::User(user), origin, about);
    let input = (subject.clone(), keep_current, origin.time, event);
    app.store.write("revoke_own_sessions", input, |tx, input| async move { end_all(tx, input).await }).await
}

async fn end_all(tx: Tx, (subject, keep_current, now, event): (Subject, bool, Timestamp, Row)) -> Result<u64> {
    let facts = asking(&tx, &subject, now).await?.facts;
    let user = facts.user.id;
    let (ended, kept) = if keep_current {
        let kept = facts.session.id;
        let ended = sessions::revoke_others(&tx, user, kept, now.minus(CLOCKS_APART), CAUSE, now).await?;
        (ended.iter().filter(|session| !is_late(session, now)).count() as u64, Some(kept.to_string()))
    } else {
        let live = facts::count_live(&tx, Whose::User(user), now).await?;
        if !users::bump_epoch(&tx, user).await? {
            return Err(Error::PrincipalDisabled);
        }
        (live, None)
    };
    let details = json!({ "cause": CAUSE, "sessions": ended, "kept_session": kept });
    audit_events::insert(&tx, Row { details, ..event }).await?;
    Ok(ended)
}

fn is_late(session: &Session, now: Timestamp) -> bool {
    session.idle_expires_at.min(session.expires_at) <= now
}

/// The subject as it is now, once it is its turn among those who open or end sessions of this user.
async fn asking(tx: &Tx, subject: &Subject, now: Timestamp) -> Result<Subject> {
    users::find_locked(tx, subject.facts.user.id).await?.ok_or(Error::PrincipalDisabled)?;
    let facts = facts::find(tx, subject.facts.session.id, &About::Own).await?.ok_or(Error::SessionRevoked)?;
    subject.with_facts(facts, now)
}
