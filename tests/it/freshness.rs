//! Answers from memory: never older than `freshness.max_staleness`, whoever changed what behind them and however. Below: `triggers` (every
//! column is announced or known not to matter), `feed` (the poll), `model` (every interleaving of a fill with a change), `replicas` (three
//! servers, and changes by RPC, by the command and by hand), `memory` (one server: what it remembers, and what it does not), `outage` (a
//! database that is gone).

use std::time::{Duration, Instant};

use doorward::pb::v1::{self, auth_service_client::AuthServiceClient};
use tonic::{Status, transport::Channel};

use crate::harness::*;

mod feed;
mod memory;
mod model;
mod outage;
mod replicas;
mod triggers;

/// Of the servers here.
const MAX_STALENESS: Duration = Duration::from_secs(1);

/// A question that may be answered from memory.
fn question(access_token: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        access_token: access_token.to_owned(),
        freshness: v1::Freshness::Bounded.into(),
        audience: String::new(),
        ..Default::default()
    }
}

/// Asks one server until it refuses, and answers the reason. No yes may be to a question of later than the bound: it is counted from
/// before the answer, since until then whatever was known may have been known for so long.
async fn refused_in_time(mut client: AuthServiceClient<Channel>, question: v1::ValidateSessionRequest, changed: Instant) -> String {
    loop {
        let asked = Instant::now();
        match client.validate_session(question.clone()).await {
            Err(status) => return reason(&status),
            Ok(_) => assert!(asked < changed + MAX_STALENESS, "still a yes, {:?} after the change", asked - changed),
        }
    }
}

/// Whether it is a yes.
async fn ask(client: &mut AuthServiceClient<Channel>, question: &v1::ValidateSessionRequest) -> Result<(), Status> {
    client.validate_session(question.clone()).await.map(drop)
}
