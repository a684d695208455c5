//! The one row of instance facts.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QuerySelect, sea_query::Expr};

use super::{Db, Tx, entity::instance as entity, errors};
use crate::{
    error::{Error, Result},
    values::time::Timestamp,
};

const ROW: i32 = 1;

/// Facts about the whole instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Whether the first superuser was made.
    pub bootstrapped: bool,
    /// Moves when every token must die.
    pub epoch: i64,
    /// Which root secret the database belongs to; none before the first start.
    pub root_check: Option<String>,
}

impl From<entity::Model> for Instance {
    fn from(row: entity::Model) -> Self {
        Self { bootstrapped: row.bootstrapped, epoch: row.epoch, root_check: row.root_check }
    }
}

/// The instance row, if the first start made it.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db) -> Result<Option<Instance>> {
    let row = entity::Entity::find_by_id(ROW).one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(Instance::from))
}

/// The instance row under a lock that lasts to the end of the transaction: first starts on one database queue here.
///
/// # Errors
/// [`Error::Internal`] where there is none.
pub async fn lock(tx: &Tx) -> Result<Instance> {
    let row = entity::Entity::find_by_id(ROW).lock_exclusive().one(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    row.map(Instance::from).ok_or_else(|| Error::internal("the instance row is missing"))
}

/// Makes the row where there is none.
///
/// # Errors
/// [`Error::Conflict`] where another server is making it.
pub async fn insert_if_absent(tx: &Tx, now: Timestamp) -> Result<()> {
    if find(tx).await?.is_some() {
        return Ok(());
    }
    let row = entity::ActiveModel {
        id: Set(ROW),
        bootstrapped: Set(false),
        epoch: Set(0),
        root_check: Set(None),
        created_at: Set(now.as_unix()),
    };
    // Two servers on an empty database: the loser's next attempt finds the row.
    match row.insert(&tx.executor()).await {
        Ok(_) => Ok(()),
        Err(error) if error.sql_err().is_some() => Err(Error::Conflict),
        Err(error) => Err(errors::from_db(&error)),
    }
}

/// Remembers which root secret the database belongs to.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn set_root_check(tx: &Tx, check: &str) -> Result<()> {
    update(tx, entity::Column::RootCheck, Expr::val(check.to_owned())).await
}

/// Remembers that the first superuser was made.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn set_bootstrapped(tx: &Tx) -> Result<()> {
    update(tx, entity::Column::Bootstrapped, Expr::val(true)).await
}

/// Moves the instance's epoch on: every token and every session of before is dead.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn bump_epoch(tx: &Tx) -> Result<()> {
    update(tx, entity::Column::Epoch, Expr::col(entity::Column::Epoch).add(1)).await
}

async fn update(tx: &Tx, column: entity::Column, value: Expr) -> Result<()> {
    entity::Entity::update_many()
        .col_expr(column, value)
        .filter(entity::Column::Id.eq(ROW))
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))
        .and_then(|changed| if changed.rows_affected == 1 { Ok(()) } else { Err(Error::internal("the instance row is missing")) })
}
