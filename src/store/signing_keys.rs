//! Signing keys. The private half is sealed before it comes here.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, sea_query::Expr};

use super::{Db, Tx, entity::signing_key as entity, errors};
use crate::{
    error::{Error, Result},
    values::{ids::SigningKeyId, time::Timestamp},
};

/// Where a signing key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, does not sign yet.
    Pending,
    /// Signs.
    Active,
    /// Verifies what it signed.
    Retired,
    /// Compromised: not used for anything.
    Revoked,
    /// A word of another version: not used for anything.
    Unknown,
}

impl KeyState {
    fn parse(word: &str) -> Self {
        [Self::Pending, Self::Active, Self::Retired, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::Unknown)
    }

    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }

    /// Whether tokens that such a key signed may be good.
    #[must_use]
    pub const fn verifies(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Retired)
    }
}

/// A signing key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// The row's id; the sealed key is bound to it.
    pub id: SigningKeyId,
    /// The key id in token headers, an RFC 7638 thumbprint.
    pub kid: String,
    /// The JWS algorithm.
    pub algorithm: String,
    /// Where it stands.
    pub state: KeyState,
    /// The sealed PKCS#8 private key; empty for a revoked key.
    pub sealed_private_key: Vec<u8>,
    /// When it was made, and published.
    pub created_at: Timestamp,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
    /// When it ceased to sign.
    pub retired_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl From<entity::Model> for SigningKey {
    fn from(row: entity::Model) -> Self {
        Self {
            id: SigningKeyId::from_uuid(row.id),
            kid: row.kid,
            algorithm: row.algorithm,
            state: KeyState::parse(&row.state),
            sealed_private_key: row.sealed_private_key,
            created_at: Timestamp::from_unix(row.created_at),
            activated_at: row.activated_at.map(Timestamp::from_unix),
            retired_at: row.retired_at.map(Timestamp::from_unix),
            revoked_at: row.revoked_at.map(Timestamp::from_unix),
        }
    }
}

/// All keys, oldest first; revoked ones too.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db) -> Result<Vec<SigningKey>> {
    let rows = entity::Entity::find().order_by_asc(entity::Column::Id).all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(rows.into_iter().map(SigningKey::from).collect())
}

/// Stores a new key.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn insert(tx: &Tx, key: SigningKey) -> Result<()> {
    let row = entity::ActiveModel {
        id: Set(key.id.as_uuid()),
        kid: Set(key.kid),
        algorithm: Set(key.algorithm),
        state: Set(key.state.as_str().to_owned()),
        sealed_private_key: Set(key.sealed_private_key),
        created_at: Set(key.created_at.as_unix()),
        activated_at: Set(key.activated_at.map(Timestamp::as_unix)),
        retired_at: Set(key.retired_at.map(Timestamp::as_unix)),
        revoked_at: Set(key.revoked_at.map(Timestamp::as_unix)),
    };
    row.insert(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// Lets a pending key sign from now on.
///
/// # Errors
/// [`Error::Conflict`] where it is not pending.
pub async fn activate(tx: &Tx, id: SigningKeyId, now: Timestamp) -> Result<()> {
    move_on(tx, id, KeyState::Pending, KeyState::Active, entity::Column::ActivatedAt, now).await
}

/// Lets an active key sign no more.
///
/// # Errors
/// [`Error::Conflict`] where it is not active.
pub async fn retire(tx: &Tx, id: SigningKeyId, now: Timestamp) -> Result<()> {
    move_on(tx, id, KeyState::Active, KeyState::Retired, entity::Column::RetiredAt, now).await
}

/// Makes a key good for nothing, whatever it was good for, and forgets its private half.
///
/// # Errors
/// [`Error::Conflict`] where it is gone.
pub async fn revoke(tx: &Tx, id: SigningKeyId, now: Timestamp) -> Result<()> {
    let update = entity::Entity::update_many()
        .col_expr(entity::Column::State, Expr::val(KeyState::Revoked.as_str()))
        .col_expr(entity::Column::RevokedAt, Expr::val(now.as_unix()))
        .col_expr(entity::Column::SealedPrivateKey, Expr::val(Vec::<u8>::new()))
        .filter(entity::Column::Id.eq(id.as_uuid()));
    one(update.exec(&tx.executor()).await)
}

/// Stores a private key that was sealed anew.
///
/// # Errors
/// [`Error::Conflict`] where the key is gone.
pub async fn reseal(tx: &Tx, id: SigningKeyId, sealed: Vec<u8>) -> Result<()> {
    let column = entity::Column::SealedPrivateKey;
    let update = entity::Entity::update_many().col_expr(column, Expr::val(sealed)).filter(entity::Column::Id.eq(id.as_uuid()));
    one(update.exec(&tx.executor()).await)
}

/// Forgets a key.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn remove(tx: &Tx, id: SigningKeyId) -> Result<()> {
    entity::Entity::delete_by_id(id.as_uuid()).exec(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

async fn move_on(tx: &Tx, id: SigningKeyId, from: KeyState, to: KeyState, at: entity::Column, now: Timestamp) -> Result<()> {
    let update = entity::Entity::update_many()
        .col_expr(entity::Column::State, Expr::val(to.as_str()))
        .col_expr(at, Expr::val(now.as_unix()))
        .filter(entity::Column::Id.eq(id.as_uuid()).and(entity::Column::State.eq(from.as_str())));
    one(update.exec(&tx.executor()).await)
}

fn one(outcome: std::result::Result<sea_orm::UpdateResult, sea_orm::DbErr>) -> Result<()> {
    match outcome.map_err(|e| errors::from_db(&e))?.rows_affected {
        1 => Ok(()),
        _ => Err(Error::Conflict),
    }
}
