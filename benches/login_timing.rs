//! How long a refused login takes, by its reason: the measured half of "unknown, wrong, disabled and no password cannot be told apart".
//!
//! `cargo bench --bench login_timing` runs a server with the hashing parameters of a default configuration on a new SQLite file and calls
//! `Login` from one client, the cases in turn, so that whatever else the machine does meets all alike. It prints a table and judges
//! nothing: that the answers are byte-equal and cost one hash each is `tests/it/login/refusals.rs`.
//!
//! `DOORWARD_BENCH_ROUNDS` (300) is how often each case is measured.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a report is printed, by a program that nothing else uses")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use doorward::{
    config::Config,
    domain::{
        self,
        audit::Actor,
        users::{NewUserRequest, create, set_state},
    },
    pb::v1::{LoginRequest, auth_service_client::AuthServiceClient},
    server::{Server, Stop},
    store::users::UserState,
    values::{entropy::Entropy, secret::Password, time::Clock},
};
use tokio::sync::watch;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

const PASSWORD: &str = "correct horse battery staple";
const WARM_UP: usize = 20;

/// The cases: what it is called, who tries, with what.
const CASES: [(&str, &str, &str); 5] = [
    ("unknown", "nobody@example.com", PASSWORD),
    ("wrong password", "ann@example.com", "a wrong password"),
    ("disabled", "disabled@example.com", PASSWORD),
    ("no password", "none@example.com", PASSWORD),
    ("malformed identifier", "\0", PASSWORD),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rounds = match std::env::var("DOORWARD_BENCH_ROUNDS") {
        Ok(rounds) => rounds.parse().context("DOORWARD_BENCH_ROUNDS")?,
        Err(_) => 300,
    };
    let folder = tempfile::tempdir()?;
    let mut config = Config::default();
    let any_port = "127.0.0.1:0".parse()?;
    config.server.grpc_addr = any_port;
    config.server.http_addr = any_port;
    config.server.ops_addr = any_port;
    config.database.url = format!("sqlite://{}", folder.path().join("doorward.db").display()).into();
    let parameters = config.passwords.clone();

    let (stop, told) = watch::channel(Stop::Run);
    let server = Server::bind(&config, told).await?;
    let address = server.grpc_addr();
    let app = Arc::new(domain::start::open(config, Clock::system(), Entropy::system()).await?);
    populate(&app).await?;
    let running = tokio::spawn(server.run(Arc::clone(&app)));

    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = AuthServiceClient::new(channel);
    let mut measured = vec![Vec::with_capacity(rounds); CASES.len()];
    for round in 0..WARM_UP + rounds {
        // Each round begins with another case: none is always the one behind the same neighbour's commit.
        for turn in 0..CASES.len() {
            let index = (round + turn) % CASES.len();
            let (Some((_, identifier, password)), Some(times)) = (CASES.get(index), measured.get_mut(index)) else { continue };
            let took = refused(&mut client, identifier, password).await?;
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    println!(
        "refused logins on SQLite, n={rounds} each, argon2id m={} t={} p={}, in milliseconds",
        parameters.memory_kib, parameters.iterations, parameters.parallelism
    );
    report(measured);
    stop.send_replace(Stop::Drain);
    drop(client);
    running.await?;
    Ok(())
}

async fn populate(app: &doorward::app::App) -> anyhow::Result<()> {
    let actor = || Actor::Cli("bench".to_owned());
    for (email, has_password) in [("ann@example.com", true), ("disabled@example.com", true), ("none@example.com", false)] {
        let request = NewUserRequest {
            email: Some(email.to_owned()),
            username: None,
            full_name: String::new(),
            superuser: false,
            password: has_password.then(|| (Password::new(PASSWORD.to_owned()), false)),
        };
        let user = create(app, request, actor()).await?;
        if email.starts_with("disabled") {
            set_state(app, &user, UserState::Disabled, actor()).await?;
        }
    }
    Ok(())
}

async fn refused(client: &mut AuthServiceClient<Channel>, identifier: &str, password: &str) -> anyhow::Result<Duration> {
    let request = LoginRequest { identifier: identifier.to_owned(), password: password.to_owned(), ..Default::default() };
    let start = Instant::now();
    let answer = client.login(request).await;
    let took = start.elapsed();
    ensure!(answer.is_err_and(|status| status.code() == Code::Unauthenticated), "{identifier:?} was not refused as it should be");
    Ok(took)
}

fn report(measured: Vec<Vec<Duration>>) {
    println!("{:<22}{:>9}{:>9}{:>9}{:>9}", "case", "median", "p90", "p99", "mean");
    for ((name, ..), mut times) in CASES.iter().zip(measured) {
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).map_or(f64::NAN, millis);
        let mean = times.iter().sum::<Duration>() / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX);
        println!("{name:<22}{:>9.2}{:>9.2}{:>9.2}{:>9.2}", at(50), at(90), at(99), millis(&mean));
    }
}

fn millis(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
