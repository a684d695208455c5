//! Who is a member of which tenant, and with which roles.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Condition, Expr},
};
use uuid::Uuid;

use super::{
    Db, Tx,
    entity::{membership as entity, membership_role, role, tenant, user},
    errors,
    roles::Role,
    tenants::{Tenant, TenantKey, TenantState},
    users::User,
};
use crate::{
    error::{Error, Result, Taken},
    values::{
        ids::{MembershipId, RoleId, TenantId, UserId},
        time::Timestamp,
    },
};

/// Where a membership stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipState {
    /// Not yet accepted.
    Invited,
    /// In use.
    Active,
    /// The member may not act.
    Suspended,
    /// No longer a member.
    Removed,
    /// The row has a word that this version does not know: counts as no member.
    Unknown,
}

impl MembershipState {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "invited" => Self::Invited,
            "active" => Self::Active,
            "suspended" => Self::Suspended,
            "removed" => Self::Removed,
            _ => Self::Unknown,
        }
    }
}

/// A user's tie to a tenant.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Never reused.
    pub id: MembershipId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The member.
    pub user_id: UserId,
    /// Where it stands.
    pub state: MembershipState,
    /// Moves when the member's tokens for this tenant must die.
    pub epoch: i64,
}

impl From<entity::Model> for Membership {
    fn from(row: entity::Model) -> Self {
        Self {
            id: MembershipId::from_uuid(row.id),
            tenant_id: TenantId::from_uuid(row.tenant_id),
            user_id: UserId::from_uuid(row.user_id),
            state: MembershipState::parse(&row.state),
            epoch: row.epoch,
        }
    }
}

/// A tenant as one user stands to it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The tenant.
    pub tenant: Tenant,
    /// The user's membership, in whatever state; none where there never was one.
    pub membership: Option<Membership>,
    /// The roles linked to the membership.
    pub roles: Vec<Role>,
}

/// How a user stands to a tenant; none where there is no such tenant. Locked against changes until the transaction ends.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find_standing(tx: &Tx, user: UserId, key: &TenantKey) -> Result<Option<Standing>> {
    let found = tenant::Entity::find().filter(super::tenants::filter(key)).lock_shared().one(&tx.executor()).await;
    let Some(tenant) = found.map_err(|e| errors::from_db(&e))?.map(Tenant::from) else { return Ok(None) };
    let query = entity::Entity::find()
        .filter(entity::Column::TenantId.eq(tenant.id.as_uuid()))
        .filter(entity::Column::UserId.eq(user.as_uuid()))
        .lock_shared();
    let membership = query.one(&tx.executor()).await.map_err(|e| errors::from_db(&e))?.map(Membership::from);
    let roles = match &membership {
        Some(membership) => roles_of(tx, &[membership.id]).await?.remove(&membership.id).unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(Some(Standing { tenant, membership, roles }))
}

/// A page of the tenants that a user is a member of, active or suspended, in the order of the memberships' ids. Deleted tenants are
/// left out. `only` restricts it to one tenant.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list_standings(
    db: &impl Db,
    user: UserId,
    only: Option<TenantId>,
    after: Option<MembershipId>,
    limit: u64,
) -> Result<Vec<Standing>> {
    let mut query = entity::Entity::find()
        .select_two_required(tenant::Entity)
        .join(JoinType::InnerJoin, entity::Entity::belongs_to(tenant::Entity).from(entity::Column::TenantId).to(tenant::Column::Id).into())
        .filter(entity::Column::UserId.eq(user.as_uuid()))
        .filter(entity::Column::State.is_in([MembershipState::Active.as_str(), MembershipState::Suspended.as_str()]))
        .filter(tenant::Column::State.is_in([TenantState::Active.as_str(), TenantState::Suspended.as_str()]))
        .order_by_asc(entity::Column::Id)
        .limit(limit);
    if let Some(tenant) = only {
        query = query.filter(entity::Column::TenantId.eq(tenant.as_uuid()));
    }
    if let Some(after) = after {
        query = query.filter(entity::Column::Id.gt(after.as_uuid()));
    }
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    let pairs: Vec<(Membership, Tenant)> = rows.into_iter().map(|(m, t)| (m.into(), t.into())).collect();
    let ids: Vec<MembershipId> = pairs.iter().map(|(membership, _)| membership.id).collect();
    let mut roles = roles_of(db, &ids).await?;
    let standing = |(membership, tenant): (Membership, Tenant)| Standing {
        roles: roles.remove(&membership.id).unwrap_or_default(),
        membership: Some(membership),
        tenant,
    };
    Ok(pairs.into_iter().map(standing).collect())
}

