//! Everything that a decision about a session needs, read in one statement: the session, its user, the instance's epoch and, for one
//! tenant, the tenant, the membership and its roles. One statement sees one moment of the database: two ordered changes are never seen
//! in the other order.

use sea_orm::{
    ColumnTrait, ConnectionTrait, Iterable, QueryResult,
    sea_query::{Alias, Condition, Expr, ExprTrait, IntoIden, Query, SelectStatement},
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
    values::ids::SessionId,
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
#[derive(Clone, Debug)]
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

fn role(row: &QueryResult) -> Result<Option<Role>> {
    errors::joined::<role::Model>(row, "r_", "id", "roles")?.map(Role::try_from).transpose()
}

fn statement(id: SessionId, about: &About) -> SelectStatement {
    let mut select = Query::select();
    columns::<session::Column>(&mut select, "s");
    columns::<user::Column>(&mut select, "u");
    columns::<tenant::Column>(&mut select, "t");
    columns::<membership::Column>(&mut select, "m");
    columns::<role::Column>(&mut select, "r");
    select.expr_as(Expr::col(("i", instance::Column::Epoch)), Alias::new("i_epoch"));

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
        .join_as(join::INNER, user::Entity, "u", Expr::col(("u", user::Column::Id)).equals(("s", session::Column::UserId)))
        .join_as(join::INNER, instance::Entity, "i", Expr::col(("i", instance::Column::Id)).eq(1))
        .join_as(join::LEFT, tenant::Entity, "t", this_tenant)
        .join_as(join::LEFT, membership::Entity, "m", this_membership)
        .join_as(
            join::LEFT,
            membership_role::Entity,
            "l",
            Expr::col(("l", membership_role::Column::MembershipId)).equals(("m", membership::Column::Id)),
        )
        .join_as(join::LEFT, role::Entity, "r", Expr::col(("r", role::Column::Id)).equals(("l", membership_role::Column::RoleId)))
        .and_where(Expr::col(("s", session::Column::Id)).eq(id.as_uuid()))
        .order_by(("r", role::Column::Level), sea_orm::Order::Desc)
        .order_by(("r", role::Column::Name), sea_orm::Order::Asc);
    select
}

/// Every column of a table under its alias, named `<alias>_<column>`.
fn columns<C: ColumnTrait + Iterable>(select: &mut SelectStatement, alias: &'static str) {
    for column in C::iter() {
        let name = Alias::new(format!("{alias}_{}", column.as_str()));
        select.expr_as(Expr::col((alias.into_iden(), column)), name);
    }
}

mod join {
    use sea_orm::JoinType;

    pub(super) const INNER: JoinType = JoinType::InnerJoin;
    pub(super) const LEFT: JoinType = JoinType::LeftJoin;
}
