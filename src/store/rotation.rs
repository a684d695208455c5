//! The one conditional update that moves a session's refresh token on, and what its answer needs.
//!
//! It is written out, once for both databases, since it is the statement that single use depends on: everything that may stop a refresh
//! stands in its WHERE, so that nothing can change between a look and the step. Of many parallel calls at most one matches; the others wait
//! for it and find another generation.
//!
//! What it returns suffices to answer: RETURNING may ask other tables by scalar subqueries, on both databases, and they see the moment
//! that the conditions saw. So an ordinary refresh is this statement and nothing else. Of a session without tenant and scope it is its own
//! transaction ([`rotate_at_once`]): nothing that comes back can fail to be read. Of any other it stands in one ([`rotate`]), which is
//! committed once a tenant's policy and roles were read: a row that was broken by hand must not use the token up.
//!
//! What it costs. PostgreSQL opens every part of a plan, whether a row needs it or not, and that is most of what it does here: its processor
//! time (version 15, ten busy connections on one core) was 46 µs for a bare update of one row, 75 µs beside instance and user, and 105 µs
//! with everything of a tenant. So a session that is bound to none has a statement of its own, which the session's id hints at; no table is
//! asked twice without need; and the connection goes on to the next refresh that waits (`lane.rs`), since giving it back to the pool
//! cost another 25 µs. The server takes 90 to 100 µs for a refresh, where a handler that sends a bare update takes 60. As long as the
//! update named the client, which is announced, the table's trigger compared fifteen columns at every refresh: a tenth of the rate.

use std::time::Duration;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryResult, Statement, Value, sea_query::Expr};
use uuid::Uuid;

use super::{
    Db, Once, Tx,
    entity::session as entity,
    errors,
    sessions::{Epochs, Session},
};
use crate::{
    error::{Error, Result},
    values::{
        ids::{SessionId, TenantId, UserId},
        permission::PermissionSet,
        time::Timestamp,
    },
};

/// One step of a session's chain of refresh tokens.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Which session.
    pub id: SessionId,
    /// The client that presents the token.
    pub client_id: String,
    /// Clients whose sessions become this client's by the step.
    pub takes_over: [Option<String>; 2],
    /// The generation that was presented.
    pub generation: u32,
    /// The digest of the presented secret.
    pub digest: [u8; 32],
    /// The digest of its successor.
    pub successor: [u8; 32],
    /// When.
    pub now: Timestamp,
    /// How long the session may go without a refresh, where its tenant has no word in it.
    pub idle_lifetime: Duration,
}

impl Rotation {
    /// Whether the client may go on with the sessions of that client.
    #[must_use]
    pub fn fits_client(&self, client_id: &str) -> bool {
        self.client_id == client_id || self.takes_over.iter().flatten().any(|taken| taken == client_id)
    }
}

/// What the step found: of the session, what an access token says.
#[derive(Debug)]
pub struct Rotated {
    /// Whose it is.
    pub user_id: UserId,
    /// The tenant that it is bound to.
    pub tenant_id: Option<TenantId>,
    /// The permissions that it is capped to; empty for no cap.
    pub scope: String,
    /// How the person proved who they are.
    pub amr: String,
    /// What it was opened under, and is still good under.
    pub epochs: Epochs,
    /// When the login happened.
    pub created_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// The tenant's own lifetimes, where the session is bound to one: a JSON object.
    pub policy: Option<serde_json::Value>,
    /// The roles in that tenant, the highest level first.
    pub roles: Vec<HeldRole>,
}

/// A role as a token tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRole {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub permissions: PermissionSet,
}

impl AsRef<PermissionSet> for HeldRole {
    fn as_ref(&self) -> &PermissionSet {
        &self.permissions
    }
}

