//! The refresh protocol as it has to be: one definition, which the model check explores and the walk compares the running service with.
//!
//! A call goes through [`Rules::step`] until it is answered. Each step is what the database does as one; between two of them, steps of
//! other calls may come:
//!
//! ```text
//!            update matches                     moves the row on: answered with the successor
//!   Sent ───────────────────► Answered(Rotated)
//!    │ update matches nothing
//!    ▼            reads the row
//!  Missed ──────────────────► Answered(Healed)  nothing written: the same successor again
//!    │     └────────────────► Answered(Refused) nothing written, nothing ends
//!    │ used before
//!    ▼            ends a live session, with its event
//! Reusing ──────────────────► Answered(Reused)
//! ```

use std::fmt;

/// Seconds, or whatever the rules count in.
pub type Time = u32;

/// A refresh secret, by where it comes from: each follows from the one before it in its chain. Secrets of different chains differ.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Secret {
    /// Whose chain: that of the session is [`OWN`].
    pub chain: u8,
    /// How far from its first.
    pub place: u8,
}

/// The chain that a session is opened with.
pub const OWN: u8 = 0;

/// A refresh token of the session. Its tag is good: what has a bad one never comes this far.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token {
    pub generation: u8,
    pub secret: Secret,
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secret.chain {
            OWN => write!(out, "t{}", self.generation),
            chain => write!(out, "t{} of chain {chain}", self.generation),
        }
    }
}

impl Token {
    /// The token of that generation in a chain.
    pub const fn of(chain: u8, generation: u8) -> Self {
        Self { generation, secret: Secret { chain, place: generation } }
    }

    /// The next one: always the same.
    pub const fn successor(self) -> Self {
        Self { generation: self.generation + 1, secret: Secret { chain: self.secret.chain, place: self.secret.place + 1 } }
    }
}

/// Who presents a token.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Client {
    /// A caller without an identity of its own.
    Default,
    /// A caller with one.
    Known(u8),
}

impl Client {
    /// Whether a session of `self` answers `other`. One of the default client answers every caller, and the first known one takes it over.
    pub fn answers(self, other: Self) -> bool {
        self == other || self == Self::Default
    }
}

/// What ended a session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    Logout,
    Reuse,
}

/// The session's row, as far as refreshing goes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Row {
    pub generation: u8,
    /// Stands for its digest: equal digests are equal secrets.
    pub secret: Secret,
    pub rotated_at: Time,
    pub idle_expires_at: Time,
    pub expires_at: Time,
    pub client: Client,
    pub ended: Option<End>,
    /// Events of reuse, which are written with the end.
    pub reuse_events: u8,
}

impl Row {
    /// Ends a live session; answers whether it was one.
    pub fn end(&mut self, why: End, now: Time) -> bool {
        let is_live = self.ended.is_none() && now < self.expires_at;
        if is_live {
            self.ended = Some(why);
        }
        is_live
    }
}

/// A call. Its time is taken once, when it comes in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Call {
    pub token: Token,
    pub client: Client,
    pub now: Time,
}

/// Why a token is not good, in the words of the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    TokenInvalid,
    SessionExpired,
    SessionRevoked,
}

impl Refusal {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenInvalid => "TOKEN_INVALID",
            Self::SessionExpired => "SESSION_EXPIRED",
            Self::SessionRevoked => "SESSION_REVOKED",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Answer {
    Rotated(Token),
    Healed(Token),
    Reused,
    Refused(Refusal),
}

impl Answer {
    /// The token that is answered, if one is.
    pub const fn token(self) -> Option<Token> {
        match self {
            Self::Rotated(token) | Self::Healed(token) => Some(token),
            Self::Reused | Self::Refused(_) => None,
        }
    }
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Stand {
    Sent,
    Missed,
    Reusing,
    Answered(Answer),
}

/// What two callers come to: the row, and what each of them hears, call by call.
pub type Outcome = (Row, [Vec<Answer>; 2]);

/// The configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Zero heals nothing.
    pub grace: Time,
    pub idle: Time,
    pub absolute: Time,
}

impl Rules {
    /// A new session's row, and its first token.
    pub fn open(&self, client: Client, now: Time) -> (Row, Token) {
        let first = Token::of(OWN, 0);
        let expires_at = now + self.absolute;
        let row = Row {
            generation: 0,
            secret: first.secret,
            rotated_at: now,
            idle_expires_at: expires_at.min(now + self.idle),
            expires_at,
            client,
            ended: None,
            reuse_events: 0,
        };
        (row, first)
    }

