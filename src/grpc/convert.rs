//! Records → messages, and fields → values. Messages are built here and nowhere else: what is not named here does not leave.

use std::{net::IpAddr, time::Duration};

use prost_types::{Struct, Timestamp as WireTime, Value, value::Kind};
use secrecy::ExposeSecret;

use crate::{
    domain::{
        access::{Principal, TenantScope, TenantView},
        memory::Freshness,
        service_accounts::Details,
        tokens::{self, TokenSet},
    },
    error::{Error, Result},
    pb::v1,
    store::{
        memberships::MembershipState,
        roles::Role,
        service_account_secrets::AccountSecret,
        service_accounts::{AccountState, ServiceAccount},
        sessions::{Device, Session},
        tenants::{Tenant, TenantState},
        users::{User, UserState},
    },
    values::{ids::SessionId, permission::PermissionSet, text, time::Timestamp},
};

const MAX_USER_AGENT: usize = 1024;
const MAX_DEVICE_NAME: usize = 255;
/// 9999-12-31T23:59:59Z, the last that a `Timestamp` may say.
const LAST_SECOND: i64 = 253_402_300_799;

/// The device that a request tells of. Empty fields are told of nothing.
///
/// # Errors
/// [`Error::InvalidField`] below `client_info`.
pub fn device(info: Option<v1::ClientInfo>) -> Result<Device> {
    let info = info.unwrap_or_default();
    let told = |text: String| (!text.is_empty()).then_some(text);
    let limited =
        |field: &str, value: &str, limit| text::text(value, limit).map_err(|e| Error::field(format!("client_info.{field}"), e.to_string()));
    limited("user_agent", &info.user_agent, MAX_USER_AGENT)?;
    limited("device_name", &info.device_name, MAX_DEVICE_NAME)?;
    let ip_address = match told(info.ip_address) {
        // Stored in the one canonical form, so that equal addresses are equal text.
        Some(address) => {
            let parsed: IpAddr = address.parse().map_err(|_| Error::field("client_info.ip_address", "must be an IPv4 or IPv6 address"))?;
            Some(parsed.to_canonical().to_string())
        }
        None => None,
    };
    Ok(Device { ip_address, user_agent: told(info.user_agent), device_name: told(info.device_name) })
}