/// The update, but for what it asks about a tenant, and whether the session becomes another client's.
///
/// The client is written only where it changes: it is a fact that the database announces (`migrations`), and an update that names it has
/// every announced column compared.
///
/// Each state and epoch is asked for by a scalar subquery over a key: PostgreSQL then looks rows up, whatever its statistics say; what
/// EXISTS asks for it may also answer by reading a whole table. CASE, because LEAST is spelt differently by the two databases.
macro_rules! rotate {
    (set: $set:literal, idle: $idle_expires_at:literal, of: $client:literal, and: $tenant:literal, policy: $policy:literal, roles: $roles:literal) => {
        concat!(
            "UPDATE sessions SET
                refresh_generation = $2 + 1,
                refresh_digest = $4,
                rotated_at = $6,
                last_seen_at = $6,",
            $set,
            " idle_expires_at = ",
            $idle_expires_at,
            " WHERE id = $1
                AND refresh_generation = $2
                AND refresh_digest = $3
                AND ",
            $client,
            " AND must_change = FALSE
                AND revoked_at IS NULL
                AND idle_expires_at > $6
                AND expires_at > $6
                AND instance_epoch = (SELECT i.epoch FROM instance i)
                AND user_epoch = (SELECT u.epoch FROM users u WHERE u.id = sessions.user_id AND u.state = 'active')
                AND ",
            $tenant,
            " RETURNING user_id, tenant_id, scope, amr, instance_epoch, user_epoch, tenant_epoch, membership_epoch, created_at, expires_at, ",
            $policy,
            ", ",
            $roles,
        )
    };
}

/// Of a session that is bound to no tenant and capped to no scope. PostgreSQL opens every part of a plan, also those that no row needs:
/// without a tenant's tables the statement takes it two thirds of the time.
const ROTATE_PLAIN: &str = rotate!(
    set: "",
    idle: "CASE WHEN expires_at < $6 + $7 THEN expires_at ELSE $6 + $7 END",
    of: "client_id = $5",
    and: "tenant_id IS NULL AND scope = ''",
    policy: "NULL",
    roles: "NULL"
);

/// Of every session. A superuser who is no member has no epoch of a membership (losing the flag moves the user's), and a membership that
/// was suspended since stops them like everybody. Roles are told as `<characters of the name>:<name><permissions>`, one after the other,
/// which can be read in one way only.
macro_rules! rotate_any {
    (set: $set:literal, of: $client:literal) => {
        rotate!(
            set: $set,
            idle: "CASE WHEN tenant_id IS NULL
                THEN CASE WHEN expires_at < $6 + $7 THEN expires_at ELSE $6 + $7 END
                ELSE (SELECT CASE WHEN sessions.expires_at < $6 + COALESCE(CAST(t.policy ->> 'idle_lifetime' AS BIGINT), $7)
                        THEN sessions.expires_at ELSE $6 + COALESCE(CAST(t.policy ->> 'idle_lifetime' AS BIGINT), $7) END
                    FROM tenants t WHERE t.id = sessions.tenant_id)
                END",
            of: $client,
            and: "(tenant_id IS NULL OR (
                tenant_epoch = (SELECT t.epoch FROM tenants t WHERE t.id = sessions.tenant_id AND t.state = 'active')
                AND CASE WHEN membership_epoch IS NULL
                    THEN COALESCE((SELECT m.state FROM memberships m
                        WHERE m.tenant_id = sessions.tenant_id AND m.user_id = sessions.user_id), 'none') <> 'suspended'
                    ELSE membership_epoch = (SELECT m.epoch FROM memberships m
                        WHERE m.tenant_id = sessions.tenant_id AND m.user_id = sessions.user_id AND m.state = 'active')
                    END))",
            policy: "(SELECT t.policy FROM tenants t WHERE t.id = sessions.tenant_id)",
            roles: "CASE WHEN tenant_id IS NOT NULL THEN (
                SELECT string_agg(length(r.name) || ':' || r.name || CAST(r.permissions AS TEXT), '' ORDER BY r.level DESC, r.name)
                FROM memberships m
                    JOIN membership_roles l ON l.membership_id = m.id
                    JOIN roles r ON r.id = l.role_id
                WHERE m.tenant_id = sessions.tenant_id AND m.user_id = sessions.user_id AND m.state = 'active') END"
        )
    };
}

/// Of a client that goes on with a session of its own.
const ROTATE: &str = rotate_any!(set: "", of: "client_id = $5");

/// Of a client that goes on with one of a client that it takes over from.
const TAKE_OVER: &str = rotate_any!(set: " client_id = $5,", of: "client_id IN ($8, $9)");

