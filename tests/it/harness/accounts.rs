//! Service accounts, for givens.

use doorward::{
    pb::v1::{self, issue_token_request::Grant},
    store::{
        roles, service_account_secrets,
        service_account_secrets::AccountSecret,
        service_accounts::{self, NewServiceAccount},
        tenants::Tenant,
    },
    values::{
        ids::{ServiceAccountId, ServiceAccountSecretId},
        opaque::ClientSecret,
        permission::PermissionSet,
    },
};
use secrecy::ExposeSecret;
use tonic::{Request, Status};

use super::World;

/// A service account with a secret.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: ServiceAccountId,
    pub secret: String,
}

impl World {
    /// An account of a tenant, with the roles of those names.
    pub async fn account(&self, tenant: &Tenant, role_names: &[&str]) -> Account {
        self.new_account(Some(tenant), role_names, &[]).await
    }

    /// An instance-wide account.
    pub async fn instance_account(&self, permissions: &[&str]) -> Account {
        self.new_account(None, &[], permissions).await
    }

    async fn new_account(&self, tenant: Option<&Tenant>, role_names: &[&str], permissions: &[&str]) -> Account {
        let app = self.app();
        let (id, now) = (ServiceAccountId::generate(&app.entropy, &app.clock), app.clock.now());
        let secret = ClientSecret::generate(&app.roots, ServiceAccountSecretId::generate(&app.entropy, &app.clock), &app.entropy);
        let new = NewServiceAccount {
            id,
            tenant_id: tenant.map(|tenant| tenant.id),
            name: "A workload".to_owned(),
            permissions: PermissionSet::parse(permissions).unwrap(),
            now,
        };
        let stored = AccountSecret {
            id: secret.id,
            account_id: id,
            digest: secret.digest().to_vec(),
            created_at: now,
            expires_at: None,
            last_used_at: None,
        };
        let names: Vec<String> = role_names.iter().map(|&name| name.to_owned()).collect();
        let unit = |tx, (new, stored, names): (NewServiceAccount, AccountSecret, Vec<String>)| async move {
            let mut ids = Vec::new();
            for name in &names {
                ids.push(roles::find_by_name(&tx, new.tenant_id.unwrap(), name).await?.unwrap().id);
            }
            service_accounts::insert(&tx, new, &ids).await?;
            service_account_secrets::insert(&tx, stored).await
        };
        app.store.write("given_account", (new, stored, names), unit).await.unwrap();
        Account { id, secret: secret.encode(&app.roots).unwrap().expose_secret().to_owned() }
    }

    /// Buys a token with an account's secret over the wire.
    pub async fn buy(&self, account: &Account) -> String {
        self.buy_with(account, |_| {}).await.unwrap().access_token
    }

    /// The same, by any request.
    pub async fn buy_with(&self, account: &Account, change: impl FnOnce(&mut v1::IssueTokenRequest)) -> Result<v1::TokenSet, Status> {
        let grant = v1::ClientCredentialsGrant { client_id: account.id.to_string(), client_secret: account.secret.clone() };
        let mut request = v1::IssueTokenRequest { grant: Some(Grant::ClientCredentials(grant)), ..Default::default() };
        change(&mut request);
        self.client().issue_token(request).await.map(|answer| answer.into_inner().tokens.unwrap())
    }
}

/// The same request by a caller who proves itself with a token.
pub fn called_by<T>(mut request: Request<T>, caller_token: &str) -> Request<T> {
    request.metadata_mut().insert("doorward-caller", format!("Bearer {caller_token}").parse().unwrap());
    request
}
