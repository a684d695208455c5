//! `cargo bench --bench report`: what Doorward does beside what the machine can do, as ratios of one run.
//!
//! | row | beside |
//! |---|---|
//! | `ValidateSession` from memory, on SQLite and PostgreSQL; a miss, of a server that remembers one token | a bare tonic handler that returns the same message and checks nothing, behind the same limits |
//! | `ValidateSession` with `freshness = LATEST`, on PostgreSQL | a bare tonic and sqlx handler that reads one row by its key and returns the same message |
//! | memory for 100,000 answers; one core and two | |
//! | revoked → refused by three servers, with wake-ups and without | the bars of the design |
//! | hits, misses and logins among 1,000 to 1,000,000 people | the same among 1,000 |
//! | `Login` | raw argon2id with reused memory, on as many threads |
//! | refresh, on SQLite | |
//! | refresh, on PostgreSQL | a bare tonic and sqlx handler that moves one row on by one conditional update, behind the same limits |
//! | start → first good answer, memory | the bars of the design |
//!
//! Everything of Doorward is asked of the real binary, `doorward serve` with its defaults. The server has the first core, the load and
//! PostgreSQL the others, where `taskset` is found; for logins the server has all. Rounds of Doorward and of the bare handler take turns, so
//! that a slow moment of the machine meets both. `DOORWARD_BENCH_SECONDS` is the length of a round (4), `DOORWARD_BENCH_TOKENS` how many
//! distinct access tokens there are (50,000), `DOORWARD_BENCH_ONLY` one of `starts`, `validations`, `latest`, `memory`, `logins`,
//! `refreshes`, `growth` and `revocations`. The table is printed, and written as Markdown to `target/bench-report.md`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what a bench is for")]

use std::{env, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use doorward::{config::Passwords, pb::v1};
use tempfile::TempDir;

mod bare;
mod data;
mod growth;
mod load;
#[path = "../../tests/it/harness/postgres.rs"]
#[expect(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "the tests' own")]
mod postgres;
mod process;
mod revocations;
mod table;

use data::Data;
use load::Load;
use process::{Cores, Process};
use table::{Table, per_second, times};

/// What can be measured alone.
const PARTS: [&str; 8] = ["starts", "validations", "latest", "memory", "logins", "refreshes", "growth", "revocations"];
/// Rounds of each load that is compared with another.
const ROUNDS: usize = 5;
/// Starts that are timed.
const STARTS: usize = 10;
/// Calls in flight of the loads that a core is compared by.
const IN_FLIGHT: usize = 16;

fn main() -> Result<()> {
    if let Some(answer) = setting("BARE") {
        return bare::serve(&fs::read(answer)?, setting("BARE_DATABASE"), setting("BARE_READS"));
    }
    process::leave_the_first_core()?;
    let seconds: u64 = setting("SECONDS").map_or(Ok(4), |text| text.parse()).context("DOORWARD_BENCH_SECONDS")?;
    let tokens: usize = setting("TOKENS").map_or(Ok(50_000), |text| text.parse()).context("DOORWARD_BENCH_TOKENS")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(report(Duration::from_secs(seconds), tokens))
}

#[expect(clippy::disallowed_methods, reason = "a bench has no configuration but this")]
fn setting(name: &str) -> Option<String> {
    env::var(format!("DOORWARD_BENCH_{name}")).ok()
}

async fn report(round: Duration, tokens: usize) -> Result<()> {
    let only = setting("ONLY");
    if let Some(part) = &only {
        ensure!(PARTS.contains(&part.as_str()), "DOORWARD_BENCH_ONLY: {part} is none of {}", PARTS.join(", "));
    }
    let folder = TempDir::new()?;
    let mut table = Table::default();
    let sqlite = Box::pin(Data::on_sqlite(folder.path(), tokens)).await?;
    let on_postgres = match postgres::cluster() {
        Some(cluster) => Some(Box::pin(Data::on_postgres(cluster.create_database(), tokens)).await?),
        None => None,
    };
    let databases: Vec<(&str, &Data)> =
        std::iter::once(("SQLite", &sqlite)).chain(on_postgres.as_ref().map(|d| ("PostgreSQL", d))).collect();

    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if is_wanted("starts") {
        starts(&mut table, &sqlite).await?;
    }
    if is_wanted("validations") {
        validations(&mut table, &databases, folder.path(), round).await?;
    }
    if let Some(data) = on_postgres.as_ref().filter(|_| is_wanted("latest")) {
        latest(&mut table, data, folder.path(), round).await?;
    }
    if is_wanted("memory") {
        memory(&mut table, &sqlite, round).await?;
    }
    if is_wanted("logins") {
        logins(&mut table, &sqlite, round).await?;
    }
    if is_wanted("refreshes") {
        refreshes_on_sqlite(&mut table, &sqlite, round).await?;
        if let Some(data) = &on_postgres {
            refreshes_on_postgres(&mut table, data, folder.path(), round).await?;
        }
    }
    if let (Some(small), Some(cluster)) = (on_postgres.as_ref().filter(|_| is_wanted("growth")), postgres::cluster()) {
        let grown = Box::pin(Data::on_postgres(cluster.create_database(), tokens)).await?;
        growth::measure(&mut table, small, &grown, round).await?;
    }
    // Last: some of the sessions are over then.
    if let Some(data) = on_postgres.as_ref().filter(|_| is_wanted("revocations")) {
        revocations::measure(&mut table, data).await?;
    }
    table.print(&format!("{tokens} distinct ES256 tokens, uniform; {ROUNDS} rounds of {} s", round.as_secs()))
}

/// How long a start on an existing database takes to the first good answer, and what an idle server holds.
async fn starts(table: &mut Table, data: &Data) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let start = std::time::Instant::now();
        let server = Process::doorward(data, Cores::All)?;
        load::validate(&server.channel().await?, data, 0).await?;
        took.push(start.elapsed());
        server.stop()?;
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    table.row(
        "start → first good answer, existing SQLite file",
        &format!("{:.0} ms", median.as_secs_f64() * 1e3),
        "≤ 150 ms",
        median <= Duration::from_millis(150),
    );
    let server = Process::doorward(data, Cores::All)?;
    load::validate(&server.channel().await?, data, 0).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = server.memory("VmRSS")?;
    table.row("memory of an idle server (RSS)", &format!("{idle:.1} MiB"), "≤ 25 MiB", idle <= 25.0);
    server.stop()
}

