//! What a principal may do, once [`super`] has found out: in a tenant, or in the instance as a whole.

use std::sync::Arc;

use super::{Powers, Principal, rights, workload::Workload};
use crate::{
    error::{Error, Result},
    store::{
        memberships::{Membership, MembershipState, Standing},
        roles::Role,
        tenants::{Tenant, TenantState},
    },
    values::permission::{Permission, PermissionSet},
};

/// The level of a tenant's owners.
const OWNER_LEVEL: i32 = 100;

/// A tenant that a subject may act in, and what it may do there. There is no other way to a tenant's data than one of these, and no
/// other way to one than [`super::enter`].
#[derive(Clone, Debug)]
pub struct TenantScope {
    pub(super) tenant: Tenant,
    pub(super) membership: Option<Membership>,
    pub(super) roles: Vec<Role>,
    pub(super) permissions: Arc<PermissionSet>,
    pub(super) superuser: bool,
}

impl TenantScope {
    /// The tenant.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The membership; none for a superuser who is no member.
    #[must_use]
    pub const fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// The epochs of tenant and membership; 0 where there is no membership.
    #[must_use]
    pub fn epochs(&self) -> [i64; 2] {
        [self.tenant.epoch, self.membership.as_ref().map(|membership| membership.epoch).unwrap_or_default()]
    }

    /// The roles that may be shown.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Their names.
    #[must_use]
    pub fn role_names(&self) -> Vec<String> {
        self.roles.iter().map(|role| role.name.clone()).collect()
    }

    /// What the subject may do here by its roles.
    #[must_use]
    pub fn permissions(&self) -> &PermissionSet {
        &self.permissions
    }

    /// The same as it is remembered: what a role allows is in the permissions, and those are shared by all who have the same. They do not
    /// weigh anything here.
    pub(super) fn slim(&self, shared: &mut dyn FnMut(PermissionSet) -> Arc<PermissionSet>) -> Self {
        let slim = |role: &Role| Role { permissions: PermissionSet::default(), description: String::new(), ..role.clone() };
        Self { roles: self.roles.iter().map(slim).collect(), permissions: shared(PermissionSet::clone(&self.permissions)), ..self.clone() }
    }

    /// About how many bytes it takes in memory, but for its permissions, and with what may be long of it on the wire.
    pub(super) fn weight(&self) -> u64 {
        let roles: u64 = self.roles.iter().map(|role| role.weight() + role.attributes.to_string().len() as u64).sum();
        self.tenant.weight() * 2 + roles + self.permissions.text_bytes() as u64
    }

    /// Whether its holder may give this role to others. Nobody gives a role whose level is not below their own, owners excepted, nor a
    /// permission that they do not hold. Answers whether only the superuser flag made it so.
    ///
    /// # Errors
    /// [`Error::GrantExceedsOwn`].
    pub fn may_grant(&self, role: &Role) -> Result<bool> {
        let level = self.roles.iter().map(|role| role.level).max();
        let is_above = level.is_some_and(|level| level > role.level || level >= OWNER_LEVEL);
        let holds = is_above && self.permissions.covers_all(&role.permissions);
        if self.superuser || holds { Ok(!holds) } else { Err(Error::GrantExceedsOwn) }
    }

    /// Whether its holder may do everything here, whatever their roles say.
    #[must_use]
    pub const fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// Whether only the superuser flag let its holder in.
    #[must_use]
    pub const fn is_superuser_access(&self) -> bool {
        self.superuser && self.membership.is_none()
    }

    /// Whether all that is required is there. Answers whether only the superuser flag made it so.
    ///
    /// # Errors
    /// [`Error::PermissionMissing`] with the first one that is, [`Error::RoleMissing`].
    pub fn require(&self, permissions: &[Permission], any_role: &[String]) -> Result<bool> {
        let missing = permissions.iter().find(|permission| !self.permissions.covers(permission));
        let role_held = any_role.is_empty() || self.roles.iter().any(|role| any_role.contains(&role.name));
        match (missing, role_held) {
            _ if self.superuser => Ok(self.membership.is_none() || missing.is_some() || !role_held),
            (Some(permission), _) => Err(Error::PermissionMissing(permission.to_string())),
            (None, false) => Err(Error::RoleMissing),
            (None, true) => Ok(false),
        }
    }
}