pub fn token_set(set: TokenSet) -> v1::TokenSet {
    v1::TokenSet {
        access_token: set.access_token.expose_secret().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: seconds(set.expires_in),
        refresh_token: set.refresh_token.map(|token| token.expose_secret().to_owned()).unwrap_or_default(),
        scope: set.scope.map(|scope| scope.to_string()).unwrap_or_default(),
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

pub fn user(user: User) -> v1::User {
    v1::User {
        id: user.id.to_string(),
        external_id: user.external_id.unwrap_or_default(),
        email: user.email.unwrap_or_default(),
        username: user.username.unwrap_or_default(),
        full_name: user.full_name,
        given_name: user.given_name,
        family_name: user.family_name,
        state: match user.state {
            UserState::Active => v1::UserState::Active,
            UserState::Disabled => v1::UserState::Disabled,
            UserState::Deleted => v1::UserState::Deleted,
            UserState::Unknown => v1::UserState::Unspecified,
        }
        .into(),
        superuser: user.superuser,
        email_verified: user.email_verified,
        create_time: Some(time(user.created_at)),
        attributes: Some(object(user.attributes)),
    }
}

pub fn principal(principal: &Principal) -> v1::Principal {
    let kind = match principal {
        Principal::User(subject) => v1::principal::Kind::User(user(subject.user())),
        Principal::ServiceAccount(workload, _) => v1::principal::Kind::ServiceAccount(service_account(workload.account().clone())),
    };
    v1::Principal { kind: Some(kind) }
}

pub fn service_account(account: ServiceAccount) -> v1::ServiceAccount {
    v1::ServiceAccount {
        id: account.id.to_string(),
        name: account.name,
        tenant_id: account.tenant_id.map(|id| id.to_string()).unwrap_or_default(),
        state: match account.state {
            AccountState::Active => v1::ServiceAccountState::Active,
            AccountState::Disabled => v1::ServiceAccountState::Disabled,
            AccountState::Deleted => v1::ServiceAccountState::Deleted,
            AccountState::Unknown => v1::ServiceAccountState::Unspecified,
        }
        .into(),
        create_time: Some(time(account.created_at)),
    }
}

pub fn account_details(details: Details) -> v1::ServiceAccountDetails {
    let Details { account, roles, certificate_names, secrets } = details;
    v1::ServiceAccountDetails {
        permissions: account.permissions.to_strings(),
        service_account: Some(service_account(account)),
        roles: roles.iter().map(role).collect(),
        certificate_names,
        secrets: secrets.iter().map(account_secret).collect(),
    }
}

/// All of a secret but its digest.
pub fn account_secret(secret: &AccountSecret) -> v1::ServiceAccountSecret {
    v1::ServiceAccountSecret {
        id: secret.id.to_string(),
        create_time: Some(time(secret.created_at)),
        expire_time: secret.expires_at.map(time),
        last_used_time: secret.last_used_at.map(time),
    }
}

/// `current` is the session of the token that asks, or the new one of an answer.
pub fn session(session: Session, current: SessionId) -> v1::Session {
    v1::Session {
        id: session.id.to_string(),
        tenant_id: session.tenant_id.map(|id| id.to_string()).unwrap_or_default(),
        client_id: session.client_id,
        create_time: Some(time(session.created_at)),
        last_seen_time: Some(time(session.last_seen_at)),
        idle_expire_time: Some(time(session.idle_expires_at)),
        expire_time: Some(time(session.expires_at)),
        ip_address: session.device.ip_address.unwrap_or_default(),
        user_agent: session.device.user_agent.unwrap_or_default(),
        device_name: session.device.device_name.unwrap_or_default(),
        current: session.id == current,
    }
}

/// The session of the token that asks; a service account has none.
pub fn own_session(principal: &Principal) -> Option<v1::Session> {
    match principal {
        Principal::User(subject) => Some(session(subject.facts.session.clone(), subject.facts.session.id)),
        Principal::ServiceAccount(..) => None,
    }
}

pub fn token_facts(token: &tokens::Presented) -> v1::TokenFacts {
    let claims = &token.claims;
    v1::TokenFacts {
        kind: v1::TokenKind::AccessToken.into(),
        issue_time: Some(time(claims.iat)),
        expire_time: Some(time(claims.exp)),
        auth_time: claims.auth_time.map(time),
        client_id: claims.client_id.clone(),
        tenant_id: claims.tid.map(|id| id.to_string()).unwrap_or_default(),
        audience: claims.aud.clone(),
        scope: claims.scope.clone().unwrap_or_default(),
        custom_claims: None,
    }
}

/// An entry of a list.
fn tenant(view: &TenantView) -> v1::TenantMembership {
    membership(&view.tenant, view.membership, &view.roles, &view.permissions)
}

/// The tenant that somebody may act in.
pub fn entered(scope: &TenantScope) -> v1::TenantMembership {
    membership(scope.tenant(), scope.membership().map(|membership| membership.state), scope.roles(), scope.permissions())
}

fn membership(tenant: &Tenant, state: Option<MembershipState>, roles: &[Role], permissions: &PermissionSet) -> v1::TenantMembership {
    v1::TenantMembership {
        id: tenant.id.to_string(),
        external_id: tenant.external_id.clone().unwrap_or_default(),
        slug: tenant.slug.clone(),
        name: tenant.name.clone(),
        tax_id: tenant.tax_id.clone().unwrap_or_default(),
        state: match tenant.state {
            TenantState::Active => v1::TenantState::Active,
            TenantState::Suspended => v1::TenantState::Suspended,
            TenantState::Deleted => v1::TenantState::Deleted,
            TenantState::Unknown => v1::TenantState::Unspecified,
        }
        .into(),
        seat_limit: tenant.seat_limit,
        membership_state: match state {
            Some(MembershipState::Invited) => v1::MembershipState::Invited,
            Some(MembershipState::Active) => v1::MembershipState::Active,
            Some(MembershipState::Suspended) => v1::MembershipState::Suspended,
            Some(MembershipState::Removed) => v1::MembershipState::Removed,
            Some(MembershipState::Unknown) | None => v1::MembershipState::Unspecified,
        }
        .into(),
        roles: roles.iter().map(role).collect(),
        permissions: permissions.to_strings(),
    }
}

pub fn tenants(views: &[TenantView]) -> Vec<v1::TenantMembership> {
    views.iter().map(tenant).collect()
}

fn role(role: &Role) -> v1::AssignedRole {
    let attributes = Some(object(role.attributes.clone()));
    v1::AssignedRole { id: role.id.to_string(), name: role.name.clone(), level: role.level, attributes }
}

/// A moment, to the millisecond.
pub fn instant(millis: u64) -> WireTime {
    let at = Duration::from_millis(millis);
    let seconds = i64::try_from(at.as_secs()).unwrap_or(LAST_SECOND);
    WireTime { seconds, nanos: (at.subsec_millis() * 1_000_000).cast_signed() }
}

/// A moment.
#[must_use]
pub const fn time(time: Timestamp) -> WireTime {
    WireTime { seconds: time.as_unix(), nanos: 0 }
}

/// The audience that a token must have; empty for the issuer.
///
/// # Errors
/// [`Error::InvalidField`] for what no token could carry.
pub fn audience(audience: &str) -> Result<()> {
    text::text(audience, 512).map_err(|e| Error::field("audience", e.to_string()))
}

/// How current the facts must be.
///
/// # Errors
/// [`Error::InvalidField`] for a number that is none.
pub fn freshness(freshness: i32) -> Result<Freshness> {
    match v1::Freshness::try_from(freshness) {
        Ok(v1::Freshness::Unspecified | v1::Freshness::Bounded) => Ok(Freshness::Bounded),
        Ok(v1::Freshness::Latest) => Ok(Freshness::latest()),
        Err(_) => Err(Error::field("freshness", "is unknown")),
    }
}

/// A moment that a field names, parts of a second cut off.
///
/// # Errors
/// [`Error::InvalidField`] for what the well-known type does not allow.
pub fn moment(field: &str, given: Option<WireTime>) -> Result<Option<Timestamp>> {
    let Some(given) = given else { return Ok(None) };
    let is_good = (0..=LAST_SECOND).contains(&given.seconds) && (0..1_000_000_000).contains(&given.nanos);
    if is_good { Ok(Some(Timestamp::from_unix(given.seconds))) } else { Err(Error::field(field, "must be a time from 1970 to 9999")) }
}

/// A JSON object as a `Struct`; what is no object becomes an empty one.
fn object(json: serde_json::Value) -> Struct {
    match json {
        serde_json::Value::Object(members) => Struct { fields: members.into_iter().map(|(name, member)| (name, value(member))).collect() },
        _ => Struct::default(),
    }
}

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        // A `Struct` has doubles only; larger integers lose their last digits, as everywhere in protobuf JSON.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.into_iter().map(value).collect() }),
        serde_json::Value::Object(_) => Kind::StructValue(object(json)),
    };
    Value { kind: Some(kind) }
}