    /// The one conditional update: the row after it where everything holds.
    pub fn moved_on(&self, row: &Row, call: &Call) -> Option<Row> {
        let Call { token, client, now } = *call;
        let is_current = row.generation == token.generation && row.secret == token.secret;
        let is_live = row.ended.is_none() && now < row.idle_expires_at && now < row.expires_at;
        let next = token.successor();
        (is_current && is_live && row.client.answers(client)).then(|| Row {
            generation: next.generation,
            secret: next.secret,
            rotated_at: now,
            idle_expires_at: row.expires_at.min(now + self.idle),
            client,
            ..row.clone()
        })
    }

    /// What the row says of a call whose update matched nothing.
    pub fn judge(&self, row: &Row, call: &Call) -> Stand {
        let Call { token, client, now } = *call;
        let refused = |refusal| Stand::Answered(Answer::Refused(refusal));
        if !row.client.answers(client) {
            return refused(Refusal::TokenInvalid);
        }
        if row.ended.is_some() {
            return refused(Refusal::SessionRevoked);
        }
        if row.expires_at <= now || row.idle_expires_at <= now {
            return refused(Refusal::SessionExpired);
        }
        if token.generation >= row.generation {
            return refused(Refusal::TokenInvalid);
        }
        if token.generation + 1 < row.generation {
            return Stand::Reusing;
        }
        if token.successor().secret != row.secret {
            return refused(Refusal::TokenInvalid);
        }
        if self.grace > 0 && now <= row.rotated_at + self.grace {
            return Stand::Answered(Answer::Healed(token.successor()));
        }
        Stand::Reusing
    }

    /// Takes a call one step on.
    pub fn step(&self, row: &mut Row, call: &Call, stand: Stand) -> Stand {
        match stand {
            Stand::Sent => match self.moved_on(row, call) {
                Some(moved) => {
                    *row = moved;
                    Stand::Answered(Answer::Rotated(call.token.successor()))
                }
                None => Stand::Missed,
            },
            Stand::Missed => self.judge(row, call),
            Stand::Reusing => {
                if row.end(End::Reuse, call.now) {
                    row.reuse_events += 1;
                }
                Stand::Answered(Answer::Reused)
            }
            Stand::Answered(_) => stand,
        }
    }

    /// A whole call that nothing comes between.
    pub fn refresh(&self, row: &mut Row, call: &Call) -> Answer {
        let mut stand = Stand::Sent;
        loop {
            if let Stand::Answered(answer) = stand {
                return answer;
            }
            stand = self.step(row, call, stand);
        }
    }

    /// Everything that two callers at once may come to, who each make one call after the other: an outcome for each order of the steps.
    pub fn race(&self, row: &Row, callers: [&[Call]; 2]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut open = vec![(row.clone(), [Stand::Sent; 2], [vec![], vec![]])];
        while let Some((row, stands, answers)) = open.pop() {
            let mut is_over = true;
            for (at, calls) in callers.iter().enumerate() {
                let Some(call) = calls.get(answers[at].len()) else { continue };
                let (mut row, mut stands, mut answers) = (row.clone(), stands, answers.clone());
                stands[at] = self.step(&mut row, call, stands[at]);
                if let Stand::Answered(answer) = stands[at] {
                    answers[at].push(answer);
                    stands[at] = Stand::Sent;
                }
                open.push((row, stands, answers));
                is_over = false;
            }
            if is_over && !outcomes.contains(&(row.clone(), answers.clone())) {
                outcomes.push((row, answers));
            }
        }
        outcomes
    }
}
