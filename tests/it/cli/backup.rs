//! `doorward backup`: what it says, and that it changes nothing of what it copies.

use super::*;

#[test]
fn a_served_database_is_copied_and_the_copy_opens_with_the_key() {
    let place = Place::new();
    place.user("ann@example.com");
    let mut serving = Serving::start(&place);
    serving.wait_for("grpcurl");
    let out = place.run(&["backup", "copy.db"]).done().out;
    for part in ["Copied doorward.db to copy.db", "The key file doorward.db.key is not in it", "doorward session revoke --everything"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert_eq!(fs::metadata(place.file("copy.db")).unwrap().permissions().mode() & 0o777, 0o600);
    place.run(&["backup", "copy.db"]).refused(&["copy.db is there already"]);
    let json = place.run(&["backup", "second.db", "--format", "json"]).done().json();
    assert_eq!((text(&json, "file"), text(&json, "key_file")), (place.file("second.db").to_str().unwrap(), "doorward.db.key"));

    let restored = Place::new();
    fs::copy(place.file("copy.db"), restored.file("doorward.db")).unwrap();
    restored.run(&["user", "list"]).refused(&["its key file doorward.db.key is not"]);
    fs::copy(place.file("doorward.db.key"), restored.file("doorward.db.key")).unwrap();
    assert_eq!(restored.users(), place.users());
    assert_eq!(restored.sql("PRAGMA integrity_check"), ["ok"]);
}

#[test]
fn a_database_is_copied_as_it_is_before_it_is_migrated_and_without_its_key() {
    let place = Place::new();
    place.user("ann@example.com");
    // As an older version left it.
    let drop_last = "DELETE FROM seaql_migrations WHERE version LIKE '%_audit_events'";
    place.sql_write("doorward.db", drop_last);
    fs::remove_file(place.file("doorward.db.key")).unwrap();
    place.run(&["backup", "copy.db"]).done();
    let copy = |sql| {
        on_database(&place.file("copy.db"), async |db| {
            let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
            rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()).collect::<Vec<_>>()
        })
    };
    assert_eq!(copy("SELECT version FROM seaql_migrations ORDER BY 1"), place.sql("SELECT version FROM seaql_migrations ORDER BY 1"));
    assert_eq!(copy("SELECT email FROM users"), ["ann@example.com"]);
}

#[test]
fn where_there_is_nothing_to_copy_nothing_is_made() {
    let place = Place::new();
    place.run(&["backup", "copy.db"]).refused(&["there is no database doorward.db", "database.url"]);
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0);
    let place = Place::new().set("database.url", "postgres://doorward:hunter2@127.0.0.1:1/x");
    let ran = place.run(&["backup", "copy.db"]).refused(&["pg_dump"]);
    assert!(!ran.err.contains("hunter2"), "{ran:?}");
    assert_eq!(place.run(&["backup"]).code, 2);
}
