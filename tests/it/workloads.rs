//! Service accounts for tests: made by an operator, with a secret, and what workloads ask for.

use doorward::{
    domain::service_accounts::{self, Administrator, FirstSecret, NewAccount},
    pb::v1::{self, service_account_service_client::ServiceAccountServiceClient},
    store::{service_accounts::Place, tenants::Tenant},
    values::ids::ServiceAccountId,
};
use secrecy::ExposeSecret as _;
use tonic::{Request, Status, transport::Channel};

use crate::{harness::*, probe::Ask};

/// What an instance-wide account needs for administering service accounts.
pub const BOTH: [&str; 2] = ["doorward.service_accounts:read", "doorward.service_accounts:write"];

/// A service account with its first secret.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: String,
    pub secret_id: String,
    pub secret: String,
}

impl Account {
    /// The id that the domain takes.
    pub fn key(&self) -> ServiceAccountId {
        self.id.parse().unwrap()
    }
}

/// An instance-wide account.
pub async fn instance_account(world: &World, permissions: &[&str]) -> Account {
    let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
    new_account(world, None, NewAccount { name: "shop".to_owned(), permissions, ..NewAccount::default() }).await
}

/// An account of a tenant.
pub async fn tenant_account(world: &World, tenant: &Tenant, roles: &[&str]) -> Account {
    let roles = roles.iter().map(|&role| role.to_owned()).collect();
    new_account(world, Some(tenant), NewAccount { name: "robot".to_owned(), roles, ..NewAccount::default() }).await
}

/// Any account.
pub async fn new_account(world: &World, tenant: Option<&Tenant>, new: NewAccount) -> Account {
    let new = NewAccount { secret: Some(FirstSecret::default()), ..new };
    let (details, secret) = service_accounts::create(world.app(), operator(world, tenant), new).await.unwrap();
    let (id, secret_id) = (details.account.id.to_string(), details.secrets[0].id.to_string());
    Account { id, secret_id, secret: secret.unwrap().expose_secret().to_owned() }
}

/// The operator of givens, at a tenant's accounts or at the instance-wide ones.
pub fn operator(world: &World, tenant: Option<&Tenant>) -> Administrator {
    Administrator::operator(world.app(), tenant.map_or(Place::Instance, |tenant| Place::Tenant(tenant.id)), cli())
}

/// A client of the administration.
pub fn accounts(world: &World) -> ServiceAccountServiceClient<Channel> {
    ServiceAccountServiceClient::new(world.replica.channel())
}

/// Exchanges a secret for a token, with every field.
pub async fn credentials(world: &World, client_id: &str, client_secret: &str, ask: Ask<'_>) -> Result<v1::TokenSet, Status> {
    let grant = v1::ClientCredentialsGrant { client_id: client_id.to_owned(), client_secret: client_secret.to_owned() };
    let request = v1::IssueTokenRequest {
        grant: Some(v1::issue_token_request::Grant::ClientCredentials(grant)),
        tenant_id: ask.tenant_id.to_owned(),
        scope: ask.scope.to_owned(),
        audience: ask.audience.iter().map(|&audience| audience.to_owned()).collect(),
        client_info: None,
    };
    world.client().issue_token(request).await.map(|answer| answer.into_inner().tokens.unwrap())
}

/// The token of an account for Doorward itself.
pub async fn token(world: &World, account: &Account) -> String {
    credentials(world, &account.id, &account.secret, Ask::default()).await.unwrap().access_token
}

/// The token of an account for other audiences than Doorward.
pub async fn narrow_token(world: &World, account: &Account) -> String {
    let ask = Ask { audience: &["doorward-clients"], ..Ask::default() };
    credentials(world, &account.id, &account.secret, ask).await.unwrap().access_token
}

/// A request by a calling workload.
pub fn by_caller<T>(message: T, token: &str) -> Request<T> {
    called_by(Request::new(message), token)
}

/// The same, of a request that has other headers.
pub fn called_by<T>(mut request: Request<T>, token: &str) -> Request<T> {
    request.metadata_mut().insert("doorward-caller", format!("Bearer {token}").parse().unwrap());
    request
}
