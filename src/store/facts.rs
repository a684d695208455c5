//! Everything that a decision about a session needs, read in one statement: the session, its user, the instance's epoch and, for one
//! tenant, the tenant, the membership and its roles. One statement sees one moment of the database: two ordered changes are never seen
//! in the other order.

use sea_orm::{
    ColumnTrait, ConnectionTrait, FromQueryResult, Iterable, QueryResult,
    sea_query::{Alias, Asterisk, Condition, Expr, ExprTrait, IntoIden, Query, SelectStatement},
};

use super::{
    Db,
    entity::{instance, membership, membership_role, role, session, tenant, user},
    errors,
    memberships::Standing,
    roles::Role,
    sessions::Session,
    tenants::TenantKey,
    users::User,
};
use crate::{
    error::{Error, Result},
    values::{
        ids::{SessionId, TenantId, UserId},
        time::Timestamp,
    },
};

/// What is known of a session at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The session.
    pub session: Session,
    /// Whose it is.
    pub user: User,
    /// The instance's epoch.
    pub instance_epoch: i64,
    /// How the user stands to the tenant that was asked about; none where there is no such tenant or none was asked about.
    pub standing: Option<Standing>,
}

/// Which tenant the facts are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// The one that the session is bound to, if it is.
    Own,
    /// The one that the key names.
    Tenant(TenantKey),
}

/// The facts of a session; none where there is no such session.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, id: SessionId, about: &About) -> Result<Option<Facts>> {
    let rows = db.executor().query_all(&statement(id, about)).await.map_err(|e| errors::from_db(&e))?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut facts = read(first)?;
    if let Some(standing) = &mut facts.standing {
        standing.roles = rows.iter().filter_map(|row| role(row).transpose()).collect::<Result<_>>()?;
    }
    Ok(Some(facts))
}

/// Whose sessions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One user's, whatever tenant they are bound to.
    User(UserId),
    /// Those that are bound to one tenant.
    Tenant(TenantId),
    /// One user's that are bound to one tenant.
    Member {
        /// The user.
        user: UserId,
        /// The tenant.
        tenant: TenantId,
    },
    /// All.
    Everybody,
}

/// A page of sessions in the order of their ids, each with the facts about its own tenant, but without roles. With a time, only those
/// that are not over then.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db, whose: Whose, live_at: Option<Timestamp>, after: Option<SessionId>, limit: u64) -> Result<Vec<Facts>> {
    let mut select = Query::select();
    fact_columns(&mut select);
    join(&mut select, &About::Own);
    filter(&mut select, whose, live_at);
    if let Some(after) = after {
        select.and_where(Expr::col(("s", session::Column::Id)).gt(after.as_uuid()));
    }
    select.order_by(("s", session::Column::Id), sea_orm::Order::Asc).limit(limit);
    let rows = db.executor().query_all(&select).await.map_err(|e| errors::from_db(&e))?;
    rows.iter().map(read).collect()
}

/// A page of a user's sessions that are not over at that time, the newest first: before the one that a page ended with.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list_newest(db: &impl Db, user: UserId, now: Timestamp, before: Option<SessionId>, limit: u64) -> Result<Vec<Session>> {
    let mut select = Query::select();
    select.column(("s", Asterisk));
    join(&mut select, &About::Own);
    filter(&mut select, Whose::User(user), Some(now));
    if let Some(before) = before {
        select.and_where(Expr::col(("s", session::Column::Id)).lt(before.as_uuid()));
    }
    // Ids are of version 7: their order is that of time, and never changes.
    select.order_by(("s", session::Column::Id), sea_orm::Order::Desc).limit(limit);
    let rows = db.executor().query_all(&select).await.map_err(|e| errors::from_db(&e))?;
    let sessions = rows.iter().map(|row| session::Model::from_query_result(row, "").map(Session::from));
    sessions.collect::<std::result::Result<_, _>>().map_err(|e| errors::from_db(&e))
}

/// Picks the ids of sessions that are not over at that time, for a statement that ends them.
pub(super) fn live_ids(whose: Whose, live_at: Timestamp) -> SelectStatement {
    let mut select = Query::select();
    select.expr(Expr::col(("s", session::Column::Id)));
    join(&mut select, &About::Own);
    filter(&mut select, whose, Some(live_at));
    select
}

/// How many sessions are not over at that time.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn count_live(db: &impl Db, whose: Whose, now: Timestamp) -> Result<u64> {
    let mut select = Query::select();
    select.expr_as(Expr::col(("s", session::Column::Id)).count(), Alias::new("n"));
    join(&mut select, &About::Own);
    filter(&mut select, whose, Some(now));
    let row = db.executor().query_one(&select).await.map_err(|e| errors::from_db(&e))?;
    let count: Option<i64> = row.map(|row| row.try_get("", "n")).transpose().map_err(|e| errors::from_db(&e))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
}

