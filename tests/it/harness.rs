//! A whole service in a test, in one call: a real server on free ports, real clients, a clock that the test moves, and a database of its
//! own on SQLite or PostgreSQL.
//!
//! ```text
//! on_both! {
//!     async fn a_rule_in_words(world: World) {
//!         let ann = world.person("ann@example.com").create().await;     // given
//!         let answer = world.login("ann@example.com", PASSWORD).await;  // when
//!         assert_eq!(...);                                              // then
//!     }
//! }
//! ```
//!
//! `on_both!` makes two tests of a scenario, `…::sqlite` and `…::postgres`; the second passes with a note where PostgreSQL's server
//! programs are not found, and fails so in CI.
//!
//! | for | there is |
//! |---|---|
//! | several servers over one database, in this process or as real processes | [`replicas`] |
//! | one real process, killed and started again | [`process`] |
//! | a database that is slow, cut or gone without a word | [`proxy`] |
//! | what clients were told, and whether it holds afterwards | [`ledger`], [`holder`], [`told`] |

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward::{
    app::App,
    config::Config,
    domain::{self, audit::Actor},
    pb::v1::{self, auth_service_client::AuthServiceClient},
    server::{Server, Stop, tls::Reload},
    store::{feed::Feed, tenants::Tenant, users::User},
    values::{
        entropy::Entropy,
        secret::{self, Password},
        time::{Clock, Timestamp},
    },
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

pub mod holder;
pub mod ledger;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod replicas;
pub mod told;

pub use replicas::{Replicas, Serves};

/// A good password.
pub const PASSWORD: &str = "correct horse battery staple";
/// The time at which every world begins.
pub const START: i64 = 1_800_000_000;

/// The database of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// Makes two tests of one scenario.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($world: $crate::harness::World) $body

            #[test]
            fn sqlite() {
                $crate::harness::run($crate::harness::Backend::Sqlite, scenario);
            }

            #[test]
            fn postgres() {
                $crate::harness::run($crate::harness::Backend::Postgres, scenario);
            }
        }
    )+};
}

/// Runs a scenario in a world of its own.
pub fn run<F, Fut>(backend: Backend, scenario: F)
where
    F: FnOnce(World) -> Fut,
    Fut: Future<Output = ()>,
{
    if backend == Backend::Postgres && postgres::cluster().is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { scenario(World::start(backend).await).await });
}

/// One running replica.
pub struct Replica {
    pub app: Arc<App>,
    pub grpc_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub ops_addr: SocketAddr,
    /// Asks the server to look at its TLS files.
    pub reload: Reload,
    stop: watch::Sender<Stop>,
    running: JoinHandle<usize>,
}

impl Replica {
    /// Starts a server from a configuration.
    pub async fn start(config: Config, clock: Clock) -> Self {
        let (stop, told) = watch::channel(Stop::Run);
        let reload = Reload::default();
        let server = Server::bind(&config, told).await.unwrap().reload_on(reload.clone());
        let (grpc_addr, http_addr, ops_addr) = (server.grpc_addr(), server.http_addr(), server.ops_addr());
        let app = Arc::new(domain::start::open(config, clock, Entropy::system()).await.unwrap());
        let running = tokio::spawn(server.run(Arc::clone(&app)));
        Self { app, grpc_addr, http_addr, ops_addr, reload, stop, running }
    }

    /// A channel to it.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc_addr)).unwrap().connect_lazy()
    }

    /// A client of it.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel())
    }

    /// Stops it cleanly and answers how many connections were cut.
    pub async fn stop(self) -> usize {
        self.stop.send_replace(Stop::Drain);
        self.running.await.unwrap()
    }
}

/// A database, a clock, and one replica; more can be started.
pub struct World {
    pub backend: Backend,
    pub clock: Clock,
    pub config: Config,
    pub replica: Replica,
    folder: TempDir,
    /// Whether there are or were other replicas, which this one hears of a little later.
    has_others: AtomicBool,
}

