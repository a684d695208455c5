//! The yardsticks, behind the limits of the real server: a tonic handler that returns one message and checks nothing, one that reads one row
//! by its key before it does (sqlx, prepared, a pool of the real server's size), and one that moves one row on by one conditional update.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use doorward::{
    config,
    pb::v1::{self, auth_service_server::AuthService, auth_service_server::AuthServiceServer, issue_token_request::Grant},
    server::{
        connections::{self, Protocol, Shutdown},
        metrics::Connections,
    },
};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// The table whose rows are moved on: the sessions as they are, with their indexes, beside the real ones.
const TABLE: [&str; 3] =
    ["CREATE TABLE bare (LIKE sessions INCLUDING ALL)", "INSERT INTO bare SELECT * FROM sessions", "VACUUM ANALYZE bare"];
const MOVE: &str = "UPDATE bare SET refresh_generation = refresh_generation + 1, refresh_digest = $3, rotated_at = $4 \
                    WHERE id = $1 AND refresh_generation = $2";

const READ: &str = "SELECT * FROM sessions WHERE id = $1";

struct Bare {
    validation: v1::ValidateSessionResponse,
    access_token: String,
    pool: Option<PgPool>,
    /// Where each answer reads a row.
    reads: Option<PgPool>,
}

/// Serves one of the yardsticks for ever; prints the address first. `database` is for the one that moves a row on, `reads` for the one that
/// reads one.
pub fn serve(answer: &[u8], database: Option<String>, reads: Option<String>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let any_port: SocketAddr = "127.0.0.1:0".parse()?;
        let listener = TcpListener::bind(any_port).await?;
        eprintln!(
            "{}",
            serde_json::json!({ "fields": { "message": "serving", "grpc": listener.local_addr()?, "ops": listener.local_addr()? } })
        );
        let limits = doorward::server::limits(&doorward::config::Server::default());
        let bare = Bare::new(answer, database, reads).await?;
        let routes = tonic::service::Routes::new(AuthServiceServer::new(bare)).prepare().into_axum_router();
        let (_trigger, shutdown) = Shutdown::new();
        connections::serve(listener, routes, Protocol::Http2, None, limits, Connections::default(), shutdown).await;
        Ok(())
    })
}

impl Bare {
    async fn new(answer: &[u8], database: Option<String>, reads: Option<String>) -> Result<Self> {
        let Some(url) = database else {
            let validation = prost::Message::decode(answer).context("the answer to give")?;
            let reads = match reads {
                Some(url) => Some(pool(&url).await?),
                None => None,
            };
            return Ok(Self { validation, access_token: String::new(), pool: None, reads });
        };
        let pool = pool(&url).await?;
        for statement in TABLE {
            sqlx::query(statement).execute(&pool).await?;
        }
        let access_token = String::from_utf8(answer.to_vec())?;
        Ok(Self { validation: v1::ValidateSessionResponse::default(), access_token, pool: Some(pool), reads: None })
    }

    /// The token is an id and a generation.
    async fn move_on(&self, token: &str) -> Result<v1::TokenSet> {
        let (id, generation) = token.split_once(' ').context("an id and a generation")?;
        let (id, generation): (uuid::Uuid, i64) = (id.parse()?, generation.parse()?);
        let update = sqlx::query(MOVE).bind(id).bind(generation).bind([7_u8; 32].as_slice()).bind(generation);
        let moved = update.execute(self.pool.as_ref().context("a database")?).await?;
        anyhow::ensure!(moved.rows_affected() == 1, "no row was moved on");
        Ok(v1::TokenSet {
            access_token: self.access_token.clone(),
            token_type: "Bearer".to_owned(),
            expires_in: 900,
            refresh_token: format!("{id} {}", generation + 1),
            scope: String::new(),
        })
    }
}

async fn pool(url: &str) -> Result<PgPool> {
    let options = PgPoolOptions::new().max_connections(config::Database::default().max_connections);
    Ok(options.test_before_acquire(false).idle_timeout(None).max_lifetime(None).connect(url).await?)
}

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a bare handler"))
}

#[tonic::async_trait]
impl AuthService for Bare {
    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        if let Some(pool) = &self.reads {
            let id: uuid::Uuid = request.get_ref().access_token.parse().map_err(|_| Status::internal("no id"))?;
            sqlx::query(READ).bind(id).fetch_one(pool).await.map_err(|error| Status::internal(error.to_string()))?;
        }
        Ok(Response::new(self.validation.clone()))
    }

    async fn login(&self, _: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        nothing()
    }

    async fn issue_token(&self, request: Request<v1::IssueTokenRequest>) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let Some(Grant::RefreshToken(grant)) = request.into_inner().grant else { return nothing() };
        match self.move_on(&grant.refresh_token).await {
            Ok(tokens) => Ok(Response::new(v1::IssueTokenResponse { tokens: Some(tokens) })),
            Err(error) => Err(Status::internal(format!("{error:#}"))),
        }
    }

    async fn get_me(&self, _: Request<v1::GetMeRequest>) -> Result<Response<v1::GetMeResponse>, Status> {
        nothing()
    }

    async fn list_tenants(&self, _: Request<v1::ListTenantsRequest>) -> Result<Response<v1::ListTenantsResponse>, Status> {
        nothing()
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        nothing()
    }

    async fn change_password(&self, _: Request<v1::ChangePasswordRequest>) -> Result<Response<v1::ChangePasswordResponse>, Status> {
        nothing()
    }

    async fn list_sessions(&self, _: Request<v1::ListSessionsRequest>) -> Result<Response<v1::ListSessionsResponse>, Status> {
        nothing()
    }

    async fn revoke_session(&self, _: Request<v1::RevokeSessionRequest>) -> Result<Response<v1::RevokeSessionResponse>, Status> {
        nothing()
    }

    async fn revoke_all_sessions(
        &self,
        _: Request<v1::RevokeAllSessionsRequest>,
    ) -> Result<Response<v1::RevokeAllSessionsResponse>, Status> {
        nothing()
    }
}