/// What `domain::access` says of a session that it looks at, asked of many: not ended, in time, under the current epochs.
fn filter(select: &mut SelectStatement, whose: Whose, live_at: Option<Timestamp>) {
    let session = |column: session::Column| Expr::col(("s", column));
    match whose {
        Whose::User(id) => select.and_where(session(session::Column::UserId).eq(id.as_uuid())),
        Whose::Tenant(id) => select.and_where(session(session::Column::TenantId).eq(id.as_uuid())),
        Whose::Member { user, tenant } => select
            .and_where(session(session::Column::UserId).eq(user.as_uuid()))
            .and_where(session(session::Column::TenantId).eq(tenant.as_uuid())),
        Whose::Everybody => select,
    };
    let Some(now) = live_at else { return };
    let in_tenant = session(session::Column::TenantEpoch).equals(("t", tenant::Column::Epoch));
    let as_member = session(session::Column::MembershipEpoch).equals(("m", membership::Column::Epoch));
    select
        .and_where(session(session::Column::RevokedAt).is_null())
        .and_where(session(session::Column::ExpiresAt).gt(now.as_unix()))
        .and_where(session(session::Column::IdleExpiresAt).gt(now.as_unix()))
        .and_where(session(session::Column::InstanceEpoch).equals(("i", instance::Column::Epoch)))
        .and_where(session(session::Column::UserEpoch).equals(("u", user::Column::Epoch)))
        .cond_where(Condition::any().add(session(session::Column::TenantId).is_null()).add(in_tenant))
        .cond_where(Condition::any().add(session(session::Column::MembershipEpoch).is_null()).add(as_member));
}

fn read(row: &QueryResult) -> Result<Facts> {
    let gone = || Error::internal("a session without its user");
    let session: session::Model = errors::joined(row, "s_", "id", "sessions")?.ok_or_else(gone)?;
    let user: user::Model = errors::joined(row, "u_", "id", "users")?.ok_or_else(gone)?;
    let tenant: Option<tenant::Model> = errors::joined(row, "t_", "id", "tenants")?;
    let membership: Option<membership::Model> = errors::joined(row, "m_", "id", "memberships")?;
    Ok(Facts {
        session: Session::from(session),
        user: User::from(user),
        instance_epoch: row.try_get("i_", "epoch").map_err(|e| errors::from_db(&e))?,
        standing: tenant.map(|tenant| Standing { tenant: tenant.into(), membership: membership.map(Into::into), roles: Vec::new() }),
    })
}

/// The role of a row, if it has one.
pub(super) fn role(row: &QueryResult) -> Result<Option<Role>> {
    errors::joined::<role::Model>(row, "r_", "id", "roles")?.map(Role::try_from).transpose()
}

fn statement(id: SessionId, about: &About) -> SelectStatement {
    let mut select = Query::select();
    fact_columns(&mut select);
    columns::<role::Column>(&mut select, "r");
    join(&mut select, about);
    select
        .join_as(
            joins::LEFT,
            membership_role::Entity,
            "l",
            Expr::col(("l", membership_role::Column::MembershipId)).equals(("m", membership::Column::Id)),
        )
        .join_as(joins::LEFT, role::Entity, "r", Expr::col(("r", role::Column::Id)).equals(("l", membership_role::Column::RoleId)))
        .and_where(Expr::col(("s", session::Column::Id)).eq(id.as_uuid()))
        .order_by(("r", role::Column::Level), sea_orm::Order::Desc)
        .order_by(("r", role::Column::Name), sea_orm::Order::Asc);
    select
}

/// Everything but the roles.
fn fact_columns(select: &mut SelectStatement) {
    columns::<session::Column>(select, "s");
    columns::<user::Column>(select, "u");
    columns::<tenant::Column>(select, "t");
    columns::<membership::Column>(select, "m");
    select.expr_as(Expr::col(("i", instance::Column::Epoch)), Alias::new("i_epoch"));
}

fn join(select: &mut SelectStatement, about: &About) {
    let this_tenant = match about {
        About::Own => Expr::col(("t", tenant::Column::Id)).equals(("s", session::Column::TenantId)),
        About::Tenant(TenantKey::Id(id)) => Expr::col(("t", tenant::Column::Id)).eq(id.as_uuid()),
        About::Tenant(TenantKey::ExternalId(id)) => Expr::col(("t", tenant::Column::ExternalId)).eq(id.as_str()),
    };
    let this_membership = Condition::all()
        .add(Expr::col(("m", membership::Column::TenantId)).equals(("t", tenant::Column::Id)))
        .add(Expr::col(("m", membership::Column::UserId)).equals(("u", user::Column::Id)));
    select
        .from_as(session::Entity, Alias::new("s"))
        .join_as(joins::INNER, user::Entity, "u", Expr::col(("u", user::Column::Id)).equals(("s", session::Column::UserId)))
        .join_as(joins::INNER, instance::Entity, "i", Expr::col(("i", instance::Column::Id)).eq(1))
        .join_as(joins::LEFT, tenant::Entity, "t", this_tenant)
        .join_as(joins::LEFT, membership::Entity, "m", this_membership);
}

/// Every column of a table under its alias, named `<alias>_<column>`.
pub(super) fn columns<C: ColumnTrait + Iterable>(select: &mut SelectStatement, alias: &'static str) {
    for column in C::iter() {
        let name = Alias::new(format!("{alias}_{}", column.as_str()));
        select.expr_as(Expr::col((alias.into_iden(), column)), name);
    }
}

pub(super) mod joins {
    use sea_orm::JoinType;

    pub const INNER: JoinType = JoinType::InnerJoin;
    pub const LEFT: JoinType = JoinType::LeftJoin;
}
