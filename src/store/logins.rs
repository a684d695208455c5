//! What a login is decided by, as it is before the password is verified: the person, the credential, and every epoch that the new session
//! is to be opened under. One statement: it sees one moment of the database, and costs the same whether there is such a person or not.

use sea_orm::{
    ConnectionTrait, JoinType,
    sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement},
};

use super::{
    Db,
    credentials::Credential,
    entity::{instance, membership, password_credential, tenant, user},
    errors, facts,
    tenants::TenantKey,
    users::{self, User},
};
use crate::{
    error::{Error, Result},
    values::identifier::Identifier,
};

/// The epochs, before the password was verified, of what the session is to be opened under; but for the user's.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// The instance's epoch.
    pub instance: i64,
    /// The epoch of the tenant that the login is for; none where there is no such tenant.
    pub tenant: Option<i64>,
    /// The epoch of the person's membership there; none where there never was one.
    pub membership: Option<i64>,
}

/// A person, and their password if there is one.
pub type Found = (User, Option<Credential>);

/// Whom an identifier names, with the password, and the epochs of that moment; of a tenant, if one is named. Deleted users have no names.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, identifier: &Identifier, tenant: Option<&TenantKey>) -> Result<(Option<Found>, Before)> {
    let row = db.executor().query_one(&statement(identifier, tenant)).await.map_err(|e| errors::from_db(&e))?;
    let row = row.ok_or_else(|| Error::internal("the instance row is missing"))?;
    let user = errors::joined::<user::Model>(&row, "u_", "id", "users")?;
    let credential = errors::joined::<password_credential::Model>(&row, "c_", "user_id", "password_credentials")?;
    let epoch = |of: &str| row.try_get::<Option<i64>>("", of).map_err(|e| errors::from_db(&e));
    let before = Before {
        instance: epoch("i_epoch")?.unwrap_or_default(),
        tenant: if tenant.is_some() { epoch("t_epoch")? } else { None },
        membership: if tenant.is_some() { epoch("m_epoch")? } else { None },
    };
    Ok((user.map(|user| (user.into(), credential.map(Into::into))), before))
}

fn statement(identifier: &Identifier, tenant: Option<&TenantKey>) -> SelectStatement {
    let mut select = Query::select();
    facts::columns::<user::Column>(&mut select, "u");
    facts::columns::<password_credential::Column>(&mut select, "c");
    select
        .expr_as(Expr::col(("i", instance::Column::Epoch)), Alias::new("i_epoch"))
        .from_as(instance::Entity, Alias::new("i"))
        .join_as(JoinType::LeftJoin, user::Entity, "u", users::named("u", identifier))
        .join_as(
            JoinType::LeftJoin,
            password_credential::Entity,
            "c",
            Expr::col(("c", password_credential::Column::UserId)).equals(("u", user::Column::Id)),
        )
        .and_where(Expr::col(("i", instance::Column::Id)).eq(1));
    if let Some(key) = tenant {
        let this_tenant = match key {
            TenantKey::Id(id) => Expr::col(("t", tenant::Column::Id)).eq(id.as_uuid()),
            TenantKey::ExternalId(id) => Expr::col(("t", tenant::Column::ExternalId)).eq(id.as_str()),
        };
        let this_member = Expr::col(("m", membership::Column::TenantId))
            .equals(("t", tenant::Column::Id))
            .and(Expr::col(("m", membership::Column::UserId)).equals(("u", user::Column::Id)));
        select
            .expr_as(Expr::col(("t", tenant::Column::Epoch)), Alias::new("t_epoch"))
            .expr_as(Expr::col(("m", membership::Column::Epoch)), Alias::new("m_epoch"))
            .join_as(JoinType::LeftJoin, tenant::Entity, "t", this_tenant)
            .join_as(JoinType::LeftJoin, membership::Entity, "m", this_member);
    }
    select
}