/// Moves a session's refresh token from the presented generation to the next, if everything still holds: the digest, the client, both
/// expiries, the states and epochs of instance, user, tenant and membership. None where something does not: of many parallel calls at most
/// one moves it.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn rotate(tx: &Tx, step: &Rotation) -> Result<Option<Rotated>> {
    let rotated = run(tx, step.id, ROTATE, values(step)).await?;
    if rotated.is_some() || step.takes_over.iter().all(Option::is_none) {
        return Ok(rotated);
    }
    let taken = step.takes_over.iter().cloned().map(Value::from);
    run(tx, step.id, TAKE_OVER, values(step).into_iter().chain(taken)).await
}

async fn run(tx: &Tx, id: SessionId, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Option<Rotated>> {
    let executor = tx.executor();
    let statement = Statement::from_sql_and_values(executor.get_database_backend(), sql, values);
    let rows = executor.query_all_raw(statement).await.map_err(|e| errors::from_db(&e))?;
    rows.first().map(|row| read(row, id)).transpose()
}

/// The same as a unit of work of its own, of a client's own session without tenant and scope; none for every other.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn rotate_at_once(once: Once, step: &Rotation) -> Result<Option<Rotated>> {
    let rows = once.run(ROTATE_PLAIN, values(step)).await?;
    rows.first().map(|row| read(row, step.id)).transpose()
}

fn values(step: &Rotation) -> Vec<Value> {
    vec![
        step.id.as_uuid().into(),
        i64::from(step.generation).into(),
        step.digest.to_vec().into(),
        step.successor.to_vec().into(),
        step.client_id.clone().into(),
        step.now.as_unix().into(),
        i64::try_from(step.idle_lifetime.as_secs()).unwrap_or(i64::MAX).into(),
    ]
}

/// By position: the statement names the columns one by one.
fn read(row: &QueryResult, id: SessionId) -> Result<Rotated> {
    type Columns =
        (Uuid, Option<Uuid>, String, String, i64, i64, Option<i64>, Option<i64>, i64, i64, Option<serde_json::Value>, Option<String>);
    let columns: Columns = row.try_get_many_by_index().map_err(|_| errors::bad_row("sessions", id))?;
    let (user_id, tenant_id, scope, amr, instance, user, tenant, membership, created_at, expires_at, policy, roles) = columns;
    Ok(Rotated {
        user_id: UserId::from_uuid(user_id),
        tenant_id: tenant_id.map(TenantId::from_uuid),
        scope,
        amr,
        epochs: Epochs { instance, user, tenant, membership },
        created_at: Timestamp::from_unix(created_at),
        expires_at: Timestamp::from_unix(expires_at),
        policy,
        roles: held_roles(roles.as_deref().unwrap_or_default(), id)?,
    })
}

/// Reads what the statement told of the roles.
fn held_roles(mut text: &str, id: SessionId) -> Result<Vec<HeldRole>> {
    let bad = || errors::bad_row("roles", format!("of the session {id}"));
    let mut roles = Vec::new();
    while !text.is_empty() {
        let (length, rest) = text.split_once(':').ok_or_else(bad)?;
        let characters: usize = length.parse().map_err(|_| bad())?;
        let bytes = rest.char_indices().nth(characters).map(|(at, _)| at).ok_or_else(bad)?;
        let (name, rest) = rest.split_at(bytes);
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Vec<String>>();
        let permissions = values.next().and_then(std::result::Result::ok).ok_or_else(bad)?;
        let permissions = PermissionSet::parse(permissions).map_err(|_| bad())?;
        text = rest.get(values.byte_offset()..).ok_or_else(bad)?;
        roles.push(HeldRole { name: name.to_owned(), permissions });
    }
    Ok(roles)
}

/// Makes a session the presenting client's without a step of its chain: its holder comes back for an answer that was lost.
///
/// # Errors
/// [`Error::Conflict`] where the session is not as it was read any more.
pub async fn take_over(tx: &Tx, read: &Session, client_id: &str) -> Result<()> {
    let taken = entity::Entity::update_many()
        .col_expr(entity::Column::ClientId, Expr::val(client_id))
        .filter(entity::Column::Id.eq(read.id.as_uuid()))
        .filter(entity::Column::ClientId.eq(read.client_id.as_str()))
        .filter(entity::Column::RefreshGeneration.eq(i64::from(read.refresh_generation)))
        .filter(entity::Column::RevokedAt.is_null())
        .exec(&tx.executor())
        .await
        .map_err(|e| errors::from_db(&e))?;
    if taken.rows_affected == 1 { Ok(()) } else { Err(Error::Conflict) }
}
