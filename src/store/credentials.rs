//! Passwords at rest: one per user, a scheme tag and a string that only `domain::passwords` reads.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr, sea_query::OnConflict};

use super::{Db, Tx, entity::password_credential as entity, errors};
use crate::{
    error::Result,
    values::{ids::UserId, time::Timestamp},
};

/// A user's password as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// How `hash` is to be read.
    pub scheme: String,
    /// A PHC string, or what the scheme has instead.
    pub hash: String,
    /// The password logs in, but must be changed before anything else.
    pub must_change: bool,
    /// The password does not log in: only a reset helps.
    pub reset_required: bool,
    /// Moves with every change of the password.
    pub version: i64,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("scheme", &self.scheme).field("version", &self.version).finish_non_exhaustive()
    }
}

impl From<entity::Model> for Credential {
    fn from(row: entity::Model) -> Self {
        Self { scheme: row.scheme, hash: row.hash, must_change: row.must_change, reset_required: row.reset_required, version: row.version }
    }
}

/// The password of a user, if there is one.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, user: UserId) -> Result<Option<Credential>> {
    let row = entity::Entity::find_by_id(user.as_uuid()).one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(Credential::from))
}

/// Sets a user's password, whatever it was, and moves its version on.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn put(tx: &Tx, user: UserId, scheme: &str, hash: &str, must_change: bool, now: Timestamp) -> Result<()> {
    let row = entity::ActiveModel {
        user_id: Set(user.as_uuid()),
        scheme: Set(scheme.to_owned()),
        hash: Set(hash.to_owned()),
        must_change: Set(must_change),
        reset_required: Set(false),
        version: Set(1),
        changed_at: Set(now.as_unix()),
    };
    let version = Expr::col((entity::Entity, entity::Column::Version)).add(1);
    let overwrite = OnConflict::column(entity::Column::UserId)
        .update_columns([
            entity::Column::Scheme,
            entity::Column::Hash,
            entity::Column::MustChange,
            entity::Column::ResetRequired,
            entity::Column::ChangedAt,
        ])
        .value(entity::Column::Version, version)
        .to_owned();
    let insert = entity::Entity::insert(row).on_conflict(overwrite);
    insert.exec_without_returning(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// Replaces a password by a new one, if it still is the one that was verified; answers whether it was.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn replace(tx: &Tx, user: UserId, verified: &Credential, scheme: &str, hash: &str, now: Timestamp) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Scheme, Expr::val(scheme))
        .col_expr(entity::Column::Hash, Expr::val(hash))
        .col_expr(entity::Column::MustChange, Expr::val(false))
        .col_expr(entity::Column::ResetRequired, Expr::val(false))
        .col_expr(entity::Column::ChangedAt, Expr::val(now.as_unix()))
        .col_expr(entity::Column::Version, Expr::col(entity::Column::Version).add(1))
        .filter(entity::Column::UserId.eq(user.as_uuid()))
        .filter(entity::Column::Version.eq(verified.version))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}

/// Stores the same password under other parameters. It is no change of the password: the version stays. Does nothing where the password
/// was changed meanwhile.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn rehash(tx: &Tx, user: UserId, verified: &Credential, scheme: &str, hash: &str) -> Result<()> {
    entity::Entity::update_many()
        .col_expr(entity::Column::Scheme, Expr::val(scheme))
        .col_expr(entity::Column::Hash, Expr::val(hash))
        .filter(entity::Column::UserId.eq(user.as_uuid()))
        .filter(entity::Column::Version.eq(verified.version))
        .filter(entity::Column::Hash.eq(&verified.hash))
        .exec(&tx.executor())
        .await
        .map(drop)
        .map_err(|e| errors::from_db(&e))
}

/// Removes a user's password: nobody logs in by one any more.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn delete(tx: &Tx, user: UserId) -> Result<()> {
    entity::Entity::delete_by_id(user.as_uuid()).exec(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}