/// `ValidateSession` in turns with the bare handler.
async fn validations(table: &mut Table, databases: &[(&str, &Data)], folder: &Path, round: Duration) -> Result<()> {
    let (mut bare_loads, mut loads, mut misses) = (Vec::new(), vec![Vec::new(); databases.len()], vec![Vec::new(); databases.len()]);
    let mut servers = Vec::new();
    for (_, data) in databases {
        let server = Process::doorward(data, Cores::First)?;
        load::ask_all(&server, data, &question).await?;
        servers.push(server);
    }
    let Some((first, (_, data))) = servers.first().zip(databases.first()) else { return Ok(()) };
    let answer = load::validate(&first.channel().await?, data, 0).await?;
    let answer_file = folder.join("answer");
    fs::write(&answer_file, prost::Message::encode_to_vec(&answer))?;
    let bare = Process::bare(&answer_file)?;
    let mut statements = vec![0.0; databases.len()];
    for turn in 0..=ROUNDS {
        let measured = load::validations(&bare, data, IN_FLIGHT, round).await?;
        // The first turn warms caches and pools up.
        if turn > 0 {
            bare_loads.push(measured);
        }
        for (((server, (_, data)), loads), statements) in servers.iter().zip(databases).zip(&mut loads).zip(&mut statements) {
            let before = server.metric("doorward_store_statements_total").await?;
            let measured = load::validations(server, data, IN_FLIGHT, round).await?;
            *statements = (server.metric("doorward_store_statements_total").await? - before) / measured.calls_f64();
            if turn > 0 {
                loads.push(measured);
            }
        }
    }
    drop(servers);
    for ((_, data), misses) in databases.iter().zip(&mut misses) {
        let server = Process::forgetful(data)?;
        for _ in 0..ROUNDS {
            misses.push(load::validations(&server, data, IN_FLIGHT, round).await?);
        }
        server.stop()?;
    }
    let bare = Load::median(bare_loads);
    table.load("bare tonic handler, the same message", &bare, None);
    for ((((name, _), loads), misses), statements) in databases.iter().zip(loads).zip(misses).zip(statements) {
        let hits = Load::median(loads);
        table.load(&format!("ValidateSession from memory, {name}"), &hits, Some(&bare));
        table.load(&format!("ValidateSession, not remembered, {name}"), &Load::median(misses), Some(&bare));
        let ratio = hits.per_second() / bare.per_second();
        table.row(&format!("ValidateSession from memory ÷ bare, {name}"), &times(ratio), "≥ 0.90", ratio >= 0.90);
        let figure = format!("{statements:.3}");
        table.row(&format!("statements per ValidateSession in steady state, {name}"), &figure, "0", statements < 0.000_5);
    }
    Ok(())
}

