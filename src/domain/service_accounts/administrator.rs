//! Who administers service accounts, at which place, and what they may give.

use serde_json::Value;

use super::WRITE;
use crate::{
    app::App,
    ctx,
    domain::{
        access::{InstanceScope, TenantScope},
        audit::{self, Actor, Event, Origin},
    },
    error::{Error, Result},
    store::{
        audit_events::Row,
        roles::Role,
        service_accounts::Place,
        tenants::{Tenant, TenantState},
    },
    values::{
        ids::{ServiceAccountId, TenantId},
        permission::{Permission, PermissionSet},
        time::Timestamp,
    },
};

/// Whoever administers, and the place whose service accounts they see. Accounts of other places do not exist for them.
#[derive(Clone, Debug)]
pub struct Administrator {
    right: Right,
    actor: Actor,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Right {
    /// In a tenant.
    Tenant(Box<TenantScope>),
    /// On the instance.
    Instance(InstanceScope),
    /// An operator at the command line, who holds everything.
    Operator(Place),
}

impl Administrator {
    /// Whoever calls.
    #[must_use]
    pub fn calling(place: ctx::Place, actor: Actor, origin: Origin) -> Self {
        let right = match place {
            ctx::Place::Tenant(scope) => Right::Tenant(scope),
            ctx::Place::Instance(scope) => Right::Instance(scope),
        };
        Self { right, actor, origin }
    }

    /// An operator at the command line.
    #[must_use]
    pub fn operator(app: &App, place: Place, actor: Actor) -> Self {
        Self { right: Right::Operator(place), actor, origin: Origin::local(app) }
    }

    /// Where.
    #[must_use]
    pub fn place(&self) -> Place {
        match &self.right {
            Right::Tenant(scope) => Place::Tenant(scope.tenant().id),
            Right::Instance(_) => Place::Instance,
            Right::Operator(place) => *place,
        }
    }

    /// The tenant, where it is one.
    pub(super) fn tenant_id(&self) -> Option<TenantId> {
        match self.place() {
            Place::Tenant(id) => Some(id),
            Place::Instance => None,
        }
    }

    /// The time of the call.
    pub(super) const fn now(&self) -> Timestamp {
        self.origin.time
    }

    /// What page tokens are bound to: whoever asks, and where.
    pub(super) fn binding(&self) -> [Vec<u8>; 4] {
        let (kind, id) = match &self.actor {
            Actor::User(id) => ("user", id.as_bytes().to_vec()),
            Actor::ServiceAccount(id) => ("service_account", id.as_bytes().to_vec()),
            Actor::Cli(name) => ("cli", name.as_bytes().to_vec()),
            Actor::Anonymous(_) | Actor::System => ("", Vec::new()),
        };
        let place = match self.place() {
            Place::Instance => ("instance", Vec::new()),
            Place::Tenant(id) => ("tenant", id.as_bytes().to_vec()),
        };
        [kind.as_bytes().to_vec(), id, place.0.as_bytes().to_vec(), place.1]
    }

    /// Whether they may name certificates that stand for accounts. In a tenant nobody may: whose workloads a certificate's names belong to
    /// is for the instance to say.
    pub(super) fn may_name_certificates(&self) -> Result<()> {
        match self.right {
            Right::Tenant(_) => Err(Error::field("certificate_names", "is for instance-wide accounts: in a tenant an operator names them")),
            Right::Instance(_) | Right::Operator(_) => Ok(()),
        }
    }

    /// Whether they may let an account with these rights act, and so act as it: nobody gives what they do not hold. Answers whether only the
    /// superuser flag made it so.
    ///
    /// # Errors
    /// [`Error::GrantExceedsOwn`].
    pub(super) fn may_give(&self, roles: &[Role], permissions: &PermissionSet) -> Result<bool> {
        match &self.right {
            Right::Tenant(scope) => roles.iter().try_fold(false, |by_flag, role| Ok(scope.may_grant(role)? || by_flag)),
            Right::Instance(scope) => scope.may_grant(permissions).map(|()| scope.is_superuser_access()),
            Right::Operator(_) => Ok(false),
        }
    }

    /// Whether an account may be made in their tenant as it stands now: it may have changed since they were let in.
    pub(super) fn check_tenant(&self, tenant: &Tenant) -> Result<()> {
        let is_operator = matches!(self.right, Right::Operator(_));
        match tenant.state {
            TenantState::Active => Ok(()),
            TenantState::Deleted => Err(if is_operator { Error::NotFound("tenant") } else { Error::NotAMember }),
            TenantState::Suspended | TenantState::Unknown if is_operator => Ok(()),
            TenantState::Suspended | TenantState::Unknown => Err(Error::TenantSuspended),
        }
    }

    /// The event of what they do to an account, ready to be stored.
    ///
    /// # Errors
    /// [`Error::PermissionMissing`]: the right to see accounts is none to change them.
    pub(super) fn event(&self, app: &App, event: Event, account: ServiceAccountId, details: Value) -> Result<Row> {
        let by_flag = match &self.right {
            Right::Tenant(scope) => scope.require(&[Permission::parse(WRITE).map_err(Error::internal)?], &[])?,
            Right::Instance(scope) => scope.is_superuser_access(),
            Right::Operator(_) => false,
        };
        let about =
            audit::About { object_id: Some(account.to_string()), tenant_id: self.tenant_id(), session_id: None, details: Some(details) };
        let mut row = audit::success(app, event, self.actor.clone(), &self.origin, about);
        if by_flag {
            audit::mark_superuser(&mut row);
        }
        Ok(row)
    }
}
