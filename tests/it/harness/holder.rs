//! The client of one session, who keeps what it was told, and notices at once when an answer contradicts it.
//!
//! ```text
//! let mut ann = Holder::login(&mut replicas.client(), "ann@example.com").await.unwrap();
//! while ann.refresh(&mut replicas.client()).await == Told::Unknown {}      // the same token again heals
//! ann.end(&mut replicas.client(), Ending::Reuse).await.unwrap();
//! ann.check(&replicas).await;                                              // dead on every server
//! ```

use doorward::pb::v1::{self, auth_service_client::AuthServiceClient, logout_request::Credential};
use tonic::transport::Channel;

use super::{
    Replicas, Serves, bearer, refresh_with,
    told::{Told, told},
};
use crate::start::{login_request, validate_request};

type Client = AuthServiceClient<Channel>;

/// How a holder ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By the access token.
    Logout,
    /// By the refresh token.
    LogoutByRefresh,
    /// By its id, as its owner.
    Revoke,
    /// With every other session of its owner.
    RevokeAll,
    /// By a refresh token from before the one before, which ends the session for everybody.
    Reuse,
}

impl Ending {
    pub const ALL: [Self; 5] = [Self::Logout, Self::LogoutByRefresh, Self::Revoke, Self::RevokeAll, Self::Reuse];
}

/// Whether a session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody asked for it.
    No,
    /// Asked for, and not answered.
    Unknown,
    /// Answered.
    Acknowledged,
}

/// Whoever has the tokens of a session.
#[derive(Debug)]
pub struct Holder {
    pub email: String,
    pub session_id: String,
    /// Every set that was answered, the newest last.
    sets: Vec<v1::TokenSet>,
    end: End,
    /// Refreshes without an answer.
    pub unanswered: usize,
}

impl Holder {
    /// Logs in.
    pub async fn login(client: &mut Client, email: &str) -> Told<Self> {
        told(client.login(login_request(email)).await).map(|answer| {
            let answer = answer.into_inner();
            let (sets, session_id) = (vec![answer.tokens.unwrap()], answer.session.unwrap().id);
            Self { email: email.to_owned(), session_id, sets, end: End::No, unanswered: 0 }
        })
    }

    /// The newest set.
    pub fn tokens(&self) -> &v1::TokenSet {
        self.sets.last().unwrap()
    }

    /// Whether there is a refresh token whose use is [`Ending::Reuse`].
    pub fn has_two_back(&self) -> bool {
        self.sets.len() > 2
    }

    /// How an end that was asked for stands; none where nobody asked.
    pub fn is_end_known(&self) -> Option<bool> {
        (self.end != End::No).then_some(self.end == End::Acknowledged)
    }

    /// Uses the newest refresh token, as often as it takes: without an answer it is good again.
    pub async fn refresh(&mut self, client: &mut Client) -> Told<()> {
        let answer = told(refresh_with(client, &self.tokens().refresh_token).await);
        self.note(answer)
    }

    /// Uses it in two tabs at once.
    pub async fn refresh_twice(&mut self, client: &mut Client, other: &mut Client) -> Told<()> {
        let token = self.tokens().refresh_token.clone();
        let (first, second) = tokio::join!(refresh_with(client, &token), refresh_with(other, &token));
        match (told(first), told(second)) {
            (Told::Yes(first), Told::Yes(second)) => {
                assert_eq!(first.refresh_token, second.refresh_token, "{}: two successors", self.session_id);
                self.note(Told::Yes(first))
            }
            (Told::Unknown, other) | (other, Told::Unknown) => {
                self.unanswered += 1;
                self.note(other)
            }
            (Told::No(reason), _) | (_, Told::No(reason)) => self.note(Told::No(reason)),
        }
    }

