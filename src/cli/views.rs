//! What of each noun is shown. Fields have the names, and the order, of the proto; what is not set is `null`.

use serde::Serialize;

use super::output::{self, View};
use crate::{
    domain::{service_accounts::Details, users::PasswordState},
    store::{
        memberships::Membership,
        roles::Role,
        service_account_secrets::AccountSecret,
        service_accounts::ServiceAccount,
        tenants::Tenant,
        users::{User, UserState},
    },
};

/// A user.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of doorward.v1.User")]
pub struct UserView {
    pub id: String,
    pub external_id: Option<String>,
    pub email: Option<String>,
    pub username: Option<String>,
    pub full_name: String,
    pub given_name: String,
    pub family_name: String,
    pub state: &'static str,
    pub superuser: bool,
    pub email_verified: bool,
    pub create_time: String,
    pub attributes: serde_json::Value,
    /// How the password stands, where it was asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub credential: Option<PasswordView>,
    /// A password that was made for the user, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// How a user's password stands.
#[derive(Debug, Serialize)]
pub struct PasswordView {
    /// Whether there is one.
    pub has_password: bool,
    /// Whether it must be changed before anything else.
    pub must_change: bool,
    /// Whether it no longer logs in.
    pub reset_required: bool,
}

impl From<PasswordState> for PasswordView {
    fn from(state: PasswordState) -> Self {
        Self {
            has_password: state != PasswordState::Absent,
            must_change: state == PasswordState::MustChange,
            reset_required: state == PasswordState::ResetRequired,
        }
    }
}

impl From<&User> for UserView {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            external_id: user.external_id.clone(),
            email: user.email.clone(),
            username: user.username.clone(),
            full_name: user.full_name.clone(),
            given_name: user.given_name.clone(),
            family_name: user.family_name.clone(),
            state: user.state.as_str(),
            superuser: user.superuser,
            email_verified: user.email_verified,
            create_time: user.created_at.to_string(),
            attributes: user.attributes.clone(),
            credential: None,
            password: None,
        }
    }
}

impl View for UserView {
    const PLURAL: &'static str = "users";
    const COLUMNS: &'static [&'static str] = &["ID", "E-MAIL", "USER NAME", "FULL NAME", "STATE", "SUPERUSER"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.email.clone().unwrap_or_default(),
            self.username.clone().unwrap_or_default(),
            self.full_name.clone(),
            self.state.to_owned(),
            yes(self.superuser),
        ]
    }
}

/// What a user is called in a sentence.
#[must_use]
pub fn user_name(user: &User) -> String {
    match user.email.as_ref().or(user.username.as_ref()) {
        Some(name) => output::quoted(name),
        None if user.state == UserState::Deleted => format!("{} (deleted)", user.id),
        None => user.id.to_string(),
    }
}

/// A tenant.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of doorward.v1.TenantMembership, as far as they are the tenant's")]
pub struct TenantView {
    pub id: String,
    pub external_id: Option<String>,
    pub slug: String,
    pub name: String,
    pub tax_id: Option<String>,
    pub state: &'static str,
    pub seat_limit: Option<i32>,
    pub create_time: String,
    /// Lifetimes of its own, in seconds, and whatever else is stored there.
    pub policy: serde_json::Value,
}

impl From<&Tenant> for TenantView {
    fn from(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            external_id: tenant.external_id.clone(),
            slug: tenant.slug.clone(),
            name: tenant.name.clone(),
            tax_id: tenant.tax_id.clone(),
            state: tenant.state.as_str(),
            seat_limit: tenant.seat_limit,
            create_time: tenant.created_at.to_string(),
            policy: tenant.policy.clone(),
        }
    }
}

impl View for TenantView {
    const PLURAL: &'static str = "tenants";
    const COLUMNS: &'static [&'static str] = &["ID", "SLUG", "NAME", "TAX ID", "EXTERNAL ID", "STATE", "SEATS"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.slug.clone(),
            self.name.clone(),
            self.tax_id.clone().unwrap_or_default(),
            self.external_id.clone().unwrap_or_default(),
            self.state.to_owned(),
            self.seat_limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string()),
        ]
    }
}

/// A role.
#[derive(Debug, Serialize)]
pub struct RoleView {
    /// Its id.
    pub id: String,
    /// Unique in its tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// 0 to 100.
    pub level: i32,
    /// Whether it came with the tenant and cannot be changed.
    pub system: bool,
    /// What it allows.
    pub permissions: Vec<String>,
}

impl From<&Role> for RoleView {
    fn from(role: &Role) -> Self {
        Self {
            id: role.id.to_string(),
            name: role.name.clone(),
            description: role.description.clone(),
            level: role.level,
            system: role.system,
            permissions: role.permissions.to_strings(),
        }
    }
}

