//! Loads: so many calls in flight for so long, and what came of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use doorward::{
    config::Passwords,
    pb::v1::{self, auth_service_client::AuthServiceClient, issue_token_request::Grant},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    data::{self, Data},
    process::Process,
    question,
};

/// Connections that a load is spread over.
const CHANNELS: usize = 4;
/// Who ask about every token once.
const ASKING: usize = 16;

/// What a load was.
#[derive(Clone, Debug)]
pub struct Load {
    calls: usize,
    took: Duration,
    cpu: Duration,
    latencies: Vec<Duration>,
}

impl Load {
    /// Calls, for a quotient.
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    pub const fn calls_f64(&self) -> f64 {
        self.calls as f64
    }

    /// Calls a second.
    pub fn per_second(&self) -> f64 {
        self.calls_f64() / self.took.as_secs_f64()
    }

    /// The server's processor time a call, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.calls_f64()
    }

    /// The latency that so many per cent of the calls do not exceed, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }

    /// The one in the middle, by throughput.
    pub fn median(mut loads: Vec<Self>) -> Self {
        loads.sort_by(|one, other| one.per_second().total_cmp(&other.per_second()));
        let middle = loads.len() / 2;
        loads.swap_remove(middle)
    }
}

/// Makes calls, `in_flight` at a time, for as long as `round`. `worker` makes what calls: it gets its number and a channel.
async fn drive<W, F>(server: &Process, in_flight: usize, round: Duration, worker: impl Fn(usize, Channel) -> W) -> Result<Load>
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(server.channel().await?);
    }
    let (cpu, start) = (server.cpu()?, Instant::now());
    let mut workers: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
    for (number, channel) in channels.iter().cycle().take(in_flight).enumerate() {
        let mut call = worker(number, channel.clone());
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < round {
                let before = Instant::now();
                call().await?;
                latencies.push(before.elapsed());
            }
            Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = workers.join_next().await {
        latencies.extend(ended??);
    }
    let (took, cpu) = (start.elapsed(), server.cpu()?.saturating_sub(cpu));
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no call was answered");
    Ok(Load { calls: latencies.len(), took, cpu, latencies })
}

/// One `ValidateSession`.
pub async fn validate(channel: &Channel, data: &Data, index: usize) -> Result<v1::ValidateSessionResponse> {
    Ok(AuthServiceClient::new(channel.clone()).validate_session(question(data, index)).await?.into_inner())
}

/// What is asked about the token of a number.
pub type Question<'a> = &'a dyn Fn(&Data, usize) -> v1::ValidateSessionRequest;

/// Asks about every token once, so that it is remembered; answers what is said of the first.
pub async fn ask_all(server: &Process, data: &Data, question: Question<'_>) -> Result<v1::ValidateSessionResponse> {
    let mut asking = JoinSet::new();
    let questions: Arc<Vec<_>> = Arc::new((0..data.len()).map(|index| question(data, index)).collect());
    for number in 0..ASKING {
        let (mut client, questions) = (AuthServiceClient::new(server.channel().await?), Arc::clone(&questions));
        asking.spawn(async move {
            for request in questions.iter().skip(number).step_by(ASKING) {
                client.validate_session(request.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked??;
    }
    let first = questions.first().context("a token")?.clone();
    Ok(AuthServiceClient::new(server.channel().await?).validate_session(first).await?.into_inner())
}

/// `ValidateSession` of uniformly drawn tokens, as backends ask.
pub async fn validations(server: &Process, data: &Data, in_flight: usize, round: Duration) -> Result<Load> {
    questions(server, data, in_flight, round, &question).await
}

/// The same with other questions.
pub async fn questions(server: &Process, data: &Data, in_flight: usize, round: Duration, question: Question<'_>) -> Result<Load> {
    let questions: Arc<Vec<_>> = Arc::new((0..data.len()).map(|index| question(data, index)).collect());
    drive(server, in_flight, round, |number, channel| {
        let (questions, mut draw) = (Arc::clone(&questions), Draw(number as u64 + 1));
        move || {
            let request = questions.get(draw.below(questions.len())).cloned();
            let mut client = AuthServiceClient::new(channel.clone());
            async move { client.validate_session(request.context("a token")?).await.map(drop).map_err(Into::into) }
        }
    })
    .await
}

/// Logins of a few people in turn.
pub async fn logins(server: &Process, _: &Data, in_flight: usize, round: Duration) -> Result<Load> {
    drive(server, in_flight, round, |number, channel| {
        let mut turn = number;
        move || {
            turn += 1;
            let request = v1::LoginRequest {
                identifier: data::email(turn % data::LOGINS),
                password: data::PASSWORD.to_owned(),
                ..Default::default()
            };
            let mut client = AuthServiceClient::new(channel.clone());
            async move { client.login(request).await.map(drop).map_err(Into::into) }
        }
    })
    .await
}

/// Refreshes: each worker moves a session of its own on and on, from its first token.
pub async fn refreshes(server: &Process, first: impl Fn(usize) -> String, in_flight: usize, round: Duration) -> Result<Load> {
    drive(server, in_flight, round, |number, channel| {
        let token = Arc::new(std::sync::Mutex::new(first(number)));
        move || {
            let (mut client, token) = (AuthServiceClient::new(channel.clone()), Arc::clone(&token));
            async move {
                let lock = || token.lock().map_err(|_| anyhow::anyhow!("a worker panicked"));
                let refresh_token = lock()?.clone();
                let grant = Some(Grant::RefreshToken(v1::RefreshTokenGrant { refresh_token }));
                let answer = client.issue_token(v1::IssueTokenRequest { grant, ..Default::default() }).await?.into_inner();
                *lock()? = answer.tokens.context("tokens")?.refresh_token;
                Ok(())
            }
        }
    })
    .await
}

/// Raw hashes a second with the default parameters, on threads that each use their memory again.
pub fn raw_hashes(threads: usize, round: Duration) -> Result<f64> {
    let defaults = Passwords::default();
    let params =
        Params::new(defaults.memory_kib, defaults.iterations, defaults.parallelism, Some(32)).map_err(|e| anyhow::anyhow!("{e}"))?;
    let start = Instant::now();
    let count = |params: Params| -> Result<u32> {
        let mut blocks = vec![Block::default(); params.block_count()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let (mut hash, mut hashes) = ([0; 32], 0);
        while start.elapsed() < round {
            argon2
                .hash_password_into_with_memory(data::PASSWORD.as_bytes(), b"sixteen bytes of", &mut hash, &mut blocks)
                .map_err(|e| anyhow::anyhow!("{e}"))?;
            hashes += 1;
        }
        Ok(hashes)
    };
    let hashes: Result<u32> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| count(params.clone()))).collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?).sum()
    });
    Ok(f64::from(hashes?) / start.elapsed().as_secs_f64())
}

/// A stream of numbers that is the same in every run (`SplitMix64`).
struct Draw(u64);

impl Draw {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder fits where the length did")]
    fn below(&mut self, length: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % length.max(1) as u64) as usize
    }
}
