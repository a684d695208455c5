//! The secrets of service accounts, as digests. Several are good at a time, so that one can follow another without a gap.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder, sea_query::Expr,
};

use super::{Db, Tx, entity::service_account_secret as entity, errors};
use crate::{
    error::Result,
    values::{
        ids::{ServiceAccountId, ServiceAccountSecretId},
        time::Timestamp,
    },
};

/// A secret of a service account.
#[derive(Clone, Debug)]
pub struct AccountSecret {
    /// Never reused; the secret itself names it.
    pub id: ServiceAccountSecretId,
    /// Whose it is.
    pub account_id: ServiceAccountId,
    /// SHA-256 of the secret.
    pub digest: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ceases to be good; none for never.
    pub expires_at: Option<Timestamp>,
    /// When it last bought a token, give or take a minute.
    pub last_used_at: Option<Timestamp>,
}

impl AccountSecret {
    /// Whether it is still good.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires| now < expires)
    }
}

impl From<entity::Model> for AccountSecret {
    fn from(row: entity::Model) -> Self {
        Self {
            id: ServiceAccountSecretId::from_uuid(row.id),
            account_id: ServiceAccountId::from_uuid(row.service_account_id),
            digest: row.digest,
            created_at: Timestamp::from_unix(row.created_at),
            expires_at: row.expires_at.map(Timestamp::from_unix),
            last_used_at: row.last_used_at.map(Timestamp::from_unix),
        }
    }
}

/// Stores a secret.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn insert(tx: &Tx, secret: AccountSecret) -> Result<()> {
    let row = entity::ActiveModel {
        id: Set(secret.id.as_uuid()),
        service_account_id: Set(secret.account_id.as_uuid()),
        digest: Set(secret.digest),
        created_at: Set(secret.created_at.as_unix()),
        expires_at: Set(secret.expires_at.map(Timestamp::as_unix)),
        last_used_at: Set(secret.last_used_at.map(Timestamp::as_unix)),
    };
    row.insert(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// The secrets of service accounts, oldest first, expired ones too.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list_of(db: &impl Db, accounts: &[ServiceAccountId]) -> Result<HashMap<ServiceAccountId, Vec<AccountSecret>>> {
    let query = entity::Entity::find()
        .filter(entity::Column::ServiceAccountId.is_in(accounts.iter().map(ServiceAccountId::as_uuid)))
        .order_by_asc(entity::Column::Id);
    let mut secrets: HashMap<ServiceAccountId, Vec<AccountSecret>> = HashMap::new();
    for secret in query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?.into_iter().map(AccountSecret::from) {
        secrets.entry(secret.account_id).or_default().push(secret);
    }
    Ok(secrets)
}

/// Forgets the secrets of a service account that have expired, and answers how many are left.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn forget_expired(tx: &Tx, account: ServiceAccountId, now: Timestamp) -> Result<u64> {
    let own = || entity::Column::ServiceAccountId.eq(account.as_uuid());
    let delete = entity::Entity::delete_many().filter(own()).filter(entity::Column::ExpiresAt.lte(now.as_unix()));
    delete.exec(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    entity::Entity::find().filter(own()).count(&tx.executor()).await.map_err(|e| errors::from_db(&e))
}

/// Removes a secret of a service account; answers whether it had it.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn remove(tx: &Tx, account: ServiceAccountId, id: ServiceAccountSecretId) -> Result<bool> {
    let delete = entity::Entity::delete_many()
        .filter(entity::Column::ServiceAccountId.eq(account.as_uuid()))
        .filter(entity::Column::Id.eq(id.as_uuid()));
    let deleted = delete.exec(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(deleted.rows_affected == 1)
}

/// Removes every secret of a service account.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn remove_all(tx: &Tx, account: ServiceAccountId) -> Result<()> {
    let delete = entity::Entity::delete_many().filter(entity::Column::ServiceAccountId.eq(account.as_uuid()));
    delete.exec(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// Remembers that a secret was used. Time never goes back: of two replicas the later clock is kept.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn mark_used(tx: &Tx, id: ServiceAccountSecretId, now: Timestamp) -> Result<()> {
    let earlier = entity::Column::LastUsedAt.is_null().or(entity::Column::LastUsedAt.lt(now.as_unix()));
    let update = entity::Entity::update_many()
        .col_expr(entity::Column::LastUsedAt, Expr::val(now.as_unix()))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(earlier);
    update.exec(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}