impl World {
    /// A world on a new database.
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// A world whose configuration differs.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Clock::manual(Timestamp::from_unix(START));
        let mut config = test_config(backend, &folder);
        change(&mut config);
        let replica = Replica::start(config.clone(), clock.clone()).await;
        Self { backend, clock, config, replica, folder, has_others: AtomicBool::new(false) }
    }

    /// The same world with another configuration: the server is stopped and started again on the same database.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self.replica.stop().await;
        let replica = Replica::start(self.config.clone(), self.clock.clone()).await;
        Self { replica, ..self }
    }

    /// The same world with a server that reads nothing by itself while a test counts statements.
    pub async fn quiet(self) -> Self {
        let world = self.restart_with(|config| config.freshness.max_staleness = Duration::from_hours(1)).await;
        // What was remembered before the first look is forgotten with it.
        crate::life::eventually("a replica that follows the changes", async || world.app().store.feed().is_followed()).await;
        world
    }

    /// One more replica on the same database, with the same clock.
    pub async fn another_replica(&self) -> Replica {
        self.has_others.store(true, Ordering::Relaxed);
        Replica::start(self.config.clone(), self.clock.clone()).await
    }

    /// The folder of the world's files.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// The service's parts, for givens.
    pub fn app(&self) -> &App {
        &self.replica.app
    }

    /// A client of the replica.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        self.replica.client()
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// A person with [`PASSWORD`].
    pub async fn person(&self, email: &str) -> User {
        self.new_person(Person { email: Some(email), ..Person::default() }).await
    }

    /// A superuser with [`PASSWORD`].
    pub async fn superuser(&self, email: &str) -> User {
        self.new_person(Person { email: Some(email), superuser: true, ..Person::default() }).await
    }

    /// Any person.
    pub async fn new_person(&self, person: Person<'_>) -> User {
        let request = domain::users::NewUserRequest {
            email: person.email.map(str::to_owned),
            username: person.username.map(str::to_owned),
            full_name: person.full_name.to_owned(),
            superuser: person.superuser,
            password: person.password.map(|password| (Password::new(password.to_owned()), person.must_change)),
        };
        domain::users::create(self.app(), request, cli()).await.unwrap()
    }

    /// A tenant.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        let request = domain::tenants::NewTenantRequest {
            slug: slug.to_owned(),
            name: format!("The {slug} company"),
            tax_id: Some(format!("{slug}-76.123.456-7")),
            external_id: Some(format!("crm-{slug}")),
            seat_limit: None,
        };
        domain::tenants::create(self.app(), request, cli()).await.unwrap()
    }

    /// A role of a tenant.
    pub async fn role(&self, tenant: &Tenant, name: &str, permissions: &[&str]) {
        let request = domain::roles::NewRoleRequest {
            name: name.to_owned(),
            level: 10,
            permissions: permissions.iter().map(|&p| p.to_owned()).collect(),
            description: String::new(),
        };
        domain::roles::create(self.app(), tenant, request, cli()).await.unwrap();
    }

    /// Makes a user a member.
    pub async fn member(&self, tenant: &Tenant, user: &User, roles: &[&str]) {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        domain::memberships::add(self.app(), tenant, user, roles, cli()).await.unwrap();
    }

    /// Logs in over the wire.
    pub async fn try_login(&self, identifier: &str, password: &str, tenant_id: &str) -> Result<v1::LoginResponse, Status> {
        let request = v1::LoginRequest {
            identifier: identifier.to_owned(),
            password: password.to_owned(),
            tenant_id: tenant_id.to_owned(),
            client_info: None,
        };
        self.client().login(request).await.map(tonic::Response::into_inner)
    }

    /// Logs in over the wire with [`PASSWORD`]; answers the tokens.
    pub async fn login(&self, identifier: &str) -> v1::TokenSet {
        self.try_login(identifier, PASSWORD, "").await.unwrap().tokens.unwrap()
    }

    /// The same, bound to a tenant.
    pub async fn login_to(&self, identifier: &str, tenant: &Tenant) -> v1::TokenSet {
        self.try_login(identifier, PASSWORD, &tenant.id.to_string()).await.unwrap().tokens.unwrap()
    }

    /// Asks about a token over the wire: from memory where this replica alone can have changed anything, else by what the database has.
    pub async fn validate(&self, access_token: &str) -> Result<v1::ValidateSessionResponse, Status> {
        let has_others = self.has_others.load(Ordering::Relaxed);
        let freshness = if has_others { v1::Freshness::Latest } else { v1::Freshness::Bounded }.into();
        self.validate_with(v1::ValidateSessionRequest { access_token: access_token.to_owned(), freshness, ..Default::default() }).await
    }

    /// Asks anything about a token over the wire.
    pub async fn validate_with(&self, request: v1::ValidateSessionRequest) -> Result<v1::ValidateSessionResponse, Status> {
        self.client().validate_session(request).await.map(tonic::Response::into_inner)
    }

    /// Refreshes over the wire.
    pub async fn refresh(&self, refresh_token: &str) -> Result<v1::TokenSet, Status> {
        refresh_with(&mut self.client(), refresh_token).await
    }

    /// Changes a password over the wire.
    pub async fn change_password(&self, access_token: &str, current: &str, new: &str) -> Result<v1::ChangePasswordResponse, Status> {
        let request = v1::ChangePasswordRequest { current_password: current.to_owned(), new_password: new.to_owned(), client_info: None };
        self.client().change_password(bearer(request, access_token)).await.map(tonic::Response::into_inner)
    }

    /// Ends the session of an access token over the wire.
    pub async fn logout(&self, access_token: &str) -> Result<(), Status> {
        let credential = Some(v1::logout_request::Credential::AccessToken(access_token.to_owned()));
        self.client().logout(v1::LogoutRequest { credential }).await.map(drop)
    }

    /// A connection to the database past the service, for manual SQL.
    pub async fn sql(&self) -> Sql {
        Sql(connection(database_url(&self.config)).await, Some(self.replica.app.store.feed().clone()))
    }

    /// How many audit rows there are of an event.
    pub async fn count_events(&self, event: &str) -> i64 {
        self.sql().await.count(&format!("SELECT count(*) AS n FROM audit_events WHERE event = '{event}'")).await
    }
}