    fn note(&mut self, answer: Told<v1::TokenSet>) -> Told<()> {
        match answer {
            Told::Yes(set) => {
                assert_ne!(self.end, End::Acknowledged, "{}: it was ended, and its refresh token works", self.session_id);
                self.sets.push(set);
                Told::Yes(())
            }
            Told::No(reason) => {
                let is_over = reason == "SESSION_REVOKED" && self.end != End::No;
                assert!(
                    is_over,
                    "{}: its newest refresh token is refused: {reason}; an end was asked for: {:?}",
                    self.session_id, self.end
                );
                Told::No(reason)
            }
            Told::Unknown => {
                self.unanswered += 1;
                Told::Unknown
            }
        }
    }

    /// Ends the session.
    pub async fn end(&mut self, client: &mut Client, how: Ending) -> Told<()> {
        let newest = self.tokens().clone();
        let answer = match how {
            Ending::Logout => logout(client, Credential::AccessToken(newest.access_token)).await,
            Ending::LogoutByRefresh => logout(client, Credential::RefreshToken(newest.refresh_token)).await,
            Ending::Revoke => {
                let request = v1::RevokeSessionRequest { session_id: self.session_id.clone() };
                told(client.revoke_session(bearer(request, &newest.access_token)).await).map(drop)
            }
            Ending::RevokeAll => {
                let request = v1::RevokeAllSessionsRequest { keep_current: false };
                told(client.revoke_all_sessions(bearer(request, &newest.access_token)).await).map(drop)
            }
            Ending::Reuse => {
                assert!(self.has_two_back());
                match told(refresh_with(client, &self.sets[self.sets.len() - 3].refresh_token).await) {
                    Told::No(reason) if reason == "REFRESH_TOKEN_REUSED" => Told::Yes(()),
                    Told::Unknown => Told::Unknown,
                    other => panic!("{}: a refresh token from two back is answered with {other:?}", self.session_id),
                }
            }
        };
        self.end = match &answer {
            Told::Yes(()) => End::Acknowledged,
            Told::Unknown => End::Unknown,
            Told::No(reason) => panic!("{}: {how:?} is refused: {reason}", self.session_id),
        };
        answer
    }

    /// Notes an end by somebody else, of whose outcome this is known.
    pub fn was_ended(&mut self, is_known: bool) {
        self.end = if is_known { End::Acknowledged } else { End::Unknown };
    }

    /// Asks every server whether what was told holds. Afterwards nothing is unknown.
    pub async fn check<S: Serves>(&mut self, replicas: &Replicas<S>) {
        if self.end != End::Acknowledged {
            match self.refresh(&mut replicas.client()).await {
                Told::Yes(()) => self.end = End::No,
                Told::No(_) => self.end = End::Acknowledged,
                Told::Unknown => panic!("{}: no answer, and nothing is broken any more", self.session_id),
            }
        }
        // An old access token lives and dies with the newest one.
        let asked = [self.sets.first().unwrap(), self.tokens()].map(|set| set.access_token.clone());
        let asked = if self.end == End::No { &asked[1..] } else { &asked };
        for server in replicas.all() {
            for token in asked {
                let answer = told(server.client().validate_session(validate_request(token)).await);
                match (self.end, answer) {
                    (End::No, Told::Yes(_)) => {}
                    (End::Acknowledged, Told::No(reason)) if reason == "SESSION_REVOKED" => {}
                    (end, answer) => panic!("{}: ended: {end:?}, and a server says {answer:?}", self.session_id),
                }
            }
        }
        if self.end == End::Acknowledged {
            for set in self.sets.iter().rev().take(4) {
                let answer = told(refresh_with(&mut replicas.client(), &set.refresh_token).await);
                let is_refused = matches!(&answer, Told::No(reason) if reason == "SESSION_REVOKED");
                assert!(is_refused, "{}: it was ended, and its refresh token is answered with {answer:?}", self.session_id);
            }
        }
    }
}

async fn logout(client: &mut Client, credential: Credential) -> Told<()> {
    told(client.logout(v1::LogoutRequest { credential: Some(credential) }).await).map(drop)
}
