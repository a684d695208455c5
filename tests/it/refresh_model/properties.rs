//! What holds of every state that can be reached (invariants 6 to 10), and what is to be reached at all.

use stateright::Property;

use super::{
    house::{FORGED, House, OPENED, State, Who, Wrong},
    protocol::{Answer, Client, End, Stand, Token},
};

/// Of a state.
type Condition = fn(&House, &State) -> bool;
/// Of a cast.
type Possibility = fn(&House) -> bool;

/// What has to hold always.
pub const ALWAYS: [(&str, Condition); 16] = [
    // 6
    ("parallel uses have one successor", |_, state| has_one_successor(state)),
    // 7
    ("reuse is one end and one event", |_, state| state.row.reuse_events == u8::from(state.row.ended == Some(End::Reuse))),
    ("reuse is answered only of an ended session", |_, state| !state.has(Wrong::ReuseWithoutEnd)),
    ("reuse after the grace is not missed", |_, state| !state.has(Wrong::MissedReuse)),
    // 8
    ("at most one token moves the chain on", is_one_live),
    ("nobody who comes after the grace goes on", |_, state| !state.has(Wrong::LateGrant)),
    ("no client is taken for a thief", |_, state| !state.has(Wrong::HonestReuse)),
    // 9
    ("every tab can go on, or repeat", can_every_tab_go_on),
    ("an old token never revives", |_, state| never_goes_back(state)),
    ("nothing is answered after the end", |_, state| !state.has(Wrong::GrantAfterEnd)),
    // 10
    ("the absolute lifetime never grows", |house, state| state.row.expires_at == OPENED + house.rules.absolute),
    ("nothing is answered after its time", |_, state| !state.has(Wrong::GrantAfterExpiry)),
    ("a token works for its client only", |_, state| !state.has(Wrong::GrantToStranger)),
    ("a known client keeps its session", |_, state| !state.has(Wrong::ClientReplaced)),
    ("a wrong secret gets nothing", |_, state| !state.has(Wrong::GrantToForger)),
    ("a stranger ends nothing", |_, state| !state.has(Wrong::ReuseByStranger)),
];

/// What has to happen in some run, or the rest says nothing; each where its cast makes it possible.
const SOMETIMES: [(&str, Possibility, Condition); 12] = [
    ("the chain moves on to its bound", |_| true, |house, state| state.row.generation == house.cast.rotations),
    ("three calls are under way", |house| house.has_three_calls(), |_, state| state.flights.iter().all(Option::is_some)),
    ("a token is healed", |_| true, |_, state| is_answered(state, |_, answer| matches!(answer, Answer::Healed(_)))),
    ("two uses at once get the same", |_| true, |_, state| are_two_answered_alike(state)),
    (
        "two tabs go on together",
        |house| house.cast.tabs == 2,
        |_, state| state.tabs.iter().all(|tab| tab.token.generation == 2) && state.row.ended.is_none(),
    ),
    (
        "a tab that slept for too long ends it",
        |house| house.cast.tabs == 2 && house.is_honest(),
        |_, state| state.row.ended == Some(End::Reuse),
    ),
    (
        "who rotates twice in a grace can lose it",
        |house| house.cast.are_hasty,
        |_, state| state.row.ended == Some(End::Reuse) && !state.is_late(0, state.clock),
    ),
    (
        "a thief is found who has refreshed",
        |house| !house.cast.thieves.is_empty(),
        |_, state| state.row.ended == Some(End::Reuse) && state.has_thief_refreshed,
    ),
    ("a known client takes it over", |house| house.cast.clients.len() > 1, |_, state| state.row.client != Client::Default),
    (
        "it is logged out of in mid-call",
        |house| house.cast.has_logout,
        |_, state| state.row.ended == Some(End::Logout) && state.flights.iter().flatten().any(|flight| flight.stand == Stand::Missed),
    ),
    (
        "it ends by lying idle",
        |house| house.cast.last >= OPENED + house.rules.idle,
        |_, state| state.row.ended.is_none() && (state.row.idle_expires_at..state.row.expires_at).contains(&state.clock),
    ),
    (
        "it ends by its age",
        |house| house.cast.last >= OPENED + house.rules.absolute,
        |_, state| state.row.ended.is_none() && state.row.idle_expires_at == state.row.expires_at && state.clock >= state.row.expires_at,
    ),
];

/// The properties of a cast.
pub fn of(house: &House) -> Vec<Property<House>> {
    let always = ALWAYS.into_iter().map(|(name, condition)| Property::always(name, condition));
    let sometimes = SOMETIMES.into_iter().filter(|(_, is_possible, _)| is_possible(house));
    always.chain(sometimes.map(|(name, _, condition)| Property::sometimes(name, condition))).collect()
}

fn has_one_successor(state: &State) -> bool {
    let mut own = state.tokens();
    own.retain(|token| token.secret.chain != FORGED);
    own.windows(2).all(|pair| pair[0].generation != pair[1].generation)
}

fn never_goes_back(state: &State) -> bool {
    (0_u8..).zip(state.replaced_at).all(|(generation, at)| at.is_none() || state.row.generation > generation)
}

fn is_one_live(house: &House, state: &State) -> bool {
    let is_live = |token: &&Token| matches!(house.undisturbed(state, **token, state.row.client), Answer::Rotated(_));
    state.tokens().iter().filter(is_live).count() <= 1
}

/// Of honest tabs: whoever is not too late has a token that works, or that can be shown again, whatever was lost or cut.
fn can_every_tab_go_on(house: &House, state: &State) -> bool {
    let is_over = state.row.ended.is_some() || state.clock >= state.row.idle_expires_at;
    if !house.is_honest() || is_over {
        return true;
    }
    let mut tabs = state.tabs.iter().take(house.cast.tabs);
    tabs.all(|tab| {
        state.is_late(tab.token.generation, state.clock) || house.undisturbed(state, tab.token, state.row.client).token().is_some()
    })
}

fn is_answered(state: &State, which: impl Fn(Who, Answer) -> bool) -> bool {
    state.flights.iter().flatten().any(|flight| matches!(flight.stand, Stand::Answered(answer) if which(flight.who, answer)))
}

fn are_two_answered_alike(state: &State) -> bool {
    let rotated = state.flights.iter().flatten().find_map(|flight| match flight.stand {
        Stand::Answered(Answer::Rotated(token)) => Some(token),
        _ => None,
    });
    rotated.is_some_and(|token| is_answered(state, |_, answer| answer == Answer::Healed(token)))
}
