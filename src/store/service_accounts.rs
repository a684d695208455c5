//! Service accounts, the roles that those of a tenant hold, and the certificates that stand for them.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Condition, Expr},
};

use super::{
    Db, Tx,
    entity::{role, service_account as entity, service_account_certificate as certificate, service_account_role as link},
    errors,
    roles::Role,
};
use crate::{
    error::{Error, Result},
    values::{
        ids::{RoleId, ServiceAccountId, TenantId},
        permission::PermissionSet,
        time::Timestamp,
    },
};

/// Where a service account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// May get tokens.
    Active,
    /// May not; its tokens are refused.
    Disabled,
    /// Gone; the id is never given again.
    Deleted,
    /// The row has a word that this version does not know: counts as not active.
    Unknown,
}

impl AccountState {
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

/// A workload with an identity of its own.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// Never reused.
    pub id: ServiceAccountId,
    /// Its tenant; none for an instance-wide one.
    pub tenant_id: Option<TenantId>,
    /// The name to show. Nothing is keyed by it.
    pub name: String,
    /// Where it stands.
    pub state: AccountState,
    /// What an instance-wide one may do; empty for one of a tenant, which has roles.
    pub permissions: PermissionSet,
    /// Moves when its tokens must die.
    pub epoch: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TryFrom<entity::Model> for ServiceAccount {
    type Error = Error;

    fn try_from(row: entity::Model) -> Result<Self> {
        let bad = || errors::bad_row("service_accounts", row.id);
        let texts: Vec<String> = serde_json::from_value(row.permissions.clone()).map_err(|_| bad())?;
        Ok(Self {
            permissions: PermissionSet::parse(&texts).map_err(|_| bad())?,
            id: ServiceAccountId::from_uuid(row.id),
            tenant_id: row.tenant_id.map(TenantId::from_uuid),
            name: row.name,
            state: AccountState::parse(&row.state),
            epoch: row.epoch,
            created_at: Timestamp::from_unix(row.created_at),
        })
    }
}

/// What a new service account is made of.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    /// The id.
    pub id: ServiceAccountId,
    /// Its tenant; none for an instance-wide one.
    pub tenant_id: Option<TenantId>,
    /// The name to show.
    pub name: String,
    /// What an instance-wide one may do.
    pub permissions: PermissionSet,
    /// When.
    pub now: Timestamp,
}

/// Which service accounts are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Instance-wide ones.
    Instance,
    /// Those of a tenant.
    Tenant(TenantId),
}

impl Place {
    fn filter(self) -> Expr {
        match self {
            Self::Instance => entity::Column::TenantId.is_null(),
            Self::Tenant(id) => entity::Column::TenantId.eq(id.as_uuid()),
        }
    }
}

/// The service account of that id, at that place alone; a deleted one is not found.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, place: Place, id: ServiceAccountId) -> Result<Option<ServiceAccount>> {
    let query = entity::Entity::find_by_id(id.as_uuid()).filter(place.filter()).filter(is_not_deleted());
    let row = query.one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    row.map(ServiceAccount::try_from).transpose()
}

/// The same, under a lock that lasts to the end of the transaction: changes of one account queue here.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find_locked(tx: &Tx, place: Place, id: ServiceAccountId) -> Result<Option<ServiceAccount>> {
    let query = entity::Entity::find_by_id(id.as_uuid()).filter(place.filter()).filter(is_not_deleted()).lock_exclusive();
    let row = query.one(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    row.map(ServiceAccount::try_from).transpose()
}

/// A page of the service accounts of a place in the order of their ids, without deleted ones.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db, place: Place, after: Option<ServiceAccountId>, limit: u64) -> Result<Vec<ServiceAccount>> {
    let mut query = entity::Entity::find().filter(place.filter()).filter(is_not_deleted()).order_by_asc(entity::Column::Id).limit(limit);
    if let Some(after) = after {
        query = query.filter(entity::Column::Id.gt(after.as_uuid()));
    }
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    rows.into_iter().map(ServiceAccount::try_from).collect()
}

fn is_not_deleted() -> Expr {
    entity::Column::State.ne(AccountState::Deleted.as_str())
}

/// The service accounts of that name at a place; names are nobody's alone.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find_by_name(db: &impl Db, place: Place, name: &str) -> Result<Vec<ServiceAccount>> {
    let query = entity::Entity::find()
        .filter(place.filter())
        .filter(is_not_deleted())
        .filter(entity::Column::Name.eq(name))
        .order_by_asc(entity::Column::Id);
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    rows.into_iter().map(ServiceAccount::try_from).collect()
}

