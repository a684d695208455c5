//! Where races are run: on servers, or on a refresher with a planted flaw.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use doorward::{
    app::App,
    domain::revocation,
    pb::v1::{self, auth_service_client::AuthServiceClient},
};
use tonic::transport::Channel;

use super::oracle::{Act, Answer, Found};
use crate::{
    harness::{
        told::{Told, told},
        *,
    },
    start::{login_request, person, validate_request},
};

/// A new session.
pub struct Opened<T> {
    pub session: T,
    pub refresh_token: String,
}

/// Whatever has sessions.
pub trait Arena: Send + Sync + 'static {
    type Session: Clone + Send + Sync + 'static;

    /// A session of somebody who has no other one.
    fn open(&self) -> impl Future<Output = Opened<Self::Session>> + Send;

    /// One call. `choice` settles what an act leaves open.
    fn call(&self, session: &Self::Session, act: &Act, choice: u64) -> impl Future<Output = Answer> + Send;

    /// What the database holds of it.
    fn found(&self, session: &Self::Session) -> impl Future<Output = Found> + Send;
}

/// Servers over one database.
pub struct Servers<S> {
    pub replicas: Replicas<S>,
    /// The operator's, who is none of the servers.
    pub app: Arc<App>,
    pub sql: Sql,
    pub people: AtomicUsize,
}

#[derive(Clone)]
pub struct Session {
    id: String,
    access_token: String,
    refresh_token: String,
}

impl<S> Servers<S> {
    fn id(&self, session: &Session) -> String {
        let sqlite = self.sql.0.get_database_backend() == sea_orm::DbBackend::Sqlite;
        if sqlite { format!("x'{}'", session.id.replace('-', "")) } else { format!("'{}'", session.id) }
    }

    /// As if the last step had been taken a minute before: the grace is in whole seconds, and a busy machine is none to wait it out on.
    async fn pass_grace(&self, session: &Session) {
        self.sql.execute(&format!("UPDATE sessions SET rotated_at = rotated_at - 60 WHERE id = {}", self.id(session))).await;
    }

    async fn end(&self, client: &mut AuthServiceClient<Channel>, session: &Session, choice: u64) -> Answer {
        use v1::logout_request::Credential;
        let credential = match choice % 4 {
            0 => Credential::AccessToken(session.access_token.clone()),
            1 => Credential::RefreshToken(session.refresh_token.clone()),
            2 => {
                let request = bearer(v1::RevokeSessionRequest { session_id: session.id.clone() }, &session.access_token);
                return answer(told(client.revoke_session(request).await).map(|_| Answer::Done));
            }
            _ => {
                revocation::revoke(&self.app, session.id.parse().unwrap(), cli()).await.unwrap();
                return Answer::Done;
            }
        };
        answer(told(client.logout(v1::LogoutRequest { credential: Some(credential) }).await).map(|_| Answer::Done))
    }
}

fn answer(told: Told<Answer>) -> Answer {
    match told {
        Told::Yes(answer) => answer,
        Told::No(reason) => Answer::Refused(reason),
        Told::Unknown => Answer::Unknown,
    }
}

impl<S: Serves> Arena for Servers<S> {
    type Session = Session;

    async fn open(&self) -> Opened<Session> {
        let email = format!("person-{}@example.com", self.people.fetch_add(1, Ordering::Relaxed));
        person(&self.app, &email).await;
        let login = self.replicas.client().login(login_request(&email)).await.unwrap().into_inner();
        let tokens = login.tokens.unwrap();
        let (access_token, refresh_token) = (tokens.access_token, tokens.refresh_token.clone());
        let session = Session { id: login.session.unwrap().id, access_token, refresh_token: refresh_token.clone() };
        Opened { session, refresh_token }
    }

    async fn call(&self, session: &Session, act: &Act, choice: u64) -> Answer {
        let mut client = self.replicas.client();
        match act {
            Act::Refresh(token) => {
                let refreshed = refresh_with(&mut client, token).await;
                answer(told(refreshed).map(|tokens| Answer::Tokens(tokens.refresh_token)))
            }
            Act::End => self.end(&mut client, session, choice).await,
            Act::ChangePassword => {
                let (current_password, new_password) = (PASSWORD.to_owned(), "another good long password".to_owned());
                let change = v1::ChangePasswordRequest { current_password, new_password, client_info: None };
                let changed = client.change_password(bearer(change, &session.access_token)).await;
                if let Ok(answer) = &changed {
                    // The one set that lives on.
                    let tokens = answer.get_ref().tokens.clone().unwrap();
                    client.validate_session(validate_request(&tokens.access_token)).await.unwrap();
                }
                answer(told(changed).map(|_| Answer::Done))
            }
            Act::Check => {
                let checked = client.validate_session(validate_request(&session.access_token)).await;
                answer(told(checked).map(|_| Answer::Done))
            }
            Act::PassGrace => {
                self.pass_grace(session).await;
                Answer::Done
            }
        }
    }

    async fn found(&self, session: &Session) -> Found {
        let id = self.id(session);
        let events = |more: &str| format!("(SELECT count(*) FROM audit_events WHERE session_id = {id} AND event {more})");
        let ends = events("IN ('session.revoked', 'session.refresh_token_reused')");
        let reuses = events("= 'session.refresh_token_reused'");
        let query = format!(
            "SELECT CAST(s.refresh_generation AS bigint) AS generation, CAST(CASE WHEN s.revoked_at IS NOT NULL OR s.user_epoch <> u.epoch \
             THEN 1 ELSE 0 END AS bigint) AS is_over, {ends} AS ends, {reuses} AS reuses \
             FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = {id}"
        );
        let row = self.sql.query(&query).await.remove(0);
        let number = |column: &str| usize::try_from(row.try_get::<i64>("", column).unwrap()).unwrap();
        Found { generation: number("generation"), is_over: number("is_over") == 1, ends: number("ends"), reuses: number("reuses") }
    }
}
