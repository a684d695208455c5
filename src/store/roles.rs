//! Roles of a tenant.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{Db, Tx, entity::role as entity, errors};
use crate::{
    error::{Result, Taken},
    values::{
        ids::{RoleId, TenantId},
        permission::PermissionSet,
        time::Timestamp,
    },
};

/// A role of a tenant.
#[derive(Clone, Debug)]
pub struct Role {
    /// Never reused.
    pub id: RoleId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// 0 to 100.
    pub level: i32,
    /// Born with the tenant; cannot be changed.
    pub system: bool,
    /// Free data, a JSON object.
    pub attributes: serde_json::Value,
    /// What it allows.
    pub permissions: PermissionSet,
}

impl Role {
    /// About how many bytes it takes in memory: most of it is its permissions.
    #[must_use]
    pub fn weight(&self) -> u64 {
        256 + self.permissions.weight() + (self.attributes.to_string().len() + self.description.len()) as u64
    }
}

impl AsRef<PermissionSet> for Role {
    fn as_ref(&self) -> &PermissionSet {
        &self.permissions
    }
}

impl TryFrom<entity::Model> for Role {
    type Error = crate::error::Error;

    fn try_from(row: entity::Model) -> Result<Self> {
        let bad = || errors::bad_row("roles", row.id);
        let texts: Vec<String> = serde_json::from_value(row.permissions.clone()).map_err(|_| bad())?;
        Ok(Self {
            permissions: PermissionSet::parse(&texts).map_err(|_| bad())?,
            id: RoleId::from_uuid(row.id),
            tenant_id: TenantId::from_uuid(row.tenant_id),
            name: row.name,
            description: row.description,
            level: row.level,
            system: row.system,
            attributes: row.attributes,
        })
    }
}

/// What a new role is made of.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// The id.
    pub id: RoleId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// 0 to 100.
    pub level: i32,
    /// Born with the tenant.
    pub system: bool,
    /// What it allows.
    pub permissions: PermissionSet,
    /// When.
    pub now: Timestamp,
}

/// The role of that name in a tenant.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn find_by_name(db: &impl Db, tenant: TenantId, name: &str) -> Result<Option<Role>> {
    let query = entity::Entity::find().filter(entity::Column::TenantId.eq(tenant.as_uuid())).filter(entity::Column::Name.eq(name));
    let row = query.one(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    row.map(Role::try_from).transpose()
}

/// All roles of a tenant, the highest level first.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db, tenant: TenantId) -> Result<Vec<Role>> {
    let query = entity::Entity::find()
        .filter(entity::Column::TenantId.eq(tenant.as_uuid()))
        .order_by_desc(entity::Column::Level)
        .order_by_asc(entity::Column::Name);
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    rows.into_iter().map(Role::try_from).collect()
}

/// Makes a role.
///
/// # Errors
/// [`crate::error::Error::Taken`] where the tenant has one of this name.
pub async fn insert(tx: &Tx, new: NewRole) -> Result<Role> {
    let row = entity::ActiveModel {
        id: Set(new.id.as_uuid()),
        tenant_id: Set(new.tenant_id.as_uuid()),
        name: Set(new.name),
        description: Set(new.description),
        level: Set(new.level),
        system: Set(new.system),
        attributes: Set(serde_json::json!({})),
        permissions: Set(serde_json::json!(new.permissions.to_strings())),
        created_at: Set(new.now.as_unix()),
    };
    // PostgreSQL names the index after both columns.
    let taken = [("roles.name", Taken::RoleName), ("roles.tenant_id_name", Taken::RoleName)];
    row.insert(&tx.executor()).await.map_err(|e| errors::taken(&e, &taken))?.try_into()
}
