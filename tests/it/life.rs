//! The life of a real server: what it says about itself before, while and after it serves, how it stops, and that its limits are in
//! force. The layer of connections has tests of its own in `connections.rs`; a database that goes away has `away.rs`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use doorward::{
    app::App,
    pb::v1::{self, auth_service_client::AuthServiceClient},
    server::{Server, Stop},
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    harness::*,
    start::{Ground, login_request, on_new, person, run, validate_request},
};

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// Every health name.
const NAMES: [&str; 5] = ["", "readiness", "liveness", "startup", "doorward.v1.AuthService"];

/// A server whose stop is in the hands of the test.
pub struct Life {
    pub app: Arc<App>,
    pub grpc: SocketAddr,
    pub ops: SocketAddr,
    pub stop: watch::Sender<Stop>,
    running: JoinHandle<usize>,
}

impl Life {
    pub async fn start(ground: &Ground) -> Self {
        let (stop, told) = watch::channel(Stop::Run);
        let server = Server::bind(&ground.config, told).await.unwrap();
        let (grpc, ops) = (server.grpc_addr(), server.ops_addr());
        let app = Arc::new(ground.open().await.unwrap());
        let running = tokio::spawn(server.run(Arc::clone(&app)));
        eventually("readiness", async || http(ops, "/readyz").await == 200).await;
        Self { app, grpc, ops, stop, running }
    }

    pub fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(channel(self.grpc))
    }

    /// How many connections were cut, once the server has come to its end.
    pub async fn ended(self) -> usize {
        soon("the end of the server", self.running).await.unwrap()
    }

    /// The same, without waiting for any of the database's time limits (the shortest is SQLite's, 5 s).
    async fn ended_at_once(self) -> usize {
        timeout(Duration::from_secs(4), self.running).await.expect("the server waits for the database").unwrap()
    }

    async fn is_refusing(&self) {
        eventually("a closed port", async || TcpStream::connect(self.grpc).await.is_err()).await;
    }
}

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    soon(what, async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

pub fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy()
}