/// The members of a tenant (not removed ones) with their roles, in the order of the memberships' ids.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list_members(
    db: &impl Db,
    tenant: TenantId,
    after: Option<MembershipId>,
    limit: u64,
) -> Result<Vec<(Membership, User, Vec<Role>)>> {
    let mut query = entity::Entity::find()
        .select_two_required(user::Entity)
        .join(JoinType::InnerJoin, entity::Entity::belongs_to(user::Entity).from(entity::Column::UserId).to(user::Column::Id).into())
        .filter(entity::Column::TenantId.eq(tenant.as_uuid()))
        .filter(entity::Column::State.ne(MembershipState::Removed.as_str()))
        .order_by_asc(entity::Column::Id)
        .limit(limit);
    if let Some(after) = after {
        query = query.filter(entity::Column::Id.gt(after.as_uuid()));
    }
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    let pairs: Vec<(Membership, User)> = rows.into_iter().map(|(m, u)| (m.into(), u.into())).collect();
    let ids: Vec<MembershipId> = pairs.iter().map(|(membership, _)| membership.id).collect();
    let mut roles = roles_of(db, &ids).await?;
    Ok(pairs
        .into_iter()
        .map(|(m, u)| {
            let held = roles.remove(&m.id).unwrap_or_default();
            (m, u, held)
        })
        .collect())
}

/// The roles of each membership, the highest level first.
async fn roles_of(db: &impl Db, memberships: &[MembershipId]) -> Result<HashMap<MembershipId, Vec<Role>>> {
    let mut held: HashMap<MembershipId, Vec<Role>> = HashMap::new();
    if memberships.is_empty() {
        return Ok(held);
    }
    let query = membership_role::Entity::find()
        .select_two_required(role::Entity)
        .join(
            JoinType::InnerJoin,
            membership_role::Entity::belongs_to(role::Entity).from(membership_role::Column::RoleId).to(role::Column::Id).into(),
        )
        .filter(membership_role::Column::MembershipId.is_in(memberships.iter().map(MembershipId::as_uuid)))
        .order_by_desc(role::Column::Level)
        .order_by_asc(role::Column::Name);
    for (link, role) in query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))? {
        held.entry(MembershipId::from_uuid(link.membership_id)).or_default().push(role.try_into()?);
    }
    Ok(held)
}

/// How many seats of a tenant are taken: active, suspended and invited members.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn count_seats(tx: &Tx, tenant: TenantId) -> Result<u64> {
    use sea_orm::PaginatorTrait;
    let query = entity::Entity::find()
        .filter(entity::Column::TenantId.eq(tenant.as_uuid()))
        .filter(entity::Column::State.ne(MembershipState::Removed.as_str()));
    query.count(&tx.executor()).await.map_err(|e| errors::from_db(&e))
}

