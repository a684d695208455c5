//! Sessions. The step of a refresh token is in `rotation.rs`.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, Order, QueryFilter,
    sea_query::{Condition, Expr, Query, SelectStatement},
};

use super::{
    Db, Tx,
    entity::session as entity,
    errors,
    facts::{self, Whose},
};
use crate::{
    error::Result,
    values::{
        ids::{SessionId, TenantId, UserId},
        time::Timestamp,
    },
};

/// The epochs that a session is opened under; it is good while each is still the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Of the instance.
    pub instance: i64,
    /// Of the user.
    pub user: i64,
    /// Of the tenant, where the session is bound to one.
    pub tenant: Option<i64>,
    /// Of the membership; none for a superuser who is no member.
    pub membership: Option<i64>,
}

/// The end user's device, as the backend tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// IP address in text form.
    pub ip_address: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// The name that the user knows it by.
    pub device_name: Option<String>,
}

/// A login, from its opening to its end.
#[derive(Clone, Debug)]
pub struct Session {
    /// New for every authentication.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The tenant that it is bound to.
    pub tenant_id: Option<TenantId>,
    /// The client whose refresh tokens it answers.
    pub client_id: String,
    /// The permissions that it is capped to; empty for no cap.
    pub scope: String,
    /// How the person proved who they are (RFC 8176), separated by spaces.
    pub amr: String,
    /// What it was opened under.
    pub epochs: Epochs,
    /// Good for changing the password only.
    pub must_change: bool,
    /// When the login happened.
    pub created_at: Timestamp,
    /// The last login or refresh.
    pub last_seen_at: Timestamp,
    /// When it ends unless it is refreshed.
    pub idle_expires_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// The device.
    pub device: Device,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
    /// How often its refresh token was moved on.
    pub refresh_generation: u32,
    /// SHA-256 of the current refresh secret; none where the session has no refresh token.
    pub refresh_digest: Option<Vec<u8>>,
    /// When the refresh token was last moved on.
    pub rotated_at: Timestamp,
}

impl From<entity::Model> for Session {
    fn from(row: entity::Model) -> Self {
        Self {
            id: SessionId::from_uuid(row.id),
            user_id: UserId::from_uuid(row.user_id),
            tenant_id: row.tenant_id.map(TenantId::from_uuid),
            client_id: row.client_id,
            scope: row.scope,
            amr: row.amr,
            epochs: Epochs {
                instance: row.instance_epoch,
                user: row.user_epoch,
                tenant: row.tenant_epoch,
                membership: row.membership_epoch,
            },
            must_change: row.must_change,
            created_at: Timestamp::from_unix(row.created_at),
            last_seen_at: Timestamp::from_unix(row.last_seen_at),
            idle_expires_at: Timestamp::from_unix(row.idle_expires_at),
            expires_at: Timestamp::from_unix(row.expires_at),
            device: Device { ip_address: row.ip_address, user_agent: row.user_agent, device_name: row.device_name },
            revoked_at: row.revoked_at.map(Timestamp::from_unix),
            // A generation outside u32 is no token's: it can never match.
            refresh_generation: u32::try_from(row.refresh_generation).unwrap_or(u32::MAX),
            refresh_digest: row.refresh_digest,
            rotated_at: Timestamp::from_unix(row.rotated_at),
        }
    }
}

/// The session of that id.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find(db: &impl Db, id: SessionId) -> Result<Option<Session>> {
    let row = entity::Entity::find_by_id(id.as_uuid()).one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(row.map(Session::from))
}

/// Opens a session.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn insert(tx: &Tx, session: Session) -> Result<()> {
    let row = entity::ActiveModel {
        id: Set(session.id.as_uuid()),
        user_id: Set(session.user_id.as_uuid()),
        tenant_id: Set(session.tenant_id.map(|id| id.as_uuid())),
        client_id: Set(session.client_id),
        scope: Set(session.scope),
        amr: Set(session.amr),
        instance_epoch: Set(session.epochs.instance),
        user_epoch: Set(session.epochs.user),
        tenant_epoch: Set(session.epochs.tenant),
        membership_epoch: Set(session.epochs.membership),
        must_change: Set(session.must_change),
        created_at: Set(session.created_at.as_unix()),
        last_seen_at: Set(session.last_seen_at.as_unix()),
        idle_expires_at: Set(session.idle_expires_at.as_unix()),
        expires_at: Set(session.expires_at.as_unix()),
        ip_address: Set(session.device.ip_address),
        user_agent: Set(session.device.user_agent),
        device_name: Set(session.device.device_name),
        revoked_at: Set(None),
        revoked_reason: Set(None),
        refresh_generation: Set(i64::from(session.refresh_generation)),
        refresh_digest: Set(session.refresh_digest),
        rotated_at: Set(session.rotated_at.as_unix()),
    };
    row.insert(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}

