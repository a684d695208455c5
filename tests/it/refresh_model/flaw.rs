//! Refreshing done wrong, on purpose: each flaw is the protocol's own step, told something else than what the row says.

use super::protocol::{Answer, Call, Client, End, Refusal, Row, Rules, Secret, Stand};

/// A mistake that an implementation could make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// Reads the row, and writes it in a later step, whatever it is by then.
    ReadsThenWrites,
    /// The update compares the generation, and not the digest.
    IgnoresDigest,
    /// Nothing asks whose session it is.
    IgnoresClient,
    /// The update does not ask whether the session is ended.
    IgnoresEnd,
    /// The token before heals for ever.
    IgnoresGrace,
    /// The token before heals whatever its secret is.
    IgnoresSuccessor,
    /// Healing begins the grace anew.
    HealingRestartsGrace,
    /// Healing makes another successor, in place of the first.
    HealsWithAnother,
    /// Of the tokens further back than one it says that they are not good, and leaves it at that.
    ForgetsFurtherBack,
    /// Reuse is answered, and the session lives.
    SwallowsReuse,
    /// The session ends without an event.
    HidesReuse,
    /// Every call that finds reuse writes an event, also those that end nothing.
    RepeatsReuse,
    /// Moving on begins the absolute lifetime anew.
    ExtendsSession,
    /// Who is known takes over any session that it has a token of.
    TakesOverAgain,
}

/// What the second half of [`Flaw::ReadsThenWrites`] still has to do.
pub type HasRead = bool;

impl Flaw {
    /// The protocol's step, with the flaw.
    pub fn step(self, rules: &Rules, row: &mut Row, call: &Call, stand: Stand, has_read: HasRead) -> (Stand, HasRead) {
        let stand = match stand {
            Stand::Sent if has_read => {
                write(rules, row, call);
                Stand::Answered(Answer::Rotated(call.token.successor()))
            }
            Stand::Sent => match self.moved_on(rules, row, call) {
                Some(_) if self == Self::ReadsThenWrites => return (Stand::Sent, true),
                Some(moved) => {
                    *row = moved;
                    Stand::Answered(Answer::Rotated(call.token.successor()))
                }
                None => Stand::Missed,
            },
            Stand::Missed => self.judge(rules, row, call),
            Stand::Reusing => {
                self.end(row, call);
                Stand::Answered(Answer::Reused)
            }
            Stand::Answered(_) => stand,
        };
        (stand, false)
    }

    fn moved_on(self, rules: &Rules, row: &Row, call: &Call) -> Option<Row> {
        let mut seen = self.seen(row, call);
        match self {
            Self::IgnoresDigest => seen.secret = call.token.secret,
            Self::IgnoresEnd => seen.ended = None,
            _ => {}
        }
        let mut moved = rules.moved_on(&seen, call)?;
        moved.ended = row.ended;
        match self {
            Self::IgnoresClient if row.client != Client::Default => moved.client = row.client,
            Self::ExtendsSession => moved.expires_at = call.now + rules.absolute,
            _ => {}
        }
        Some(moved)
    }

    fn judge(self, rules: &Rules, row: &mut Row, call: &Call) -> Stand {
        let mut seen = self.seen(row, call);
        let mut rules = *rules;
        match self {
            Self::IgnoresGrace => rules.grace = call.now,
            Self::IgnoresSuccessor if call.token.generation + 1 == row.generation => seen.secret = call.token.successor().secret,
            _ => {}
        }
        match rules.judge(&seen, call) {
            Stand::Reusing if self == Self::ForgetsFurtherBack && call.token.generation + 1 < row.generation => {
                Stand::Answered(Answer::Refused(Refusal::TokenInvalid))
            }
            Stand::Answered(Answer::Healed(mut token)) if self == Self::HealsWithAnother => {
                row.secret = Secret { chain: 1 + row.secret.chain % 2, ..row.secret };
                token.secret = row.secret;
                Stand::Answered(Answer::Healed(token))
            }
            Stand::Answered(Answer::Healed(token)) if self == Self::HealingRestartsGrace => {
                row.rotated_at = call.now;
                Stand::Answered(Answer::Healed(token))
            }
            stand => stand,
        }
    }

    /// The row as both the update and the judgement take it.
    fn seen(self, row: &Row, call: &Call) -> Row {
        let client = match self {
            Self::IgnoresClient => call.client,
            Self::TakesOverAgain if call.client != Client::Default => call.client,
            _ => row.client,
        };
        Row { client, ..row.clone() }
    }

    fn end(self, row: &mut Row, call: &Call) {
        let was_live = self != Self::SwallowsReuse && row.end(End::Reuse, call.now);
        let is_event = match self {
            Self::HidesReuse => false,
            Self::RepeatsReuse => true,
            _ => was_live,
        };
        // Two are as wrong as any more.
        row.reuse_events = (row.reuse_events + u8::from(is_event)).min(2);
    }
}

/// The unconditional half of an update that is none.
fn write(rules: &Rules, row: &mut Row, call: &Call) {
    let next = call.token.successor();
    row.generation = next.generation;
    row.secret = next.secret;
    row.rotated_at = call.now;
    row.idle_expires_at = row.expires_at.min(call.now + rules.idle);
    row.client = call.client;
}
