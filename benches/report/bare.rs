//! The yardstick: a tonic handler that returns one message and checks nothing, behind the limits of the real server.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use doorward::{
    pb::v1::{self, auth_service_server::AuthService, auth_service_server::AuthServiceServer},
    server::{
        connections::{self, Protocol, Shutdown},
        metrics::Connections,
    },
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

struct Bare(v1::ValidateSessionResponse);

/// Serves for ever; prints the address first.
pub fn serve(answer: &[u8]) -> Result<()> {
    let answer = prost::Message::decode(answer).context("the answer to give")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let any_port: SocketAddr = "127.0.0.1:0".parse()?;
        let listener = TcpListener::bind(any_port).await?;
        eprintln!(
            "{}",
            serde_json::json!({ "fields": { "message": "serving", "grpc": listener.local_addr()?, "ops": listener.local_addr()? } })
        );
        let limits = doorward::server::limits(&doorward::config::Server::default());
        let routes = tonic::service::Routes::new(AuthServiceServer::new(Bare(answer))).prepare().into_axum_router();
        let (_trigger, shutdown) = Shutdown::new();
        connections::serve(listener, routes, Protocol::Http2, limits, Connections::default(), shutdown).await;
        Ok(())
    })
}

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a bare handler"))
}

#[tonic::async_trait]
impl AuthService for Bare {
    async fn validate_session(&self, _: Request<v1::ValidateSessionRequest>) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn login(&self, _: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        nothing()
    }

    async fn issue_token(&self, _: Request<v1::IssueTokenRequest>) -> Result<Response<v1::IssueTokenResponse>, Status> {
        nothing()
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
