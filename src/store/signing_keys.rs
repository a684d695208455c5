//! Signing keys. The private half is sealed before it comes here.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{Db, Tx, entity::signing_key as entity, errors};
use crate::{
    error::Result,
    values::{ids::SigningKeyId, time::Timestamp},
};

/// Where a signing key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, does not sign yet.
    Pending,
    /// Signs.
    Active,
    /// Verifies what it signed.
    Retired,
    /// Compromised, removed or unknown to this version: not used for anything.
    Unusable,
}

impl KeyState {
    const ACTIVE: &str = "active";

    fn parse(word: &str) -> Self {
        match word {
            "pending" => Self::Pending,
            Self::ACTIVE => Self::Active,
            "retired" => Self::Retired,
            _ => Self::Unusable,
        }
    }
}

/// A signing key as it is stored.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The row's id; the sealed key is bound to it.
    pub id: SigningKeyId,
    /// The key id in token headers, an RFC 7638 thumbprint.
    pub kid: String,
    /// The JWS algorithm.
    pub algorithm: String,
    /// Where it stands.
    pub state: KeyState,
    /// The sealed PKCS#8 private key.
    pub sealed_private_key: Vec<u8>,
}

impl From<entity::Model> for SigningKey {
    fn from(row: entity::Model) -> Self {
        Self {
            id: SigningKeyId::from_uuid(row.id),
            kid: row.kid,
            algorithm: row.algorithm,
            state: KeyState::parse(&row.state),
            sealed_private_key: row.sealed_private_key,
        }
    }
}

/// All keys that are good for anything, oldest first.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn list(db: &impl Db) -> Result<Vec<SigningKey>> {
    let query = entity::Entity::find()
        .filter(entity::Column::State.is_in(["pending", KeyState::ACTIVE, "retired"]))
        .order_by_asc(entity::Column::Id);
    let rows = query.all(&db.executor()).await.map_err(|e| errors::from_db(&e))?;
    Ok(rows.into_iter().map(SigningKey::from).collect())
}

/// Stores a new key that signs from now on.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn insert_active(tx: &Tx, key: SigningKey, now: Timestamp) -> Result<()> {
    let row = entity::ActiveModel {
        id: Set(key.id.as_uuid()),
        kid: Set(key.kid),
        algorithm: Set(key.algorithm),
        state: Set(KeyState::ACTIVE.to_owned()),
        sealed_private_key: Set(key.sealed_private_key),
        created_at: Set(now.as_unix()),
        activated_at: Set(Some(now.as_unix())),
        retired_at: Set(None),
        revoked_at: Set(None),
    };
    row.insert(&tx.executor()).await.map(drop).map_err(|e| errors::from_db(&e))
}
