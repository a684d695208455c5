//! Tenants.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use super::{Db, Tx, entity::tenant as entity, errors};
use crate::{
    error::{Result, Taken},
    values::{ids::TenantId, time::Timestamp},
};

/// Where a tenant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// In use.
    Active,
    /// Nobody may act in it.
    Suspended,
    /// Gone.
    Deleted,
    /// The row has a word that this version does not know: counts as not active.
    Unknown,
}

impl TenantState {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "suspended" => Self::Suspended,
            "deleted" => Self::Deleted,
            _ => Self::Unknown,
        }
    }
}

/// How a request names a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantKey {
    /// By its id.
    Id(TenantId),
    /// By the id that another system knows it by (`ext:…`).
    ExternalId(String),
}

/// A tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Never reused.
    pub id: TenantId,
    /// Short name, unique.
    pub slug: String,
    /// The name to show.
    pub name: String,
    /// Tax number, unique.
    pub tax_id: Option<String>,
    /// The id in another system, unique.
    pub external_id: Option<String>,
    /// Where the tenant stands.
    pub state: TenantState,
    /// The most members; none means no limit.
    pub seat_limit: Option<i32>,
    /// Free data, a JSON object.
    pub attributes: serde_json::Value,
    /// Lifetimes and rules of its own, a JSON object.
    pub policy: serde_json::Value,
    /// Moves when the tokens of the tenant must die.
    pub epoch: i64,
    /// Moves when an answer about the tenant changes.
    pub revision: i64,
    /// When the tenant was made.
    pub created_at: Timestamp,
}

impl Tenant {
    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        512 + (self.attributes.to_string().len() + self.policy.to_string().len()) as u64
    }

    /// Whether a key names this one.
    #[must_use]
    pub fn is_named(&self, key: &TenantKey) -> bool {
        match key {
            TenantKey::Id(id) => self.id == *id,
            TenantKey::ExternalId(id) => self.external_id.as_ref() == Some(id),
        }
    }
}

impl From<entity::Model> for Tenant {
    fn from(row: entity::Model) -> Self {
        Self {
            id: TenantId::from_uuid(row.id),
            slug: row.slug,
            name: row.name,
            tax_id: row.tax_id,
            external_id: row.external_id,
            state: TenantState::parse(&row.state),
            seat_limit: row.seat_limit,
            attributes: row.attributes,
            policy: row.policy,
            epoch: row.epoch,
            revision: row.revision,
            created_at: Timestamp::from_unix(row.created_at),
        }
    }
}

/// What a new tenant is made of.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// The id.
    pub id: TenantId,
    /// Short name.
    pub slug: String,
    /// The name to show.
    pub name: String,
    /// Tax number.
    pub tax_id: Option<String>,
    /// The id in another system.
    pub external_id: Option<String>,
    /// The most members.
    pub seat_limit: Option<i32>,
    /// When.
    pub now: Timestamp,
}

/// The tenant that a key names.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, key: &TenantKey) -> Result<Option<Tenant>> {
    find_by(db, filter(key)).await
}

/// The condition that a key puts on `tenants`.
pub(super) fn filter(key: &TenantKey) -> Expr {
    match key {
        TenantKey::Id(id) => entity::Column::Id.eq(id.as_uuid()),
        TenantKey::ExternalId(id) => entity::Column::ExternalId.eq(id.as_str()),
    }
}

/// The tenant of that slug.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find_by_slug(db: &impl Db, slug: &str) -> Result<Option<Tenant>> {
    find_by(db, entity::Column::Slug.eq(slug)).await
}

async fn find_by(db: &impl Db, condition: Expr) -> Result<Option<Tenant>> {
    let row = entity::Entity::find().filter(condition).one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(Tenant::from))
}

/// A page of tenants in the order of their ids.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db, after: Option<TenantId>, limit: u64) -> Result<Vec<Tenant>> {
    let mut query = entity::Entity::find().order_by_asc(entity::Column::Id).limit(limit);
    if let Some(after) = after {
        query = query.filter(entity::Column::Id.gt(after.as_uuid()));
    }
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(rows.into_iter().map(Tenant::from).collect())
}

/// Makes a tenant, active, with epoch 0.
///
/// # Errors
/// [`crate::error::Error::Taken`] where a unique name is.
pub async fn insert(tx: &Tx, new: NewTenant) -> Result<Tenant> {
    let row = entity::ActiveModel {
        id: Set(new.id.as_uuid()),
        slug: Set(new.slug),
        name: Set(new.name),
        tax_id: Set(new.tax_id),
        external_id: Set(new.external_id),
        state: Set(TenantState::Active.as_str().to_owned()),
        seat_limit: Set(new.seat_limit),
        attributes: Set(serde_json::json!({})),
        policy: Set(serde_json::json!({})),
        epoch: Set(0),
        revision: Set(0),
        created_at: Set(new.now.as_unix()),
    };
    let taken = [("tenants.slug", Taken::Slug), ("tenants.tax_id", Taken::TaxId), ("tenants.external_id", Taken::ExternalId)];
    row.insert(&tx.executor()).await.map(Tenant::from).map_err(|e| errors::taken(&e, &taken))
}

/// Changes a tenant's state; answers whether it was in the state `from`. The epoch stays: a suspended tenant's tokens are refused for
/// the state, and are good again with it.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn set_state(tx: &Tx, id: TenantId, from: TenantState, to: TenantState) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::State, Expr::val(to.as_str()))
        .col_expr(entity::Column::Revision, Expr::col(entity::Column::Revision).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(entity::Column::State.eq(from.as_str()))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}

/// Replaces a tenant's policy.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn set_policy(tx: &Tx, id: TenantId, policy: serde_json::Value) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Policy, Expr::val(policy))
        .col_expr(entity::Column::Revision, Expr::col(entity::Column::Revision).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(entity::Column::State.ne(TenantState::Deleted.as_str()))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}

/// Moves a tenant's epoch on, unless the tenant is deleted: every token and session that is bound to it is dead. Answers whether there is
/// such a tenant.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn bump_epoch(tx: &Tx, id: TenantId) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .filter(entity::Column::State.ne(TenantState::Deleted.as_str()))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}
