//! Permissions, sets of them, and scopes, against a small model.

use doorward::values::{Permission, PermissionSet, Scope, ScopeError};
use proptest::prelude::*;

use super::naughty_strings;

const PARTS: [&str; 4] = ["*", "a", "b", "c"];
/// What wildcards stand for in the model: all there is, and `z`, which no permission names.
const THINGS: [&str; 4] = ["a", "b", "c", "z"];

fn permission(text: &str) -> Permission {
    Permission::parse(text).unwrap()
}

fn set(texts: &[&str]) -> PermissionSet {
    PermissionSet::parse(texts).unwrap()
}

/// The model: a permission is the list of the concrete things that it allows.
fn allowed<'a>(permissions: impl IntoIterator<Item = &'a Permission>) -> Vec<(&'static str, &'static str)> {
    let permissions: Vec<_> = permissions.into_iter().collect();
    let part = |own: &str, thing: &str| own == "*" || own == thing;
    let concrete = THINGS.iter().flat_map(|one| THINGS.iter().map(move |other| (*one, *other)));
    concrete
        .filter(|(resource, action)| permissions.iter().any(|own| part(own.resource(), resource) && part(own.action(), action)))
        .collect()
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let part = || proptest::sample::select(&PARTS[..]);
    (part(), part()).prop_map(|(resource, action)| permission(&format!("{resource}:{action}")))
}

fn any_set() -> impl Strategy<Value = PermissionSet> {
    proptest::collection::vec(any_permission(), 0..8).prop_map(PermissionSet::from_iter)
}

fn every_permission() -> Vec<Permission> {
    let pairs = PARTS.iter().flat_map(|one| PARTS.iter().map(move |other| format!("{one}:{other}")));
    pairs.map(|text| permission(&text)).collect()
}

#[test]
fn permissions_are_two_parts_of_few_characters() {
    let longest = format!("{0}:{0}", "a".repeat(64));
    for good in ["sales:write", "*:*", "*:read", "sales:*", "doorward.users:read", "0-_.:9", &longest] {
        assert_eq!(permission(good).to_string(), good);
    }
    let long_resource = format!("{}:a", "a".repeat(65));
    let long_action = format!("a:{}", "a".repeat(65));
    for bad in [
        "",
        ":",
        "a",
        "a:",
        ":a",
        "a:b:c",
        "A:b",
        "a:B",
        "a b:c",
        " a:b",
        "a:b ",
        "a:b\n",
        "a:b\0",
        "sales.*:read",
        "**:a",
        "a:**",
        "é:a",
        "a:ａ",
        "a;b",
        &long_resource,
        &long_action,
    ] {
        assert!(Permission::parse(bad).is_err(), "{bad:?} was read");
    }
}

#[test]
fn one_permission_covers_and_meets_another_as_in_the_model() {
    for one in every_permission() {
        for other in every_permission() {
            let (mine, theirs) = (allowed([&one]), allowed([&other]));
            let covers = theirs.iter().all(|thing| mine.contains(thing));
            assert_eq!(one.covers(&other), covers, "{one} covers {other}");
            let common: Vec<_> = mine.into_iter().filter(|thing| theirs.contains(thing)).collect();
            assert_eq!(allowed(&one.intersect(&other)), common, "{one} and {other}");
            assert_eq!(one.intersect(&other), other.intersect(&one));
        }
    }
}

proptest! {
    #[test]
    fn a_set_covers_what_one_of_its_entries_covers(own in any_set(), asked in any_permission()) {
        let things = allowed(&own);
        let covers = allowed([&asked]).iter().all(|thing| things.contains(thing));
        // `z` stands for everything unnamed, so a wildcard is covered by a wildcard only, in the model too.
        prop_assert_eq!(own.covers(&asked), covers);
    }

    #[test]
    fn the_intersection_allows_what_both_allow(one in any_set(), other in any_set()) {
        let both = one.intersect(&other);
        let theirs = allowed(&other);
        let common: Vec<_> = allowed(&one).into_iter().filter(|thing| theirs.contains(thing)).collect();
        prop_assert_eq!(allowed(&both), common);
        prop_assert_eq!(&both, &other.intersect(&one));
        prop_assert!(one.covers_all(&both) && other.covers_all(&both));
        for entry in &both {
            let others = both.iter().filter(|&own| own != entry);
            prop_assert!(!others.into_iter().any(|own| own.covers(entry)), "{} is said twice", entry);
        }
    }

    #[test]
    fn sets_are_sorted_and_hold_nothing_twice(permissions in proptest::collection::vec(any_permission(), 0..12)) {
        let set: PermissionSet = permissions.iter().cloned().collect();
        prop_assert!(set.iter().is_sorted_by(|one, other| one < other));
        prop_assert!(permissions.iter().all(|own| set.iter().any(|other| own == other)));
        prop_assert_eq!(set.len(), set.iter().count());
        prop_assert_eq!(set.is_empty(), permissions.is_empty());
        prop_assert_eq!(&PermissionSet::parse(set.to_strings()).unwrap(), &set);
        let read = Scope::parse(&set.to_string()).unwrap();
        prop_assert_eq!(read, (!set.is_empty()).then_some(set));
    }
}

#[test]
fn the_intersection_is_in_its_shortest_form() {
    let own = set(&["*:read", "sales:*", "stock:write"]);
    let cap = set(&["sales:*", "sales:read", "*:write"]);
    assert_eq!(own.intersect(&cap).to_string(), "sales:* stock:write");
    assert!(own.intersect(&PermissionSet::default()).is_empty());
    assert_eq!(set(&["*:*"]).intersect(&cap).to_strings(), ["*:write", "sales:*"]);
}

#[test]
fn a_set_with_one_bad_entry_is_refused() {
    assert!(PermissionSet::parse(["a:b", "a"]).is_err());
    assert!(PermissionSet::parse(Vec::<String>::new()).unwrap().is_empty());
}

#[test]
fn scopes_are_permissions_with_one_space_between() {
    assert_eq!(Scope::parse(""), Ok(None));
    let scope = Scope::parse("sales:write *:read sales:write").unwrap().unwrap();
    assert_eq!(scope.to_string(), "*:read sales:write");
    for bad in [" ", "a:b ", " a:b", "a:b  c:d", "a:b\tc:d", "a:b\n", "a:b,c:d", "openid"] {
        assert!(matches!(Scope::parse(bad), Err(ScopeError::Entry(_))), "{bad:?} was read");
    }
}

#[test]
fn a_scope_has_64_entries_at_most() {
    let entries = |count: usize| (0..count).map(|at| format!("r{at}:x")).collect::<Vec<_>>().join(" ");
    assert_eq!(Scope::parse(&entries(64)).unwrap().unwrap().len(), 64);
    assert_eq!(Scope::parse(&entries(65)), Err(ScopeError::TooMany));
    assert_eq!(Scope::parse(&entries(5_000)), Err(ScopeError::TooMany));
}

#[test]
fn naughty_strings_are_no_permissions() {
    for naughty in naughty_strings() {
        assert!(Permission::parse(&naughty).is_err(), "{naughty:?} was read");
        let scope = Scope::parse(&naughty);
        assert!(scope.is_err() || naughty.is_empty(), "{naughty:?} was read");
    }
}
