//! People. A user's canonical names are written here and nowhere else, from values that only [`crate::values`] makes.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockType, Value},
};

use super::{Db, Tx, entity::user as entity, errors};
use crate::{
    error::{Result, Taken},
    values::{email::EmailAddress, identifier::Identifier, ids::UserId, time::Timestamp, username::Username},
};

/// Where a user stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    /// May log in.
    Active,
    /// May not.
    Disabled,
    /// Gone; the names are free again, the id is not.
    Deleted,
    /// The row has a word that this version does not know: counts as not active.
    Unknown,
}

impl UserState {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "disabled" => Self::Disabled,
            "deleted" => Self::Deleted,
            _ => Self::Unknown,
        }
    }
}

/// A person.
#[derive(Clone, Debug)]
pub struct User {
    /// Never reused.
    pub id: UserId,
    /// The id in another system.
    pub external_id: Option<String>,
    /// The address as entered.
    pub email: Option<String>,
    /// The user name as entered.
    pub username: Option<String>,
    /// The name to show.
    pub full_name: String,
    /// Given name.
    pub given_name: String,
    /// Family name.
    pub family_name: String,
    /// Where the user stands.
    pub state: UserState,
    /// May act in every active tenant.
    pub superuser: bool,
    /// Proved to own the address.
    pub email_verified: bool,
    /// Free data, a JSON object.
    pub attributes: serde_json::Value,
    /// Moves when the user's tokens must die.
    pub epoch: i64,
    /// Moves when an answer about the user changes.
    pub revision: i64,
    /// When the user was made.
    pub created_at: Timestamp,
}

impl From<entity::Model> for User {
    fn from(row: entity::Model) -> Self {
        Self {
            id: UserId::from_uuid(row.id),
            external_id: row.external_id,
            email: row.email,
            username: row.username,
            full_name: row.full_name,
            given_name: row.given_name,
            family_name: row.family_name,
            state: UserState::parse(&row.state),
            superuser: row.superuser,
            email_verified: row.email_verified,
            attributes: row.attributes,
            epoch: row.epoch,
            revision: row.revision,
            created_at: Timestamp::from_unix(row.created_at),
        }
    }
}

/// What a new user is made of.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The id.
    pub id: UserId,
    /// The address, if any.
    pub email: Option<EmailAddress>,
    /// The user name, if any.
    pub username: Option<Username>,
    /// The name to show.
    pub full_name: String,
    /// May act in every active tenant.
    pub superuser: bool,
    /// When.
    pub now: Timestamp,
}

/// The user of that id.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, id: UserId) -> Result<Option<User>> {
    let row = entity::Entity::find_by_id(id.as_uuid()).one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(User::from))
}

/// The user of that id, locked until the transaction ends: whoever opens sessions of the user, or ends all of them, queues here.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find_locked(tx: &Tx, id: UserId) -> Result<Option<User>> {
    // Not the strongest lock: it must not be in the way of rows that only refer to this one.
    let query = entity::Entity::find_by_id(id.as_uuid()).lock(LockType::NoKeyUpdate);
    let row = query.one(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(User::from))
}

/// The user whom an identifier names. Deleted users have no names.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find_by_identifier(db: &impl Db, identifier: &Identifier) -> Result<Option<User>> {
    let query = entity::Entity::find().filter(named("users", identifier));
    let row = query.one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(User::from))
}

/// The condition that an identifier puts on `users` under this alias.
pub(super) fn named(alias: &'static str, identifier: &Identifier) -> Expr {
    match identifier {
        Identifier::Email(email) => Expr::col((alias, entity::Column::EmailCanonical)).eq(email.canonical()),
        Identifier::Username(username) => Expr::col((alias, entity::Column::UsernameCanonical)).eq(username.canonical()),
    }
}

/// A page of users in the order of their ids.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db, after: Option<UserId>, limit: u64) -> Result<Vec<User>> {
    let mut query = entity::Entity::find().order_by_asc(entity::Column::Id).limit(limit);
    if let Some(after) = after {
        query = query.filter(entity::Column::Id.gt(after.as_uuid()));
    }
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(rows.into_iter().map(User::from).collect())
}

/// Makes a user, active, with epoch 0.
///
/// # Errors
/// [`crate::error::Error::Taken`] where a name is.
pub async fn insert(tx: &Tx, new: NewUser) -> Result<User> {
    let row = entity::ActiveModel {
        id: Set(new.id.as_uuid()),
        external_id: Set(None),
        email: Set(new.email.as_ref().map(|email| email.as_str().to_owned())),
        email_canonical: Set(new.email.as_ref().map(|email| email.canonical().to_owned())),
        username: Set(new.username.as_ref().map(|name| name.as_str().to_owned())),
        username_canonical: Set(new.username.as_ref().map(|name| name.canonical().to_owned())),
        full_name: Set(new.full_name),
        given_name: Set(String::new()),
        family_name: Set(String::new()),
        state: Set(UserState::Active.as_str().to_owned()),
        superuser: Set(new.superuser),
        email_verified: Set(false),
        attributes: Set(serde_json::json!({})),
        epoch: Set(0),
        revision: Set(0),
        created_at: Set(new.now.as_unix()),
    };
    let taken =
        [("users.email_canonical", Taken::Email), ("users.username_canonical", Taken::Username), ("users.external_id", Taken::ExternalId)];
    row.insert(&tx.executor()).await.map(User::from).map_err(|e| errors::taken(&e, &taken))
}

/// Moves an active user's epoch on: every token of theirs dies. Conditional on the epoch that was read; answers whether it still held.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn advance_epoch(tx: &Tx, id: UserId, from: i64) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(entity::Column::Epoch.eq(from))
        .filter(entity::Column::State.eq(UserState::Active.as_str()))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}

/// Moves a user's epoch on whatever it is, unless the user is deleted; answers whether there is such a user.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn bump_epoch(tx: &Tx, id: UserId) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(entity::Column::State.ne(UserState::Deleted.as_str()))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}

/// Changes a user's state. Whatever leaves `active` takes the epoch with it, so that no token lives again with the state; a deleted
/// user gives up both names.
///
/// Answers whether a row in one of the states `from` was there.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn set_state(tx: &Tx, id: UserId, from: &[UserState], to: UserState) -> Result<bool> {
    let mut update = entity::Entity::update_many()
        .col_expr(entity::Column::State, Expr::val(to.as_str()))
        .col_expr(entity::Column::Revision, Expr::col(entity::Column::Revision).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(entity::Column::State.is_in(from.iter().map(|state| state.as_str())));
    if to != UserState::Active {
        update = update.col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1));
    }
    if to == UserState::Deleted {
        let names = [
            entity::Column::Email,
            entity::Column::EmailCanonical,
            entity::Column::Username,
            entity::Column::UsernameCanonical,
            entity::Column::ExternalId,
        ];
        for column in names {
            update = update.col_expr(column, Expr::value(Value::String(None)));
        }
    }
    let changed = update.exec(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}