/// Locks a tenant against changes of its members by others, and answers it as it is now.
///
/// # Errors
/// [`Error::NotFound`] where it does not exist.
pub async fn lock_tenant(tx: &Tx, id: TenantId) -> Result<Tenant> {
    let row = tenant::Entity::find_by_id(id.as_uuid()).lock_exclusive().one(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    row.map(Tenant::from).ok_or(Error::NotFound("tenant"))
}

/// Makes a user an active member, or an earlier member one again: its epoch goes on, so that nothing of the earlier time revives.
///
/// # Errors
/// [`Error::Taken`] where the user is a member already.
pub async fn add(tx: &Tx, id: MembershipId, tenant: TenantId, user: UserId, roles: &[RoleId], now: Timestamp) -> Result<Membership> {
    let earlier = entity::Entity::find()
        .filter(entity::Column::TenantId.eq(tenant.as_uuid()))
        .filter(entity::Column::UserId.eq(user.as_uuid()))
        .one(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    let membership = match earlier.map(Membership::from) {
        None => insert(tx, id, tenant, user, now).await?,
        Some(known) if known.state == MembershipState::Removed => {
            move_state(tx, known.id.as_uuid(), &[MembershipState::Removed], MembershipState::Active).await?;
            Membership { state: MembershipState::Active, epoch: known.epoch + 1, ..known }
        }
        Some(_) => return Err(Error::Taken(Taken::Member)),
    };
    link_roles(tx, tenant, membership.id, roles).await?;
    Ok(membership)
}

async fn insert(tx: &Tx, id: MembershipId, tenant: TenantId, user: UserId, now: Timestamp) -> Result<Membership> {
    let row = entity::ActiveModel {
        id: Set(id.as_uuid()),
        tenant_id: Set(tenant.as_uuid()),
        user_id: Set(user.as_uuid()),
        state: Set(MembershipState::Active.as_str().to_owned()),
        external_id: Set(None),
        epoch: Set(0),
        revision: Set(0),
        created_at: Set(now.as_unix()),
    };
    let taken = [("memberships.user_id", Taken::Member), ("memberships.tenant_id_user_id", Taken::Member)];
    row.insert(&tx.executor()).await.map(Membership::from).map_err(|e| errors::taken(&e, &taken))
}

async fn link_roles(tx: &Tx, tenant: TenantId, membership: MembershipId, roles: &[RoleId]) -> Result<()> {
    if roles.is_empty() {
        return Ok(());
    }
    let link = |role: &RoleId| membership_role::ActiveModel {
        tenant_id: Set(tenant.as_uuid()),
        membership_id: Set(membership.as_uuid()),
        role_id: Set(role.as_uuid()),
    };
    let insert = membership_role::Entity::insert_many(roles.iter().map(link));
    // The composite keys: a role of another tenant, or one that is gone.
    insert.exec_without_returning(&tx.executor()).await.map(drop).map_err(|e| errors::missing(&e, "role"))
}

/// Moves the epoch of a user's membership on, whatever its state but removed: every token and session of the user that is bound to the
/// tenant by it is dead. Answers which one it is; none where the user is no member.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn bump_epoch(tx: &Tx, tenant: TenantId, user: UserId) -> Result<Option<MembershipId>> {
    let which = Condition::all()
        .add(entity::Column::TenantId.eq(tenant.as_uuid()))
        .add(entity::Column::UserId.eq(user.as_uuid()))
        .add(entity::Column::State.ne(MembershipState::Removed.as_str()));
    let found = entity::Entity::find().filter(which.clone()).one(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    let Some(row) = found else { return Ok(None) };
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .filter(which)
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok((changed.rows_affected == 1).then(|| MembershipId::from_uuid(row.id)))
}

/// Suspends an active membership: the member may not act in the tenant. Answers whether there was one.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn suspend(tx: &Tx, id: MembershipId) -> Result<bool> {
    move_state(tx, id.as_uuid(), &[MembershipState::Active], MembershipState::Suspended).await
}

/// Ends a membership: its roles go, its epoch moves. Answers whether there was one.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn remove(tx: &Tx, tenant: TenantId, user: UserId) -> Result<bool> {
    let found = entity::Entity::find()
        .filter(Condition::all().add(entity::Column::TenantId.eq(tenant.as_uuid())).add(entity::Column::UserId.eq(user.as_uuid())))
        .one(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    let Some(row) = found else { return Ok(false) };
    let live = [MembershipState::Invited, MembershipState::Active, MembershipState::Suspended];
    if !move_state(tx, row.id, &live, MembershipState::Removed).await? {
        return Ok(false);
    }
    let unlink = membership_role::Entity::delete_many().filter(membership_role::Column::MembershipId.eq(row.id));
    unlink.exec(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(true)
}

/// Ends every membership of a user.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn remove_all(tx: &Tx, user: UserId) -> Result<()> {
    let rows = entity::Entity::find().filter(entity::Column::UserId.eq(user.as_uuid())).all(&tx.executor()).await;
    for row in rows.map_err(|e| errors::from_db(&e))? {
        remove(tx, TenantId::from_uuid(row.tenant_id), user).await?;
    }
    Ok(())
}

/// Every change of a membership's state takes its epoch with it.
async fn move_state(tx: &Tx, id: Uuid, from: &[MembershipState], to: MembershipState) -> Result<bool> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::State, Expr::val(to.as_str()))
        .col_expr(entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1))
        .col_expr(entity::Column::Revision, Expr::col(entity::Column::Revision).add(1))
        .filter(entity::Column::Id.eq(id))
        .filter(entity::Column::State.is_in(from.iter().map(|state| state.as_str())))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected == 1)
}
