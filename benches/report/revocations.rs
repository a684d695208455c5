//! Revoked → refused: how long after a session was ended the last of three servers says no.
//!
//! Ended by a call, servers wake each other; ended by hand in SQL, nobody is woken, and each finds it by itself. The clock runs from the
//! answer to whoever ended it to the answer of the first question that each server refuses; questions follow each other without a pause.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorward::pb::v1::{self, auth_service_client::AuthServiceClient};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    data::Data,
    process::{Cores, Process},
    question,
    table::Table,
};

const SERVERS: usize = 3;
const BY_CALL: usize = 300;
const BY_HAND: usize = 60;

/// Measures both ways.
pub async fn measure(table: &mut Table, data: &Data) -> Result<()> {
    let mut channels = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        let server = Process::doorward(data, Cores::All)?;
        channels.push(server.channel().await?);
        servers.push(server);
    }
    let mut sql = PgConnection::connect(data.url().context("a database")?).await?;
    let (mut by_call, mut by_hand) = (Vec::new(), Vec::new());
    // Sessions from the end: those of the start are refreshed by other rows of the report.
    for number in 0..BY_CALL + BY_HAND {
        let index = data.len() - 1 - number;
        for channel in &channels {
            ask(channel, data, index).await?;
        }
        if number < BY_CALL {
            let credential = Some(v1::logout_request::Credential::AccessToken(data.access_token(index).to_owned()));
            let channel = channels.get(number % SERVERS).context("a server")?;
            AuthServiceClient::new(channel.clone()).logout(v1::LogoutRequest { credential }).await?;
            by_call.push(refused(&channels, data, index).await?);
        } else {
            let end = sqlx::query("UPDATE sessions SET revoked_at = 1 WHERE id = $1").bind(data.session_id(index).parse::<uuid::Uuid>()?);
            ensure!(end.execute(&mut sql).await?.rows_affected() == 1, "no session was ended");
            by_hand.push(refused(&channels, data, index).await?);
        }
    }
    let [p50, p99] = percentiles(by_call);
    let is_met = p99 <= Duration::from_millis(50);
    table.row("revoked by a call → refused by 3 servers, p50 / p99", &format!("{} / {}", millis(p50), millis(p99)), "p99 ≤ 50 ms", is_met);
    let [p50, p99] = percentiles(by_hand);
    let is_met = p99 <= Duration::from_secs(1);
    let figure = format!("{} / {}", millis(p50), millis(p99));
    table.row("revoked by hand, nobody woken → refused by 3 servers, p50 / p99", &figure, "≤ max_staleness, 1 s", is_met);
    servers.into_iter().try_for_each(Process::stop)
}

async fn ask(channel: &Channel, data: &Data, index: usize) -> Result<()> {
    AuthServiceClient::new(channel.clone()).validate_session(question(data, index)).await?;
    Ok(())
}

/// How long it takes until each server refuses.
async fn refused(channels: &[Channel], data: &Data, index: usize) -> Result<Duration> {
    let begin = Instant::now();
    let mut asking = JoinSet::new();
    for channel in channels {
        let (mut client, request) = (AuthServiceClient::new(channel.clone()), question(data, index));
        asking.spawn(async move { while client.validate_session(request.clone()).await.is_ok() {} });
    }
    while let Some(asked) = asking.join_next().await {
        asked?;
    }
    Ok(begin.elapsed())
}

fn percentiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [50, 99].map(|percent| times.get(times.len() * percent / 100).copied().unwrap_or_default())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
