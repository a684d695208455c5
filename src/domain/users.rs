//! People: making, disabling, enabling and deleting them, and setting their passwords as an operator.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    audit::{self, Actor, Event, Origin},
    passwords,
};
use crate::{
    app::App,
    error::{Error, Result, Taken},
    store::{
        Tx, audit_events,
        audit_events::Row,
        credentials, instance, memberships,
        users::{self, NewUser, User, UserState},
    },
    values::{email::EmailAddress, identifier::Identifier, ids::UserId, secret::Password, text, time::Timestamp, username::Username},
};

/// Operators wait for a hash longer than callers do.
const OPERATOR_PATIENCE: Duration = Duration::from_mins(1);

/// What a user is made of.
#[derive(Debug)]
pub struct NewUserRequest {
    /// The address, if any.
    pub email: Option<String>,
    /// The user name, if any.
    pub username: Option<String>,
    /// The name to show.
    pub full_name: String,
    /// May act in every active tenant.
    pub superuser: bool,
    /// The password, if any, and whether it must be changed at the first login.
    pub password: Option<(Password, bool)>,
}

/// A user that is ready to be stored.
#[derive(Clone)]
pub(super) struct Creating {
    pub(super) user: NewUser,
    credential: Option<(&'static str, String, bool)>,
    event: Row,
}

/// Makes a user.
///
/// # Errors
/// [`Error::InvalidField`], [`Error::PasswordRejected`], [`Error::Taken`].
pub async fn create(app: &App, request: NewUserRequest, actor: Actor) -> Result<User> {
    let creating = prepare(app, request, actor).await?;
    app.store.write("create_user", creating, |tx, creating| async move { insert(&tx, creating).await }).await
}

/// Makes the first superuser, once in the life of the instance, and only while there is no user at all. Answers whether it did.
///
/// # Errors
/// As [`create`].
pub async fn bootstrap(app: &App, request: NewUserRequest) -> Result<Option<User>> {
    let creating = prepare(app, request, Actor::System).await?;
    let unit = |tx: Tx, creating| async move {
        // The lock makes two first starts queue; the flag keeps the second, and every later one, from doing it again.
        if instance::lock(&tx).await?.bootstrapped {
            return Ok(None);
        }
        instance::set_bootstrapped(&tx).await?;
        if !users::list(&tx, None, 1).await?.is_empty() {
            return Ok(None);
        }
        insert(&tx, creating).await.map(Some)
    };
    app.store.write("bootstrap", creating, unit).await
}

/// Whether there is, or was, any user at all. Cheap: every start asks, before it would hash a password for [`bootstrap`].
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn has_any(app: &App) -> Result<bool> {
    app.store.read("has_any_user", (), |db, ()| async move { Ok(!users::list(&db, None, 1).await?.is_empty()) }).await
}

/// Checks everything that needs no transaction, and hashes.
pub(super) async fn prepare(app: &App, request: NewUserRequest, actor: Actor) -> Result<Creating> {
    let (email, username) = names(&request)?;
    let credential = match request.password {
        Some((password, must_change)) => {
            let (scheme, hash) = hash(app, &password).await?;
            Some((scheme, hash, must_change))
        }
        None => None,
    };
    let id = UserId::generate(&app.entropy, &app.clock);
    let details = json!({ "superuser": request.superuser, "password": credential.is_some() });
    let about = audit::About { object_id: Some(id.to_string()), details: Some(details), ..audit::About::default() };
    let origin = Origin::local(app);
    let event = audit::success(app, Event::UserCreated, actor, &origin, about);
    let now = origin.time;
    let user = NewUser { id, email, username, full_name: request.full_name, superuser: request.superuser, now };
    Ok(Creating { user, credential, event })
}

/// The names as the table keeps them.
fn names(request: &NewUserRequest) -> Result<(Option<EmailAddress>, Option<Username>)> {
    let email = match request.email.as_deref() {
        Some(raw) => Some(EmailAddress::parse(raw).map_err(|e| Error::field("email", e.to_string()))?),
        None => None,
    };
    let username = match request.username.as_deref() {
        Some(raw) => Some(Username::parse(raw).map_err(|e| Error::field("username", e.to_string()))?),
        None => None,
    };
    if email.is_none() && username.is_none() {
        return Err(Error::field("email", "an e-mail address or a user name is needed"));
    }
    text::text(&request.full_name, 255).map_err(|e| Error::field("full_name", e.to_string()))?;
    Ok((email, username))
}

/// Whether names could be a new user's: acceptable, and nobody's yet. For asking before a person thinks of a password; whether they are
/// still free decides the transaction that stores them.
///
/// # Errors
/// [`Error::InvalidField`], [`Error::Taken`].
pub async fn check_names(app: &App, request: &NewUserRequest) -> Result<()> {
    let (email, username) = names(request)?;
    let names = [(email.map(Identifier::Email), Taken::Email), (username.map(Identifier::Username), Taken::Username)];
    for (name, taken) in names {
        let Some(name) = name else { continue };
        let unit = |db, name| async move { users::find_by_identifier(&db, &name).await };
        if app.store.read("check_names", name, unit).await?.is_some() {
            return Err(Error::Taken(taken));
        }
    }
    Ok(())
}

/// Stores a prepared user with its event.
pub(super) async fn insert(tx: &Tx, creating: Creating) -> Result<User> {
    let now = creating.user.now;
    let user = users::insert(tx, creating.user).await?;
    if let Some((scheme, hash, must_change)) = &creating.credential {
        credentials::put(tx, user.id, scheme, hash, *must_change, now).await?;
    }
    audit_events::insert(tx, creating.event).await?;
    Ok(user)
}

async fn hash(app: &App, password: &Password) -> Result<(&'static str, String)> {
    let normalized = passwords::check_new(password, "password", app.config.passwords.min_length)?;
    app.hasher.hash(normalized, Instant::now() + OPERATOR_PATIENCE).await
}

/// Sets a user's password as an operator; every session of the user ends.
///
/// # Errors
/// [`Error::PasswordRejected`], [`Error::NotFound`] for a deleted user.
pub async fn set_password(app: &App, user: &User, password: &Password, must_change: bool, actor: Actor) -> Result<()> {
    let (scheme, phc) = hash(app, password).await?;
    let about = audit::About {
        object_id: Some(user.id.to_string()),
        details: Some(json!({ "must_change": must_change })),
        ..audit::About::default()
    };
    let origin = Origin::local(app);
    let event = audit::success(app, Event::UserPasswordSet, actor, &origin, about);
    let unit = |tx, (id, scheme, phc, must_change, now, event): (UserId, &'static str, String, bool, Timestamp, Row)| async move {
        if !users::bump_epoch(&tx, id).await? {
            return Err(Error::NotFound("user"));
        }
        credentials::put(&tx, id, scheme, &phc, must_change, now).await?;
        audit_events::insert(&tx, event).await
    };
    app.store.write("set_password", (user.id, scheme, phc, must_change, origin.time, event), unit).await
}

/// Changes where a user stands. Doing it twice is no error.
///
/// Disabling and deleting end every session. A deleted user gives up names, password and memberships; the id is never used again.
///
/// # Errors
/// [`Error::NotFound`] for a deleted user.
pub async fn set_state(app: &App, user: &User, to: UserState, actor: Actor) -> Result<()> {
    let (event, from): (_, &[UserState]) = match to {
        UserState::Disabled => (Event::UserDisabled, &[UserState::Active]),
        UserState::Active => (Event::UserEnabled, &[UserState::Disabled]),
        UserState::Deleted => (Event::UserDeleted, &[UserState::Active, UserState::Disabled]),
        UserState::Unknown => return Err(Error::internal("unknown is no state to change to")),
    };
    if user.state == UserState::Deleted {
        return Err(Error::NotFound("user"));
    }
    let about = audit::About { object_id: Some(user.id.to_string()), ..audit::About::default() };
    let event = audit::success(app, event, actor, &Origin::local(app), about);
    let unit = |tx, (id, from, to, event)| async move { change_state(tx, id, from, to, event).await };
    app.store.write("set_user_state", (user.id, from, to, event), unit).await
}

async fn change_state(tx: Tx, id: UserId, from: &[UserState], to: UserState, event: Row) -> Result<()> {
    if !users::set_state(&tx, id, from, to).await? {
        return Ok(());
    }
    if to == UserState::Deleted {
        credentials::delete(&tx, id).await?;
        memberships::remove_all(&tx, id).await?;
    }
    audit_events::insert(&tx, event).await
}

/// The user whom an operator names by id, e-mail address or user name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resolve(app: &App, name: &str) -> Result<User> {
    let by_id: Option<UserId> = name.parse().ok();
    let by_name = Identifier::parse(name);
    let unit = move |db, ()| async move {
        match (by_id, by_name) {
            (Some(id), _) => users::find(&db, id).await,
            (None, Some(identifier)) => users::find_by_identifier(&db, &identifier).await,
            (None, None) => Ok(None),
        }
    };
    app.store.read("resolve_user", (), unit).await?.ok_or(Error::NotFound("user"))
}

/// What an operator may know of a user's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordState {
    /// There is none: nobody logs in by one.
    Absent,
    /// It logs in.
    Set,
    /// It logs in, but must be changed before anything else.
    MustChange,
    /// It does not log in: only a new one helps.
    ResetRequired,
}

/// How a user's password stands.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn password_state(app: &App, user: &User) -> Result<PasswordState> {
    let credential = app.store.read("find_credential", user.id, |db, id| async move { credentials::find(&db, id).await }).await?;
    Ok(match credential {
        None => PasswordState::Absent,
        Some(credential) if credential.reset_required => PasswordState::ResetRequired,
        Some(credential) if credential.must_change => PasswordState::MustChange,
        Some(_) => PasswordState::Set,
    })
}

/// Every user, in the order of their ids.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(app: &App) -> Result<Vec<User>> {
    super::collect(
        |after: Option<UserId>| app.store.read("list_users", after, |db, after| async move { users::list(&db, after, super::BATCH).await }),
        |user| user.id,
    )
    .await
}
