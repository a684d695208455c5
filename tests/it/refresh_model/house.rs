//! What the model's world is made of, and what can happen in it.

use stateright::Model;

use super::{
    flaw::Flaw,
    protocol::{Answer, Call, Client, End, Row, Rules, Stand, Time, Token},
};

/// One tick, so that two ticks are after it.
pub const GRACE: Time = 1;
/// How many ticks a call lives to see, before its deadline cuts it.
pub const LONGEST: Time = 1;
/// What has to be more than so old before a careful tab refreshes it.
const SPACING: Time = GRACE + LONGEST;
/// When the session is opened: late enough for its first token to be old enough at once.
pub const OPENED: Time = SPACING + 1;
/// Calls under way at once. A replica keeps nothing between two calls, so each of them may be on a replica of its own.
const CALLS: usize = 3;
/// Places in the chain that are kept account of.
const PLACES: usize = 4;
/// The chain of somebody who can make good tags, and knows no secret of the session.
pub const FORGED: u8 = 9;

/// Who takes part, and for how long.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Tabs that keep tokens apart from each other: one or two. The first stands for several with one storage: it makes two calls at once.
    pub tabs: usize,
    /// Whether tabs refresh a token that they have only just got, and so rotate more than once in a grace.
    pub are_hasty: bool,
    /// The identities that the tabs' calls come with.
    pub clients: Vec<Client>,
    /// The identities of a thief's calls; none where there is no thief.
    pub thieves: Vec<Client>,
    /// Whether somebody presents tokens of the right form with a wrong secret.
    pub has_forger: bool,
    /// Whether the session can be logged out of.
    pub has_logout: bool,
    /// How often the chain may move on.
    pub rotations: u8,
    /// Where the clock stops.
    pub last: Time,
}

/// A model of one session.
#[derive(Clone, Debug)]
pub struct House {
    pub rules: Rules,
    pub cast: Cast,
    pub flaw: Option<Flaw>,
}

/// Whose call it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Who {
    Tab(usize),
    Thief,
    Forger,
}

/// A copy of the current token, as far as its holder knows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tab {
    pub token: Token,
    /// When it came.
    pub since: Time,
}

/// A call under way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flight {
    pub who: Who,
    pub call: Call,
    pub stand: Stand,
    /// Of a flaw.
    has_read: bool,
}

/// What must not happen in a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// A token is answered to a token that was replaced longer than the grace ago.
    LateGrant,
    /// … or after the session's end.
    GrantAfterEnd,
    /// … or after its time.
    GrantAfterExpiry,
    /// … or to another client than the session's.
    GrantToStranger,
    /// … or to a wrong secret.
    GrantToForger,
    /// Reuse is found in a token that was replaced within the grace, though nobody but the client holds any.
    HonestReuse,
    /// Reuse is found in what another client or a wrong secret shows.
    ReuseByStranger,
    /// Reuse is answered, and the session lives.
    ReuseWithoutEnd,
    /// A token that was replaced longer than the grace ago is refused without an end.
    MissedReuse,
    /// A known client loses the session to another one.
    ClientReplaced,
}

/// The world between two steps.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct State {
    pub clock: Time,
    pub row: Row,
    pub tabs: [Tab; 2],
    /// What the thief holds.
    pub loot: Option<Token>,
    /// Whether the thief was ever answered a token.
    pub has_thief_refreshed: bool,
    /// Sorted, so that the order in which calls came in makes no other state.
    pub flights: [Option<Flight>; CALLS],
    /// When each generation was first replaced, by the time of the call that did it.
    pub replaced_at: [Option<Time>; PLACES],
    wrongs: u16,
}

impl State {
    pub fn has(&self, wrong: Wrong) -> bool {
        self.wrongs & (1 << wrong as u16) != 0
    }

    /// Whether that generation was replaced longer than the grace before that time.
    pub fn is_late(&self, generation: u8, now: Time) -> bool {
        self.replaced_at.get(usize::from(generation)).is_some_and(|at| at.is_some_and(|at| now > at + GRACE))
    }

    /// Every token that anybody could present.
    pub fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.tabs.iter().map(|tab| tab.token).collect();
        tokens.extend(self.loot);
        for flight in self.flights.iter().flatten() {
            tokens.push(match flight.stand {
                Stand::Answered(Answer::Rotated(token) | Answer::Healed(token)) => token,
                _ => flight.call.token,
            });
        }
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn count(&self, who: Who) -> usize {
        self.flights.iter().flatten().filter(|flight| flight.who == who).count()
    }