/// The roles of service accounts, the highest level first.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn roles_of(db: &impl Db, ids: &[ServiceAccountId]) -> Result<HashMap<ServiceAccountId, Vec<Role>>> {
    let query = link::Entity::find()
        .select_two_required(role::Entity)
        .join(JoinType::InnerJoin, link::Entity::belongs_to(role::Entity).from(link::Column::RoleId).to(role::Column::Id).into())
        .filter(link::Column::ServiceAccountId.is_in(ids.iter().map(ServiceAccountId::as_uuid)))
        .order_by_desc(role::Column::Level)
        .order_by_asc(role::Column::Name);
    let mut roles: HashMap<ServiceAccountId, Vec<Role>> = HashMap::new();
    for (link, role) in query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))? {
        roles.entry(ServiceAccountId::from_uuid(link.service_account_id)).or_default().push(role.try_into()?);
    }
    Ok(roles)
}

/// Makes a service account, active, with epoch 0. `roles` are those of an account of a tenant.
///
/// # Errors
/// [`Error::NotFound`] for a role that the tenant does not have.
pub async fn insert(tx: &Tx, new: NewServiceAccount, roles: &[RoleId]) -> Result<ServiceAccount> {
    let row = entity::ActiveModel {
        id: Set(new.id.as_uuid()),
        tenant_id: Set(new.tenant_id.map(|id| id.as_uuid())),
        name: Set(new.name),
        state: Set(AccountState::Active.as_str().to_owned()),
        permissions: Set(serde_json::json!(new.permissions.to_strings())),
        epoch: Set(0),
        revision: Set(0),
        created_at: Set(new.now.as_unix()),
    };
    let account: ServiceAccount = row.insert(&tx.executor()).await.map_err(|e| errors::from_db(&e))?.try_into()?;
    if let (Some(tenant), false) = (new.tenant_id, roles.is_empty()) {
        let link = |role: &RoleId| link::ActiveModel {
            tenant_id: Set(tenant.as_uuid()),
            service_account_id: Set(new.id.as_uuid()),
            role_id: Set(role.as_uuid()),
        };
        let links = link::Entity::insert_many(roles.iter().map(link));
        links.exec_without_returning(&tx.executor()).await.map_err(|e| errors::missing(&e, "role"))?;
    }
    Ok(account)
}

/// Changes a service account's state, and ends every token of it: those of before are not good again when it is enabled. Answers whether
/// it was in the state `from`.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn set_state(tx: &Tx, id: ServiceAccountId, from: AccountState, to: AccountState) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::State, Expr::val(to.as_str()))
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .col_expr(entity::Column::Revision, Expr::col(entity::Column::Revision).add(1))
        .filter(Condition::all().add(entity::Column::Id.eq(id.as_uuid())).add(entity::Column::State.eq(from.as_str())))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}

/// Moves a service account's epoch on: every token of it is dead.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn bump_epoch(tx: &Tx, id: ServiceAccountId) -> Result<()> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .filter(entity::Column::Id.eq(id.as_uuid()))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    if changed.rows_affected == 1 { Ok(()) } else { Err(Error::NotFound("service account")) }
}

/// Takes a service account's roles away.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn unlink_roles(tx: &Tx, id: ServiceAccountId) -> Result<()> {
    let unlink = link::Entity::delete_many().filter(link::Column::ServiceAccountId.eq(id.as_uuid()));
    unlink.exec(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// The names in certificates that stand for service accounts, sorted.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn certificates_of(db: &impl Db, ids: &[ServiceAccountId]) -> Result<HashMap<ServiceAccountId, Vec<String>>> {
    let query = certificate::Entity::find()
        .filter(certificate::Column::ServiceAccountId.is_in(ids.iter().map(ServiceAccountId::as_uuid)))
        .order_by_asc(certificate::Column::Name);
    let mut names: HashMap<ServiceAccountId, Vec<String>> = HashMap::new();
    for row in query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))? {
        names.entry(ServiceAccountId::from_uuid(row.service_account_id)).or_default().push(row.name);
    }
    // Each database sorts by its own rules.
    for names in names.values_mut() {
        names.sort_unstable();
    }
    Ok(names)
}

/// Lets a name in certificates stand for a service account. Answers whether the name was free.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn add_certificate(tx: &Tx, id: ServiceAccountId, name: &str, now: Timestamp) -> Result<bool> {
    let row =
        certificate::ActiveModel { name: Set(name.to_owned()), service_account_id: Set(id.as_uuid()), created_at: Set(now.as_unix()) };
    let insert = certificate::Entity::insert(row).on_conflict_do_nothing_on([certificate::Column::Name]);
    let inserted = insert.exec_without_returning(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(matches!(inserted, sea_orm::TryInsertResult::Inserted(1)))
}

/// Takes a name from a service account; answers whether it had it.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn remove_certificate(tx: &Tx, id: ServiceAccountId, name: &str) -> Result<bool> {
    let delete = certificate::Entity::delete_many()
        .filter(certificate::Column::ServiceAccountId.eq(id.as_uuid()))
        .filter(certificate::Column::Name.eq(name));
    let deleted = delete.exec(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(deleted.rows_affected == 1)
}

/// Takes every name from a service account.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn remove_certificates(tx: &Tx, id: ServiceAccountId) -> Result<()> {
    let delete = certificate::Entity::delete_many().filter(certificate::Column::ServiceAccountId.eq(id.as_uuid()));
    delete.exec(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}
