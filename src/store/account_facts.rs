//! Everything that a decision about a service account needs, read in one statement: the account, the instance's epoch, its tenant and the
//! roles that it holds there; and the secret, where one was presented. One statement sees one moment of the database.

use sea_orm::{
    ColumnTrait, ConnectionTrait, QueryResult,
    sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement},
};

use super::{
    Db,
    entity::{instance, role, service_account, service_account_certificate, service_account_role, service_account_secret, tenant},
    errors,
    facts::{columns, joins, role},
    feed::Entity,
    roles::Role,
    service_account_secrets::AccountSecret,
    service_accounts::ServiceAccount,
    tenants::Tenant,
};
use crate::{
    error::{Error, Result},
    values::ids::{ServiceAccountId, ServiceAccountSecretId},
};

/// What is known of a service account at one moment.
#[derive(Clone, Debug)]
pub struct AccountFacts {
    /// The account.
    pub account: ServiceAccount,
    /// The instance's epoch.
    pub instance_epoch: i64,
    /// Its tenant; none for an instance-wide one.
    pub tenant: Option<Tenant>,
    /// The roles that it holds there.
    pub roles: Vec<Role>,
}

impl AccountFacts {
    /// About how many bytes they take in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let tenant = self.tenant.as_ref().map_or(0, Tenant::weight);
        512 + self.account.permissions.weight() + tenant + self.roles.iter().map(Role::weight).sum::<u64>()
    }

    /// What they change by.
    pub fn entities(&self) -> impl Iterator<Item = Entity> + use<> {
        let tenant = self.tenant.as_ref().map(|tenant| Entity::Tenant(tenant.id));
        [Entity::Instance, Entity::ServiceAccount(self.account.id)].into_iter().chain(tenant)
    }
}

/// The facts of the service account of that id.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, id: ServiceAccountId) -> Result<Option<AccountFacts>> {
    let mut select = statement();
    select.and_where(Expr::col(("a", service_account::Column::Id)).eq(id.as_uuid()));
    let rows = db.executor().query_all(&select).await.map_err(|e| errors::from_db(&e))?;
    read(&rows)
}

/// The facts of the service account that a secret belongs to, and the secret.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find_by_secret(db: &impl Db, id: ServiceAccountSecretId) -> Result<Option<(AccountFacts, AccountSecret)>> {
    let mut select = statement();
    columns::<service_account_secret::Column>(&mut select, "k");
    select
        .join_as(
            joins::INNER,
            service_account_secret::Entity,
            "k",
            Expr::col(("k", service_account_secret::Column::ServiceAccountId)).equals(("a", service_account::Column::Id)),
        )
        .and_where(Expr::col(("k", service_account_secret::Column::Id)).eq(id.as_uuid()));
    let rows = db.executor().query_all(&select).await.map_err(|e| errors::from_db(&e))?;
    let Some(facts) = read(&rows)? else { return Ok(None) };
    let secret = match rows.first() {
        Some(row) => errors::joined::<service_account_secret::Model>(row, "k_", "id", "service_account_secrets")?,
        None => None,
    };
    Ok(secret.map(|secret| (facts, AccountSecret::from(secret))))
}

/// The facts of every service account, of whatever state, that one of these names in certificates stands for.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find_by_certificate(db: &impl Db, names: &[String]) -> Result<Vec<AccountFacts>> {
    let mut mapped = Query::select();
    mapped
        .column(service_account_certificate::Column::ServiceAccountId)
        .from(service_account_certificate::Entity)
        .and_where(service_account_certificate::Column::Name.is_in(names.iter().map(String::as_str)));
    let mut select = statement();
    select.and_where(Expr::col(("a", service_account::Column::Id)).in_subquery(mapped));
    let rows = db.executor().query_all(&select).await.map_err(|e| errors::from_db(&e))?;
    rows.chunk_by(is_same_account).map(read).filter_map(Result::transpose).collect()
}

fn is_same_account(one: &QueryResult, other: &QueryResult) -> bool {
    let id = |row: &QueryResult| row.try_get::<uuid::Uuid>("a_", "id").ok();
    id(one) == id(other)
}

/// One account's rows: one for each of its roles, at least one.
fn read(rows: &[QueryResult]) -> Result<Option<AccountFacts>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let account: service_account::Model =
        errors::joined(first, "a_", "id", "service_accounts")?.ok_or_else(|| Error::internal("a row of no service account"))?;
    let tenant: Option<tenant::Model> = errors::joined(first, "t_", "id", "tenants")?;
    Ok(Some(AccountFacts {
        account: account.try_into()?,
        instance_epoch: first.try_get("i_", "epoch").map_err(|e| errors::from_db(&e))?,
        tenant: tenant.map(Tenant::from),
        roles: rows.iter().filter_map(|row| role(row).transpose()).collect::<Result<_>>()?,
    }))
}

fn statement() -> SelectStatement {
    let mut select = Query::select();
    columns::<service_account::Column>(&mut select, "a");
    columns::<tenant::Column>(&mut select, "t");
    columns::<role::Column>(&mut select, "r");
    let account = |column: service_account::Column| ("a", column);
    select
        .expr_as(Expr::col(("i", instance::Column::Epoch)), Alias::new("i_epoch"))
        .from_as(service_account::Entity, Alias::new("a"))
        .join_as(joins::INNER, instance::Entity, "i", Expr::col(("i", instance::Column::Id)).eq(1))
        .join_as(joins::LEFT, tenant::Entity, "t", Expr::col(("t", tenant::Column::Id)).equals(account(service_account::Column::TenantId)))
        .join_as(
            joins::LEFT,
            service_account_role::Entity,
            "l",
            Expr::col(("l", service_account_role::Column::ServiceAccountId)).equals(account(service_account::Column::Id)),
        )
        .join_as(joins::LEFT, role::Entity, "r", Expr::col(("r", role::Column::Id)).equals(("l", service_account_role::Column::RoleId)))
        .order_by(account(service_account::Column::Id), sea_orm::Order::Asc)
        .order_by(("r", role::Column::Level), sea_orm::Order::Desc)
        .order_by(("r", role::Column::Name), sea_orm::Order::Asc);
    select
}