/// `ValidateSession` by what the database has at the moment, in turns with a read of one row by its key.
async fn latest(table: &mut Table, data: &Data, folder: &Path, round: Duration) -> Result<()> {
    let server = Process::doorward(data, Cores::First)?;
    let latest = |data: &Data, index| v1::ValidateSessionRequest { freshness: v1::Freshness::Latest.into(), ..question(data, index) };
    let answer_file = folder.join("latest");
    let answer = load::ask_all(&server, data, &latest).await?;
    fs::write(&answer_file, prost::Message::encode_to_vec(&answer))?;
    let bare = Process::bare_read(data, &answer_file)?;
    let by_key =
        |data: &Data, index: usize| v1::ValidateSessionRequest { access_token: data.session_id(index).to_owned(), ..question(data, index) };
    let (mut yardsticks, mut loads) = (Vec::new(), Vec::new());
    for turn in 0..=ROUNDS {
        let yardstick = load::questions(&bare, data, IN_FLIGHT, round, &by_key).await?;
        let measured = load::questions(&server, data, IN_FLIGHT, round, &latest).await?;
        if turn > 0 {
            yardsticks.push(yardstick);
            loads.push(measured);
        }
    }
    let (yardstick, measured) = (Load::median(yardsticks), Load::median(loads));
    table.load("bare tonic and sqlx handler, one row by its key, PostgreSQL", &yardstick, None);
    table.load("ValidateSession with freshness LATEST, PostgreSQL", &measured, Some(&yardstick));
    let ratio = measured.per_second() / yardstick.per_second();
    table.row("ValidateSession LATEST ÷ bare read, PostgreSQL", &times(ratio), "≥ 0.80", ratio >= 0.80);
    server.stop()
}

/// What 100,000 remembered answers take, and what a second core gives.
async fn memory(table: &mut Table, data: &Data, round: Duration) -> Result<()> {
    let server = Process::doorward(data, Cores::First)?;
    load::validate(&server.channel().await?, data, 0).await?;
    let before = server.memory("VmRSS")?;
    let of_no_tenant =
        |data: &Data, index: usize| v1::ValidateSessionRequest { access_token: data.access_token(index).to_owned(), ..Default::default() };
    // Twice: what goes over the wire is kept from the second time on.
    for _ in 0..2 {
        load::ask_all(&server, data, &question).await?;
        load::ask_all(&server, data, &of_no_tenant).await?;
    }
    let entries = server.metric("doorward_memory_entries{memory=\"principals\"}").await?;
    let grown = (server.memory("VmRSS")? - before) / entries * 100_000.0;
    table.row("memory for 100,000 remembered answers", &format!("{grown:.0} MiB"), "", true);
    let mut one = Vec::new();
    for _ in 0..ROUNDS {
        one.push(load::validations(&server, data, IN_FLIGHT, round).await?);
    }
    server.stop()?;
    let server = Process::doorward(data, Cores::All)?;
    load::ask_all(&server, data, &question).await?;
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(load::validations(&server, data, IN_FLIGHT, round).await?);
    }
    let (one, all) = (Load::median(one), Load::median(all));
    table.load("ValidateSession from memory, all cores, beside the load", &all, None);
    let ratio = all.per_second() / one.per_second();
    table.row("ValidateSession on all cores ÷ on one", &times(ratio), "", true);
    server.stop()
}