    /// The first free place, if another call of theirs may come.
    fn room(&self, who: Who) -> Option<usize> {
        let most = if who == Who::Tab(0) { 2 } else { 1 };
        if self.count(who) < most { self.flights.iter().position(Option::is_none) } else { None }
    }

    /// Takes all times that are equally long ago for one.
    fn forget(&mut self) {
        for tab in &mut self.tabs {
            tab.since = tab.since.max(self.clock - SPACING - 1);
        }
        for at in self.replaced_at.iter_mut().flatten() {
            *at = (*at).max(self.clock - SPACING - 1);
        }
    }

    fn note(&mut self, wrong: Wrong, is_so: bool) {
        self.wrongs |= u16::from(is_so) << wrong as u16;
    }
}

/// What can happen next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A call with the token that they hold comes in; of the forger, with that one.
    Send(Who, Client, Option<Token>),
    /// The server takes it one step on.
    Step(usize),
    /// Its answer arrives.
    Deliver(usize),
    /// What is answered never arrives: cut by its deadline, killed with its replica after the commit, lost on the way. A call that comes
    /// to nothing before it has written anything is as one that never came, and those runs are there without it.
    Lose(usize),
    /// The thief copies a tab's token.
    Steal(usize),
    /// The thief copies the token of an answer under way.
    Intercept(usize),
    /// The session is logged out of.
    Logout,
}

impl House {
    /// Whether nobody but well-behaved tabs takes part, of which none rotates more than once per grace.
    pub fn is_honest(&self) -> bool {
        !self.cast.are_hasty && self.cast.thieves.is_empty() && !self.cast.has_forger && self.cast.clients.len() == 1
    }

    /// Whether the cast is large enough for every place of a call to be taken.
    pub fn has_three_calls(&self) -> bool {
        self.cast.tabs == 2 || !self.cast.thieves.is_empty() || self.cast.has_forger
    }

    /// What a call gets that nothing comes between.
    pub fn undisturbed(&self, state: &State, token: Token, client: Client) -> Answer {
        let (mut row, call) = (state.row.clone(), Call { token, client, now: state.clock });
        let (mut stand, mut has_read) = (Stand::Sent, false);
        loop {
            if let Stand::Answered(answer) = stand {
                return answer;
            }
            (stand, has_read) = self.step(&mut row, &call, stand, has_read);
        }
    }

    fn step(&self, row: &mut Row, call: &Call, stand: Stand, has_read: bool) -> (Stand, bool) {
        match self.flaw {
            None => (self.rules.step(row, call, stand), false),
            Some(flaw) => flaw.step(&self.rules, row, call, stand, has_read),
        }
    }

    /// A server's step, and what was wrong with it.
    fn serve(&self, state: &mut State, at: usize) -> Option<()> {
        let flight = state.flights[at]?;
        let (before, call) = (state.row.clone(), flight.call);
        let (stand, has_read) = self.step(&mut state.row, &call, flight.stand, flight.has_read);
        let is_forged = call.token.secret.chain == FORGED;
        let is_stranger = !before.client.answers(call.client);
        let is_late = state.is_late(call.token.generation, call.now);
        let is_over = before.idle_expires_at <= call.now || OPENED + self.rules.absolute <= call.now;
        match stand {
            Stand::Answered(answer) if answer.token().is_some() => {
                state.note(Wrong::LateGrant, is_late);
                state.note(Wrong::GrantAfterEnd, before.ended.is_some());
                state.note(Wrong::GrantAfterExpiry, is_over);
                state.note(Wrong::GrantToStranger, is_stranger);
                state.note(Wrong::GrantToForger, is_forged);
                if matches!(answer, Answer::Rotated(_)) {
                    state.replaced_at[usize::from(call.token.generation)].get_or_insert(call.now);
                }
            }
            Stand::Reusing => {
                state.note(Wrong::HonestReuse, self.is_honest() && !is_late);
                state.note(Wrong::ReuseByStranger, is_stranger || (is_forged && call.token.generation + 1 >= before.generation));
            }
            Stand::Answered(Answer::Reused) => state.note(Wrong::ReuseWithoutEnd, state.row.ended.is_none()),
            Stand::Answered(_) => {
                state.note(Wrong::MissedReuse, is_late && !is_over && before.ended.is_none() && !is_stranger && !is_forged);
            }
            Stand::Sent | Stand::Missed => {}
        }
        state.note(Wrong::ClientReplaced, before.client != Client::Default && state.row.client != before.client);
        // A refusal changes nothing for who hears it or does not.
        let is_refused = matches!(stand, Stand::Answered(answer) if answer.token().is_none());
        state.flights[at] = (!is_refused).then_some(Flight { stand, has_read, ..flight });
        Some(())
    }