impl View for RoleView {
    const PLURAL: &'static str = "roles";
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "LEVEL", "SYSTEM", "PERMISSIONS"];

    fn row(&self) -> Vec<String> {
        vec![self.id.clone(), self.name.clone(), self.level.to_string(), yes(self.system), self.permissions.join(" ")]
    }
}

/// A member of a tenant.
#[derive(Debug, Serialize)]
pub struct MemberView {
    /// The membership's id.
    pub id: String,
    /// The tenant's id.
    pub tenant_id: String,
    /// Where the membership stands.
    pub membership_state: &'static str,
    /// Who it is.
    pub user: UserView,
    /// With which roles, the highest first.
    pub roles: Vec<RoleView>,
}

impl MemberView {
    /// From what the store knows of a member.
    #[must_use]
    pub fn new(membership: &Membership, user: &User, roles: &[Role]) -> Self {
        Self {
            id: membership.id.to_string(),
            tenant_id: membership.tenant_id.to_string(),
            membership_state: membership.state.as_str(),
            user: UserView::from(user),
            roles: roles.iter().map(RoleView::from).collect(),
        }
    }
}

impl View for MemberView {
    const PLURAL: &'static str = "members";
    const COLUMNS: &'static [&'static str] = &["USER ID", "E-MAIL", "USER NAME", "FULL NAME", "USER", "MEMBERSHIP", "ROLES"];

    fn row(&self) -> Vec<String> {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.name.as_str()).collect();
        vec![
            self.user.id.clone(),
            self.user.email.clone().unwrap_or_default(),
            self.user.username.clone().unwrap_or_default(),
            self.user.full_name.clone(),
            self.user.state.to_owned(),
            self.membership_state.to_owned(),
            roles.join(", "),
        ]
    }
}

/// A service account.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of doorward.v1.ServiceAccount and ServiceAccountDetails")]
pub struct AccountView {
    pub id: String,
    pub name: String,
    pub tenant_id: Option<String>,
    pub state: &'static str,
    pub create_time: String,
    /// What it may do and what proves it, where that was read.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub rights: Option<AccountRightsView>,
    /// A secret that was made for it, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

/// What a service account may do and what proves it.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of doorward.v1.ServiceAccountDetails")]
pub struct AccountRightsView {
    pub roles: Vec<RoleView>,
    pub permissions: Vec<String>,
    pub certificate_names: Vec<String>,
    pub secrets: Vec<AccountSecretView>,
}

/// What is known of a secret of a service account.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of doorward.v1.ServiceAccountSecret")]
pub struct AccountSecretView {
    pub id: String,
    pub create_time: String,
    pub expire_time: Option<String>,
    pub last_used_time: Option<String>,
}

impl From<&AccountSecret> for AccountSecretView {
    fn from(secret: &AccountSecret) -> Self {
        Self {
            id: secret.id.to_string(),
            create_time: secret.created_at.to_string(),
            expire_time: secret.expires_at.map(|time| time.to_string()),
            last_used_time: secret.last_used_at.map(|time| time.to_string()),
        }
    }
}

impl From<&ServiceAccount> for AccountView {
    fn from(account: &ServiceAccount) -> Self {
        Self {
            id: account.id.to_string(),
            name: account.name.clone(),
            tenant_id: account.tenant_id.map(|id| id.to_string()),
            state: account.state.as_str(),
            create_time: account.created_at.to_string(),
            rights: None,
            client_secret: None,
        }
    }
}

impl From<&Details> for AccountView {
    fn from(details: &Details) -> Self {
        let rights = AccountRightsView {
            roles: details.roles.iter().map(RoleView::from).collect(),
            permissions: details.account.permissions.to_strings(),
            certificate_names: details.certificate_names.clone(),
            secrets: details.secrets.iter().map(AccountSecretView::from).collect(),
        };
        Self { rights: Some(rights), ..Self::from(&details.account) }
    }
}

impl AccountView {
    /// The same with a secret to show.
    #[must_use]
    pub fn with_secret(self, secret: &str) -> Self {
        Self { client_secret: Some(secret.to_owned()), ..self }
    }
}

impl View for AccountView {
    const PLURAL: &'static str = "service_accounts";
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "STATE", "ROLES", "PERMISSIONS", "SECRETS", "CERTIFICATES"];

    fn row(&self) -> Vec<String> {
        let rights = self.rights.as_ref();
        let roles: Vec<&str> = rights.iter().flat_map(|rights| &rights.roles).map(|role| role.name.as_str()).collect();
        let count =
            |length: fn(&AccountRightsView) -> usize| rights.map(length).filter(|&n| n > 0).map(|n| n.to_string()).unwrap_or_default();
        vec![
            self.id.clone(),
            self.name.clone(),
            self.state.to_owned(),
            roles.join(", "),
            rights.map(|rights| rights.permissions.join(" ")).unwrap_or_default(),
            count(|rights| rights.secrets.len()),
            count(|rights| rights.certificate_names.len()),
        ]
    }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes".to_owned() } else { String::new() }
}