/// The HTTP status of a GET.
pub async fn http(addr: SocketAddr, path: &str) -> u16 {
    get(addr, path).await.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The whole answer to a GET: head and body.
pub async fn get(addr: SocketAddr, path: &str) -> String {
    exchange(addr, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

/// The whole answer to an HTTP request of exactly this text.
pub async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

pub async fn check(addr: SocketAddr, name: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = soon("an answer", HealthClient::new(channel(addr)).check(request)).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

/// What the names of [`NAMES`] say, in their order.
pub async fn names(addr: SocketAddr) -> String {
    let mut all = String::new();
    for name in NAMES {
        all.push(match check(addr, name).await.unwrap() {
            ServingStatus::Serving => '+',
            ServingStatus::NotServing => '-',
            other => panic!("{name:?} is {other:?}"),
        });
    }
    all
}

/// The statuses of `/healthz /readyz /startupz`.
pub async fn probes(ops: SocketAddr) -> [u16; 3] {
    [http(ops, "/healthz").await, http(ops, "/readyz").await, http(ops, "/startupz").await]
}

/// Keeps every login and refresh from its end until it is dropped or rolled back, from outside the service.
pub async fn hold_sessions(sql: &Sql) -> DatabaseTransaction {
    let options = TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let held = sql.0.begin_with_options(options).await.unwrap();
    if sql.0.get_database_backend() == DbBackend::Postgres {
        held.execute_unprepared("LOCK TABLE sessions IN EXCLUSIVE MODE").await.unwrap();
    }
    held
}

/// A login that has passed its hash and waits for [`hold_sessions`].
async fn running_login(life: &Life) -> JoinHandle<Result<v1::TokenSet, tonic::Status>> {
    let hashes = life.app.hasher.hashes();
    let mut client = life.client();
    let login =
        tokio::spawn(async move { client.login(login_request("ann@example.com")).await.map(|answer| answer.into_inner().tokens.unwrap()) });
    eventually("the login's hash", async || life.app.hasher.hashes() > hashes).await;
    login
}

on_new! {
    async fn everything_is_down_before_the_start_is_done_and_up_after_it(ground: Ground) {
        let (stop, told) = watch::channel(Stop::Run);
        let server = Server::bind(&ground.config, told).await.unwrap();
        let (grpc, ops) = (server.grpc_addr(), server.ops_addr());
        assert_eq!(probes(ops).await, [503; 3]);
        assert_eq!(names(ops).await, "-----");
        assert_eq!(check(ops, "doorward.v1.Nobody").await, Err(Code::NotFound));
        let mut watching = Vec::new();
        for name in NAMES {
            let request = HealthCheckRequest { service: name.to_owned() };
            let mut watch = HealthClient::new(channel(ops)).watch(request).await.unwrap().into_inner();
            assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
            watching.push(watch);
        }

        let app = Arc::new(ground.open().await.unwrap());
        assert_eq!(names(ops).await, "-----", "an open database is not a serving server");
        let running = tokio::spawn(server.run(app));

        for watch in &mut watching {
            let change = soon("a change", watch.message()).await.unwrap().unwrap();
            assert_eq!(change.status(), ServingStatus::Serving);
        }
        assert_eq!(probes(ops).await, [200; 3]);
        assert_eq!((names(ops).await.as_str(), names(grpc).await.as_str()), ("+++++", "+++++"));
        for listener in [ops, grpc] {
            assert_eq!(check(listener, "doorward.v1.Nobody").await, Err(Code::NotFound));
        }
        stop.send_replace(Stop::Drain);
        soon("the end of the server", running).await.unwrap();
    }

    async fn a_running_call_finishes_while_new_ones_are_refused(ground: Ground) {
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let held = hold_sessions(&ground.sql().await).await;
        let login = running_login(&life).await;

        life.stop.send_replace(Stop::Drain);
        life.is_refusing().await;
        assert_eq!(probes(life.ops).await, [200, 503, 200], "it lives, and is not ready");
        assert_eq!(names(life.ops).await, "--++-");
        assert!(!login.is_finished() && !life.running.is_finished());
        held.rollback().await.unwrap();

        let tokens = soon("the login", login).await.unwrap().unwrap();
        let ops = life.ops;
        assert_eq!(life.ended().await, 0, "nothing was cut");
        assert!(TcpStream::connect(ops).await.is_err(), "the ops port is closed last");
        let next = Life::start(&ground).await;
        next.client().validate_session(validate_request(&tokens.access_token)).await.unwrap();
    }

    async fn a_second_signal_ends_at_once(ground: Ground) {
        let mut ground = ground;
        ground.config.database.statement_timeout = Duration::from_mins(1);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let held = hold_sessions(&ground.sql().await).await;
        let login = running_login(&life).await;
        life.stop.send_replace(Stop::Drain);
        life.is_refusing().await;

        life.stop.send_replace(Stop::Now);

        assert_eq!(life.ended_at_once().await, 1, "the login's connection is cut");
        soon("the login", login).await.unwrap().unwrap_err();
        held.rollback().await.unwrap();
    }

    async fn a_stop_has_its_limit_whatever_the_database_does(ground: Ground) {
        let mut ground = ground;
        ground.config.database.statement_timeout = Duration::from_mins(1);
        ground.config.server.drain_timeout = Duration::from_millis(300);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let held = hold_sessions(&ground.sql().await).await;
        let login = running_login(&life).await;

        life.stop.send_replace(Stop::Drain);

        assert_eq!(life.ended_at_once().await, 1);
        soon("the login", login).await.unwrap().unwrap_err();
        held.rollback().await.unwrap();
    }

    async fn in_the_grace_it_is_not_ready_and_still_serves(ground: Ground) {
        let mut ground = ground;
        ground.config.server.shutdown_grace = Duration::from_hours(1);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;

        life.stop.send_replace(Stop::Drain);

        eventually("the word that it goes", async || http(life.ops, "/readyz").await == 503).await;
        eventually("the word that it goes", async || names(life.ops).await == "--++-").await;
        assert_eq!(names(life.grpc).await, "--++-");
        life.client().login(login_request("ann@example.com")).await.expect("a new connection is served in the grace");
        life.stop.send_replace(Stop::Now);
        life.ended().await;
    }

    async fn open_watches_do_not_hold_the_stop(ground: Ground) {
        let life = Life::start(&ground).await;
        let request = HealthCheckRequest { service: "readiness".to_owned() };
        let mut watch = HealthClient::new(channel(life.grpc)).watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

        life.stop.send_replace(Stop::Drain);

        let mut words = 0;
        while let Some(word) = soon("the end of the watch", watch.message()).await.unwrap() {
            assert_eq!(word.status(), ServingStatus::NotServing);
            words += 1;
        }
        assert!(words > 0, "the last word says that it goes");
        assert_eq!(life.ended().await, 0);
    }

    async fn what_was_answered_before_and_while_it_stopped_is_there_afterwards(ground: Ground) {
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            let mut client = life.client();
            clients.spawn(async move {
                let mut tokens = Vec::new();
                while let Ok(answer) = client.login(login_request("ann@example.com")).await {
                    tokens.push(answer.into_inner().tokens.unwrap());
                }
                tokens
            });
        }
        let sql = ground.sql().await;
        eventually("some logins", async || sql.count("SELECT count(*) AS n FROM sessions").await >= 20).await;

        life.stop.send_replace(Stop::Drain);
        let answered: Vec<v1::TokenSet> = soon("the clients", clients.join_all()).await.into_iter().flatten().collect();
        assert_eq!(life.ended().await, 0);

        assert!(answered.len() >= 16);
        let next = Life::start(&ground).await;
        for tokens in &answered {
            next.client().validate_session(validate_request(&tokens.access_token)).await.unwrap();
        }
        let stored = sql.count("SELECT count(*) AS n FROM sessions").await;
        assert_eq!(stored, i64::try_from(answered.len()).unwrap(), "each call of a clean stop got its answer");
    }

    async fn one_connection_is_enough_for_sixteen_clients(ground: Ground) {
        let mut ground = ground;
        ground.config.database.max_connections = 1;
        // A queue of calls is no fault; two connections for one call would wait for ever.
        ground.config.database.acquire_timeout = Duration::from_mins(1);
        let life = Life::start(&ground).await;
        for number in 0..16 {
            person(&life.app, &format!("ann-{number}@example.com")).await;
        }
        let mut clients = JoinSet::new();
        for number in 0..16 {
            clients.spawn(main_flows(life.client(), format!("ann-{number}@example.com")));
        }
        soon("sixteen clients", clients.join_all()).await;
    }
}

/// Everything that a client of this version does, once around.
async fn main_flows(mut client: AuthServiceClient<Channel>, email: String) {
    let new_password = "another good long password";
    let login = client.login(login_request(&email)).await.unwrap().into_inner().tokens.unwrap();
    client.validate_session(validate_request(&login.access_token)).await.unwrap();
    let tokens = refresh_with(&mut client, &login.refresh_token).await.unwrap();
    client.get_me(bearer(v1::GetMeRequest {}, &tokens.access_token)).await.unwrap();
    client.list_tenants(bearer(v1::ListTenantsRequest::default(), &tokens.access_token)).await.unwrap();
    assert_eq!(
        refused(client.login(v1::LoginRequest { password: "wrong".to_owned(), ..login_request(&email) }).await),
        "INVALID_CREDENTIALS"
    );
    let change =
        v1::ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password: new_password.to_owned(), client_info: None };
    let changed = client.change_password(bearer(change, &tokens.access_token)).await.unwrap().into_inner().tokens.unwrap();
    let grant = v1::PasswordGrant { username: email, password: new_password.to_owned() };
    let grant = Some(v1::issue_token_request::Grant::Password(grant));
    client.issue_token(v1::IssueTokenRequest { grant, ..Default::default() }).await.unwrap();
    let credential = Some(v1::logout_request::Credential::AccessToken(changed.access_token));
    client.logout(v1::LogoutRequest { credential }).await.unwrap();
}

/// The values that a listener advertises in its first SETTINGS frame, as (id, value).
async fn settings(addr: SocketAddr) -> Vec<(u16, u32)> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    soon("a frame", stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.unwrap();
    payload.chunks(6).map(|entry| (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes(entry[2..].try_into().unwrap()))).collect()
}

#[test]
fn the_limits_are_those_of_the_configuration() {
    run(Backend::Sqlite, |mut ground| async move {
        let life = Life::start(&ground).await;
        for listener in [life.grpc, life.ops] {
            let advertised = settings(listener).await;
            assert!(advertised.contains(&(3, 128)), "SETTINGS_MAX_CONCURRENT_STREAMS: {advertised:?}");
            assert!(advertised.contains(&(6, 16 * 1024)), "SETTINGS_MAX_HEADER_LIST_SIZE: {advertised:?}");
        }
        ground.config.server.max_concurrent_streams = 7;
        let other = Life::start(&ground).await;
        assert!(settings(other.grpc).await.contains(&(3, 7)));
    });
}

#[test]
fn a_message_over_the_limit_is_refused_and_one_below_is_read() {
    run(Backend::Sqlite, |ground| async move {
        let life = Life::start(&ground).await;
        let login = |bytes| v1::LoginRequest { password: "x".repeat(bytes), ..login_request("ann@example.com") };
        let refusal = life.client().login(login(65_536)).await.unwrap_err();
        assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{refusal:?}");
        assert!(refusal.message().contains("too long"), "{refusal:?}");
        assert_eq!(refused(life.client().login(login(65_000)).await), "INVALID_CREDENTIALS");
    });
}

#[test]
fn a_header_list_over_the_limit_is_refused() {
    run(Backend::Sqlite, |ground| async move {
        let life = Life::start(&ground).await;
        let with = |bytes: usize| {
            let mut request = tonic::Request::new(login_request("ann@example.com"));
            request.metadata_mut().insert("x-large", "v".repeat(bytes).parse().unwrap());
            request
        };
        assert_eq!(refused(life.client().login(with(12_000)).await), "INVALID_CREDENTIALS");
        let hashes = life.app.hasher.hashes();
        life.client().login(with(17_000)).await.unwrap_err();
        assert_eq!(life.app.hasher.hashes(), hashes);
    });
}

#[test]
fn a_taken_port_is_named_before_any_work_is_done() {
    run(Backend::Sqlite, |ground| async move {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut grpc, mut ops) = (ground.config.clone(), ground.config.clone());
        grpc.server.grpc_addr = taken.local_addr().unwrap();
        ops.server.ops_addr = taken.local_addr().unwrap();
        for (key, config) in [("server.grpc_addr", grpc), ("server.ops_addr", ops)] {
            let (_stop, told) = watch::channel(Stop::Run);
            let refused = Server::bind(&config, told).await.err().unwrap().to_string();
            assert!(refused.contains(key) && refused.contains(&taken.local_addr().unwrap().to_string()), "{refused}");
        }
        assert!(!ground.file("").exists() && !ground.file(".key").exists());
    });
}