/// Ends a session. Answers whether it was live: only the first call of many does.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn revoke(tx: &Tx, id: SessionId, reason: &'static str, now: Timestamp) -> Result<bool> {
    mark_revoked(
        tx,
        reason,
        now,
        Condition::all().add(entity::Column::Id.eq(id.as_uuid())).add(entity::Column::ExpiresAt.gt(now.as_unix())),
    )
    .await
}

/// Ends a session also where it is past its time, by whatever clock. Answers whether it was not ended before.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn revoke_late_or_not(tx: &Tx, id: SessionId, reason: &'static str, now: Timestamp) -> Result<bool> {
    mark_revoked(tx, reason, now, Condition::all().add(entity::Column::Id.eq(id.as_uuid()))).await
}

/// Ends a session of a user, also where it is past its time. Answers whether there was one that was not ended before.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn revoke_own(tx: &Tx, user: UserId, id: SessionId, reason: &'static str, now: Timestamp) -> Result<bool> {
    let own = Condition::all().add(entity::Column::Id.eq(id.as_uuid())).add(entity::Column::UserId.eq(user.as_uuid()));
    mark_revoked(tx, reason, now, own).await
}

/// Ends the live sessions of a user but the `keep` newest; answers those that ended.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn revoke_oldest(tx: &Tx, user: UserId, keep: u32, reason: &'static str, now: Timestamp) -> Result<Vec<Session>> {
    let mut oldest = facts::live_ids(Whose::User(user), now);
    oldest
        .order_by(("s", entity::Column::CreatedAt), Order::Desc)
        .order_by(("s", entity::Column::Id), Order::Desc)
        // One of the databases knows no offset without a limit.
        .limit(i64::MAX.unsigned_abs())
        .offset(u64::from(keep));
    mark_picked(tx, oldest, reason, now).await
}

/// Ends every session of a user but one that was live at `since` or later; answers those that ended.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn revoke_others(
    tx: &Tx,
    user: UserId,
    kept: SessionId,
    since: Timestamp,
    reason: &'static str,
    now: Timestamp,
) -> Result<Vec<Session>> {
    let mut others = facts::live_ids(Whose::User(user), since);
    others.and_where(Expr::col(("s", entity::Column::Id)).ne(kept.as_uuid()));
    mark_picked(tx, others, reason, now).await
}

/// Ends the sessions of a user that are bound to a tenant without a membership, as those of superusers are; answers how many there were.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn revoke_of_no_member(tx: &Tx, user: UserId, tenant: TenantId, reason: &'static str, now: Timestamp) -> Result<u64> {
    let which = Condition::all()
        .add(entity::Column::UserId.eq(user.as_uuid()))
        .add(entity::Column::TenantId.eq(tenant.as_uuid()))
        .add(entity::Column::MembershipEpoch.is_null());
    mark(tx, reason, now, which).await
}

/// Ends the sessions that a statement picks, unless they were ended meanwhile.
async fn mark_picked(tx: &Tx, picked: SelectStatement, reason: &'static str, now: Timestamp) -> Result<Vec<Session>> {
    let update = Query::update()
        .table(entity::Entity)
        .value(entity::Column::RevokedAt, now.as_unix())
        .value(entity::Column::RevokedReason, reason)
        .and_where(entity::Column::Id.in_subquery(picked))
        .and_where(entity::Column::RevokedAt.is_null())
        .returning_all()
        .to_owned();
    let rows = tx.executor().query_all(&update).await.map_err(|e| errors::from_db(&e))?;
    let ended = rows.iter().map(|row| entity::Model::from_query_result(row, "").map(Session::from));
    ended.collect::<std::result::Result<_, _>>().map_err(|e| errors::from_db(&e))
}

async fn mark_revoked(tx: &Tx, reason: &'static str, now: Timestamp, which: Condition) -> Result<bool> {
    mark(tx, reason, now, which).await.map(|changed| changed == 1)
}

async fn mark(tx: &Tx, reason: &'static str, now: Timestamp, which: Condition) -> Result<u64> {
    let changed = entity::Entity::update_many()
        .col_expr(entity::Column::RevokedAt, Expr::val(now.as_unix()))
        .col_expr(entity::Column::RevokedReason, Expr::val(reason))
        .filter(which)
        .filter(entity::Column::RevokedAt.is_null())
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    Ok(changed.rows_affected)
}