/// Logins beside raw hashes, in turns.
async fn logins(table: &mut Table, data: &Data, round: Duration) -> Result<()> {
    let server = Process::doorward(data, Cores::All)?;
    load::validate(&server.channel().await?, data, 0).await?;
    let idle = server.memory("VmRSS")?;
    let threads = std::thread::available_parallelism()?.get().saturating_sub(1).max(1);
    let (mut raw, mut loads) = (Vec::new(), Vec::new());
    for turn in 0..=ROUNDS {
        let hashes = tokio::task::spawn_blocking(move || load::raw_hashes(threads, round)).await??;
        let measured = load::logins(&server, data, threads * 4, round).await?;
        if turn > 0 {
            raw.push(hashes);
            loads.push(measured);
        }
    }
    raw.sort_unstable_by(f64::total_cmp);
    let raw = raw.get(raw.len() / 2).copied().unwrap_or_default();
    let logins = Load::median(loads);
    let ratio = logins.per_second() / raw;
    table.row(&format!("raw argon2id, reused memory, {threads} thread(s)"), &per_second(raw), "", true);
    table.load("Login, SQLite", &logins, None);
    table.row("logins ÷ raw hashes", &times(ratio), "≥ 0.95", ratio >= 0.95);
    let peak = server.memory("VmHWM")?;
    let hashing = f64::from(u32::try_from(threads)? * Passwords::default().memory_kib) / 1024.0;
    let bar = idle + hashing * 1.1 + 64.0;
    table.row("memory after the logins (peak RSS)", &format!("{peak:.1} MiB"), &format!("≤ {bar:.0} MiB"), peak <= bar);
    server.stop()
}

/// Refreshes of sessions of their own.
async fn refreshes_on_sqlite(table: &mut Table, data: &Data, round: Duration) -> Result<()> {
    let server = Process::doorward(data, Cores::First)?;
    let measured = load::refreshes(&server, |number| data.refresh_token(number).to_owned(), IN_FLIGHT, round).await?;
    table.load("refresh, SQLite", &measured, None);
    server.stop()
}

/// The same in turns with the bare update, also of sessions that are bound to a tenant.
async fn refreshes_on_postgres(table: &mut Table, data: &Data, folder: &Path, round: Duration) -> Result<()> {
    let server = Process::doorward(data, Cores::First)?;
    // An answer that is as long as the real one.
    let answer_file = folder.join("access_token");
    fs::write(&answer_file, data.access_token(0))?;
    let bare = Process::bare_update(data, &answer_file)?;
    let (mut yardsticks, mut loads, mut bound_loads, mut statements) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for turn in 0..=ROUNDS {
        // Others in each turn: the tokens of the turn before are used up.
        let session = |number: usize| turn * IN_FLIGHT + number;
        let yardstick = load::refreshes(&bare, |number| format!("{} 0", data.session_id(session(number))), IN_FLIGHT, round).await?;
        let before = server.metric("doorward_store_statements_total").await?;
        let measured = load::refreshes(&server, |number| data.refresh_token(session(number)).to_owned(), IN_FLIGHT, round).await?;
        statements = (server.metric("doorward_store_statements_total").await? - before) / measured.calls_f64();
        let bound = load::refreshes(&server, |number| data.bound_refresh_token(session(number)).to_owned(), IN_FLIGHT, round).await?;
        if turn > 0 {
            yardsticks.push(yardstick);
            loads.push(measured);
            bound_loads.push(bound);
        }
    }
    let (yardstick, measured) = (Load::median(yardsticks), Load::median(loads));
    table.load("bare tonic and sqlx handler, one update, PostgreSQL", &yardstick, None);
    table.load("refresh, PostgreSQL", &measured, Some(&yardstick));
    table.load("refresh of a session bound to a tenant, PostgreSQL", &Load::median(bound_loads), Some(&yardstick));
    let ratio = measured.per_second() / yardstick.per_second();
    table.row("refresh ÷ bare update, PostgreSQL", &times(ratio), "≥ 0.70", ratio >= 0.70);
    let rate = measured.per_second();
    table.row("refresh, PostgreSQL, one core for the server", &per_second(rate), "≥ 1500/s", rate >= 1_500.0);
    table.row("statements per refresh, PostgreSQL", &format!("{statements:.3}"), "1", (0.999..1.001).contains(&statements));
    server.stop()
}

/// A request as a backend makes it for each request that it serves.
fn question(data: &Data, index: usize) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        access_token: data.access_token(index).to_owned(),
        tenant_id: data.tenant_id.clone(),
        permissions: vec!["sales:write".to_owned()],
        ..Default::default()
    }
}