    fn sends(&self, state: &State, actions: &mut Vec<Action>) {
        // An ended session's row stays as it is, so calls cannot come between one another's steps.
        if state.row.ended.is_some() && state.flights.iter().any(Option::is_some) {
            return;
        }
        let in_bounds = |token: &Token| token.generation < self.cast.rotations;
        for (at, tab) in state.tabs.iter().enumerate().take(self.cast.tabs) {
            let is_due = self.cast.are_hasty || state.clock > tab.since + SPACING;
            if is_due && in_bounds(&tab.token) && state.room(Who::Tab(at)).is_some() {
                actions.extend(self.cast.clients.iter().map(|client| Action::Send(Who::Tab(at), *client, Some(tab.token))));
            }
        }
        if let Some(token) = state.loot.filter(in_bounds).filter(|_| state.room(Who::Thief).is_some()) {
            actions.extend(self.cast.thieves.iter().map(|client| Action::Send(Who::Thief, *client, Some(token))));
        }
        if self.cast.has_forger && state.room(Who::Forger).is_some() {
            let forged = (0..self.cast.rotations).map(|generation| Token::of(FORGED, generation));
            actions.extend(forged.map(|token| Action::Send(Who::Forger, self.cast.clients[0], Some(token))));
        }
    }
}

impl Model for House {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (row, token) = self.rules.open(Client::Default, OPENED);
        let row = Row { client: self.cast.clients[0], ..row };
        let tab = Tab { token, since: 0 };
        let (loot, has_thief_refreshed) = (None, false);
        vec![State {
            clock: OPENED,
            row,
            tabs: [tab; 2],
            loot,
            has_thief_refreshed,
            flights: [None; CALLS],
            replaced_at: [None; PLACES],
            wrongs: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.clock < self.cast.last && state.flights.iter().flatten().all(|flight| state.clock < flight.call.now + LONGEST) {
            actions.push(Action::Tick);
        }
        self.sends(state, actions);
        for (at, flight) in state.flights.iter().enumerate().filter_map(|(at, flight)| Some((at, (*flight)?))) {
            let token = match flight.stand {
                Stand::Answered(answer) => answer.token(),
                _ => None,
            };
            if token.is_none() {
                actions.push(Action::Step(at));
                continue;
            }
            actions.extend([Action::Deliver(at), Action::Lose(at)]);
            if !self.cast.thieves.is_empty() && state.loot != token {
                actions.push(Action::Intercept(at));
            }
        }
        if !self.cast.thieves.is_empty() {
            actions.extend((0..self.cast.tabs).filter(|at| state.loot != Some(state.tabs[*at].token)).map(Action::Steal));
        }
        if self.cast.has_logout && state.row.ended.is_none() {
            actions.push(Action::Logout);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Tick => next.clock += 1,
            Action::Send(who, client, token) => {
                let call = Call { token: token?, client, now: last.clock };
                next.flights[last.room(who)?] = Some(Flight { who, call, stand: Stand::Sent, has_read: false });
            }
            Action::Step(at) => self.serve(&mut next, at)?,
            Action::Deliver(at) => {
                let Flight { who, stand: Stand::Answered(answer), .. } = next.flights[at].take()? else { return None };
                let token = answer.token()?;
                match who {
                    // Whatever comes is kept, also where something newer came before it.
                    Who::Tab(tab) => next.tabs[tab] = Tab { token, since: last.clock },
                    Who::Thief => (next.loot, next.has_thief_refreshed) = (Some(token), true),
                    Who::Forger => {}
                }
            }
            Action::Lose(at) => next.flights[at] = None,
            Action::Steal(tab) => next.loot = Some(last.tabs[tab].token),
            Action::Intercept(at) => match last.flights[at]?.stand {
                Stand::Answered(answer) => next.loot = Some(answer.token()?),
                _ => return None,
            },
            Action::Logout => {
                next.row.end(End::Logout, last.clock);
            }
        }
        next.flights.sort_unstable();
        next.forget();
        Some(next)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        super::properties::of(self)
    }
}