/// The right to act on the instance as a whole. There is no other way to what belongs to no tenant.
#[derive(Clone, Debug)]
pub struct InstanceScope {
    /// What its holder may do; none for a superuser, who may do all.
    permissions: Option<PermissionSet>,
}

impl InstanceScope {
    /// The right of whom the token speaks for or, where there is no token, of the workload that calls.
    ///
    /// # Errors
    /// [`Error::TokenMissing`] for nobody, [`Error::SuperuserRequired`], [`Error::PermissionMissing`].
    pub fn of(principal: Option<&Principal>, caller: Option<&Workload>, permission: &Permission) -> Result<Self> {
        let workload = match (principal, caller) {
            (Some(Principal::User(subject)), _) => {
                subject.require_superuser()?;
                return Ok(Self { permissions: None });
            }
            (Some(Principal::ServiceAccount(workload, _)), _) => workload,
            (None, Some(caller)) => caller,
            (None, None) => return Err(Error::TokenMissing),
        };
        if !workload.holds(permission) {
            return Err(Error::PermissionMissing(permission.to_string()));
        }
        Ok(Self { permissions: Some(workload.instance_permissions()) })
    }

    /// Whether it is a superuser's.
    #[must_use]
    pub const fn is_superuser_access(&self) -> bool {
        self.permissions.is_none()
    }

    /// Whether its holder may give these permissions to others: nobody gives what they do not hold.
    ///
    /// # Errors
    /// [`Error::GrantExceedsOwn`].
    pub fn may_grant(&self, permissions: &PermissionSet) -> Result<()> {
        let holds = self.permissions.as_ref().is_none_or(|own| own.covers_all(permissions));
        if holds { Ok(()) } else { Err(Error::GrantExceedsOwn) }
    }
}

/// A tenant as answers show it to one of its members.
#[derive(Clone, Debug)]
pub struct TenantView {
    /// The tenant.
    pub tenant: Tenant,
    /// Where the subject's membership stands; none for a superuser who is no member.
    pub membership: Option<MembershipState>,
    /// The roles that may be shown.
    pub roles: Vec<Role>,
    /// What the subject may do.
    pub permissions: PermissionSet,
}

impl TenantView {
    /// An entry of a list. Where tenant or membership is not active there are no rights to show, whoever forgets to look at the state.
    #[must_use]
    pub fn listed(standing: Standing, powers: &Powers) -> Self {
        let membership = standing.membership.map(|membership| membership.state);
        let usable = standing.tenant.state == TenantState::Active && membership == Some(MembershipState::Active);
        let (roles, permissions) = rights(if usable { standing.roles } else { Vec::new() }, powers.cap.as_ref());
        Self { tenant: standing.tenant, membership, roles, permissions }
    }
}

impl TenantView {
    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.tenant.weight() + self.roles.iter().map(Role::weight).sum::<u64>() * 2
    }
}

impl From<&TenantScope> for TenantView {
    fn from(scope: &TenantScope) -> Self {
        let TenantScope { tenant, membership, roles, permissions, .. } = scope;
        let membership = membership.as_ref().map(|membership| membership.state);
        Self { tenant: tenant.clone(), membership, roles: roles.clone(), permissions: PermissionSet::clone(permissions) }
    }
}

/// What a request demands beside a good token.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// All of these.
    pub permissions: Vec<Permission>,
    /// One of these, if there are any.
    pub any_role: Vec<String>,
    /// The subject is a superuser.
    pub superuser: bool,
}

impl Requirements {
    /// Whether they need a tenant to be judged in.
    #[must_use]
    pub const fn need_tenant(&self) -> bool {
        !self.permissions.is_empty() || !self.any_role.is_empty()
    }
}