/// What a person is made of; [`PASSWORD`] by default.
pub struct Person<'a> {
    pub email: Option<&'a str>,
    pub username: Option<&'a str>,
    pub full_name: &'a str,
    pub superuser: bool,
    pub password: Option<&'a str>,
    pub must_change: bool,
}

impl Default for Person<'_> {
    fn default() -> Self {
        Self { email: None, username: None, full_name: "Ann Example", superuser: false, password: Some(PASSWORD), must_change: false }
    }
}

/// Connections of a test's own. Without lifetimes: the driver's task that looks over idle ones can go on for ever (`store/connect.rs`).
pub async fn connection(url: impl Into<String>) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.idle_timeout(None).max_lifetime(None);
    Box::pin(Database::connect(options)).await.unwrap()
}

/// A connection for manual SQL. What it changes, the replica of its world has seen when it answers: how long that may take otherwise,
/// is another test's business.
pub struct Sql(pub DatabaseConnection, pub Option<Feed>);

impl Sql {
    /// Runs a statement; answers how many rows it changed.
    pub async fn execute(&self, sql: &str) -> u64 {
        let changed = self.0.execute_raw(Statement::from_string(self.0.get_database_backend(), sql)).await.unwrap().rows_affected();
        if let Some(feed) = &self.1 {
            feed.caught_up(std::time::Instant::now()).await;
        }
        changed
    }

    /// The column `n` of the one row that a query answers.
    pub async fn count(&self, sql: &str) -> i64 {
        let row = self.0.query_one_raw(Statement::from_string(self.0.get_database_backend(), sql)).await.unwrap().unwrap();
        row.try_get("", "n").unwrap()
    }

    /// The rows of a query.
    pub async fn query(&self, sql: &str) -> Vec<sea_orm::QueryResult> {
        self.0.query_all_raw(Statement::from_string(self.0.get_database_backend(), sql)).await.unwrap()
    }
}

/// The configuration of a test: free ports, cheap hashes, a new database.
pub fn test_config(backend: Backend, folder: &TempDir) -> Config {
    let mut config = Config::default();
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    config.server.grpc_addr = any_port;
    config.server.http_addr = any_port;
    config.server.ops_addr = any_port;
    // Below what a configuration may say: the rules are the same, and a test hashes hundreds of times.
    config.passwords.memory_kib = 64;
    config.passwords.iterations = 1;
    config.database.url = match backend {
        Backend::Sqlite => format!("sqlite://{}", folder.path().join("doorward.db").display()).into(),
        Backend::Postgres => {
            config.secrets.root = vec![secret::generate_root(&Entropy::system()).into()];
            postgres::cluster().unwrap().create_database().into()
        }
    };
    config.database.migrate_on_start = Some(true);
    // The clock stands still while a test logs in a hundred times, and which of a second's sessions is the oldest is then chance.
    config.tokens.max_sessions = 10_000;
    config
}

/// The root secret of a world's database, wherever it is.
pub fn root_in_use(world: &World) -> String {
    match world.config.secrets.root.first() {
        Some(root) => root.expose_secret().to_owned(),
        None => std::fs::read_to_string(world.folder().join("doorward.db.key")).unwrap().trim().to_owned(),
    }
}

/// The URL in a configuration.
pub fn database_url(config: &Config) -> String {
    use secrecy::ExposeSecret;
    config.database.url.expose_secret().to_owned()
}

/// Refreshes at any client.
pub async fn refresh_with(client: &mut AuthServiceClient<Channel>, refresh_token: &str) -> Result<v1::TokenSet, Status> {
    let grant = v1::issue_token_request::Grant::RefreshToken(v1::RefreshTokenGrant { refresh_token: refresh_token.to_owned() });
    let request = v1::IssueTokenRequest { grant: Some(grant), ..Default::default() };
    client.issue_token(request).await.map(|answer| answer.into_inner().tokens.unwrap())
}

/// A request with a token in `authorization`.
pub fn bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// Runs a test again in a process of its own, where this is not that process yet, and demands that it passes. Answers whether this is it.
///
/// For what looks at log lines: which ones are made is settled for a process, and other tests of it settle it too.
pub fn is_alone(test: &str) -> bool {
    output_alone(test).is_none()
}

/// The same; answers what that process printed, and nothing in it.
pub fn output_alone(test: &str) -> Option<std::process::Output> {
    const ALONE: &str = "DOORWARD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, "yes").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{test} failed in a process of its own:\n{out}\n{err}");
    Some(output)
}

/// The reason of a refusal, from the trailer; it must be in the details too.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    let trailer =
        status.metadata().get("doorward-reason").unwrap_or_else(|| panic!("no reason in {status:?}")).to_str().unwrap().to_owned();
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (trailer.as_str(), "doorward.dev"));
    assert!(!status.get_details_request_info().unwrap().request_id.is_empty());
    trailer
}

/// The reason of an answer that must be a refusal.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    reason(&answer.expect_err("should have been refused"))
}

/// The actor of givens.
pub fn cli() -> Actor {
    Actor::Cli("test".to_owned())
}
