//! The table `users`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub external_id: Option<String>,
    pub email: Option<String>,
    pub email_canonical: Option<String>,
    pub username: Option<String>,
    pub username_canonical: Option<String>,
    pub full_name: String,
    pub given_name: String,
    pub family_name: String,
    pub state: String,
    pub superuser: bool,
    pub email_verified: bool,
    pub attributes: Json,
    pub epoch: i64,
    pub revision: i64,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
