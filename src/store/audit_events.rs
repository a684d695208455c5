//! The audit trail at rest: rows are only ever added. What becomes an event, and with what in it, is `domain::audit`'s.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use uuid::Uuid;

use super::{Db, Tx, entity::audit_event as entity, errors};
use crate::{
    error::Result,
    values::{
        ids::{AuditEventId, SessionId, TenantId},
        time::Timestamp,
    },
};

/// Rows of one insert: a statement takes so many values at most.
const BATCH: usize = 500;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// The id.
    pub id: AuditEventId,
    /// When.
    pub created_at: Timestamp,
    /// What happened, `noun.verb`.
    pub event: &'static str,
    /// `success` or `failure`.
    pub outcome: &'static str,
    /// The error reason of a failure.
    pub reason: Option<&'static str>,
    /// `user`, `service_account`, `cli`, `anonymous` or `system`.
    pub actor_kind: &'static str,
    /// Who, in the words of the kind.
    pub actor_id: Option<String>,
    /// What it happened to.
    pub object_kind: Option<&'static str>,
    /// Which one.
    pub object_id: Option<String>,
    /// In which tenant.
    pub tenant_id: Option<TenantId>,
    /// In or to which session.
    pub session_id: Option<SessionId>,
    /// By which client.
    pub client_id: Option<String>,
    /// From which address, as the backend tells.
    pub ip_address: Option<String>,
    /// In which call.
    pub request_id: Option<String>,
    /// More, a JSON object.
    pub details: serde_json::Value,
}

/// Adds an event in the transaction of its fact.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn insert(tx: &Tx, row: Row) -> Result<()> {
    model(row).insert(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// Adds the events of facts that one statement made.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn insert_all(tx: &Tx, rows: Vec<Row>) -> Result<()> {
    let mut rows = rows.into_iter().map(model).peekable();
    while rows.peek().is_some() {
        let insert = entity::Entity::insert_many(rows.by_ref().take(BATCH));
        insert.exec_without_returning(&tx.executor()).await.map_err(|e| errors::from_db(&e))?;
    }
    Ok(())
}

fn model(row: Row) -> entity::ActiveModel {
    let uuid = |id: SessionId| -> Uuid { id.as_uuid() };
    entity::ActiveModel {
        id: Set(row.id.as_uuid()),
        created_at: Set(row.created_at.as_unix()),
        event: Set(row.event.to_owned()),
        outcome: Set(row.outcome.to_owned()),
        reason: Set(row.reason.map(str::to_owned)),
        actor_kind: Set(row.actor_kind.to_owned()),
        actor_id: Set(row.actor_id),
        object_kind: Set(row.object_kind.map(str::to_owned)),
        object_id: Set(row.object_id),
        tenant_id: Set(row.tenant_id.map(|id| id.as_uuid())),
        session_id: Set(row.session_id.map(uuid)),
        client_id: Set(row.client_id),
        ip_address: Set(row.ip_address),
        request_id: Set(row.request_id),
        details: Set(row.details),
    }
}
