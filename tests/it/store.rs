//! The door to the database: units of work that are whole or absent, races that are tried again, errors that say nothing of the data.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use doorward::{
    domain::{self, roles::NewRoleRequest, tenants::NewTenantRequest, users::NewUserRequest},
    error::{Error, Taken},
    grpc::status,
    store::{
        Db, Once, Store, Tx, instance, roles,
        roles::NewRole,
        schema,
        tenants::{self, NewTenant},
    },
    values::{
        entropy::Entropy,
        ids::{RoleId, TenantId},
        permission::PermissionSet,
        time::{Clock, Timestamp},
    },
};
use sea_orm::ConnectionTrait;
use tokio::{
    sync::{Barrier, Notify},
    task::JoinSet,
};

use crate::{
    harness::*,
    life::{eventually, soon},
    on_both,
    start::{Ground, on_new, run},
};

fn new_tenant(clock: &Clock, slug: &str) -> NewTenant {
    let id = TenantId::generate(&Entropy::system(), clock);
    let now = clock.now();
    NewTenant { id, slug: slug.to_owned(), name: slug.to_owned(), tax_id: None, external_id: None, seat_limit: None, now }
}

async fn count_tenants(world: &World) -> i64 {
    world.sql().await.count("SELECT count(*) AS n FROM tenants").await
}

/// The text of an error with everything that only the log gets.
fn inner(error: &Error) -> String {
    format!("{error} {error:?}")
}

/// Reads, then writes what it read and one more: a lost race would lose a count.
async fn increment(tx: Tx, locks: u32) -> Result<(), Error> {
    let mut epoch = 0;
    for _ in 0..locks {
        epoch = instance::lock(&tx).await?.epoch;
    }
    let sql = format!("UPDATE instance SET epoch = {}", epoch + 1);
    tx.executor().execute_unprepared(&sql).await.unwrap();
    Ok(())
}

on_both! {
    async fn increments_that_collide_are_all_counted(world: World) {
        let other = world.another_replica().await;
        let mut units = JoinSet::new();
        for number in 0..40 {
            let store = if number % 2 == 0 { world.app().store.clone() } else { other.app.store.clone() };
            units.spawn(async move { store.write("increment", 1, increment).await });
        }
        for outcome in soon("the units", units.join_all()).await {
            outcome.unwrap();
        }
        assert_eq!(world.sql().await.count("SELECT epoch AS n FROM instance").await, 40);
        other.stop().await;
    }

    async fn a_unit_of_one_statement_is_tried_again_and_told_once(world: World) {
        let store = &world.app().store;
        let (tried, told) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
        for (lost, expected) in [(0, 1), (2, 3), (100, 6)] {
            let unit = move |_: Once, tried: Arc<AtomicU32>| async move {
                if tried.fetch_add(1, Ordering::SeqCst) < lost { Err(Error::Conflict) } else { Ok(()) }
            };
            let heard = Arc::clone(&told);
            let then = move |outcome: &Result<(), Error>| heard.lock().unwrap().push(outcome.is_ok());
            let outcome = store.write_once("once", Arc::clone(&tried), unit, then).await;
            assert_eq!((outcome.is_ok(), tried.swap(0, Ordering::SeqCst)), (lost < 100, expected));
        }
        assert_eq!(*told.lock().unwrap(), [true, true, false]);
        let unit = move |_: Once, tried: Arc<AtomicU32>| async move {
            tried.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(Error::Unavailable("the connection broke".to_owned()))
        };
        store.write_once("once", Arc::clone(&tried), unit, |_| {}).await.unwrap_err();
        assert_eq!(tried.load(Ordering::SeqCst), 1, "whether it took effect is unknown");
    }

    async fn a_lost_race_is_tried_again_and_nothing_else_is(world: World) {
        let store = &world.app().store;
        let tried = Arc::new(AtomicU32::new(0));
        // Loses twice.
        let unit = |tx: Tx, (tried, tenant): (Arc<AtomicU32>, NewTenant)| async move {
            tenants::insert(&tx, tenant).await?;
            if tried.fetch_add(1, Ordering::SeqCst) < 2 { Err(Error::Conflict) } else { Ok(()) }
        };
        store.write("twice", (Arc::clone(&tried), new_tenant(&world.clock, "acme")), unit).await.unwrap();
        assert_eq!((tried.swap(0, Ordering::SeqCst), count_tenants(&world).await), (3, 1));

        // Loses always: the tries are bounded, and the caller hears of it.
        let unit = |_: Tx, tried: Arc<AtomicU32>| async move {
            tried.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(Error::Conflict)
        };
        assert!(matches!(store.write("always", Arc::clone(&tried), unit).await, Err(Error::Conflict)));
        assert_eq!(tried.swap(0, Ordering::SeqCst), 6);

        // Any other error is the unit's own answer.
        for error in [|| Error::SeatLimit, || Error::Unavailable(String::new()), || Error::internal("no")] {
            let unit = move |_: Tx, tried: Arc<AtomicU32>| async move {
                tried.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>(error())
            };
            let refused = store.write("once", Arc::clone(&tried), unit).await.unwrap_err();
            assert_eq!(refused.reason(), error().reason());
            assert_eq!(tried.swap(0, Ordering::SeqCst), 1);
        }
    }

    async fn an_error_leaves_no_trace(world: World) {
        let unit = |tx: Tx, tenant| async move {
            tenants::insert(&tx, tenant).await?;
            Err::<(), _>(Error::SeatLimit)
        };
        let refused = world.app().store.write("refused", new_tenant(&world.clock, "acme"), unit).await;
        assert!(matches!(refused, Err(Error::SeatLimit)));
        assert_eq!(count_tenants(&world).await, 0);
    }

    async fn a_row_that_cannot_be_read_is_a_defect_and_not_an_absence(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let token = world.login_to("ann@example.com", &acme).await.access_token;
        let sql = world.sql().await;
        for (table, broken, mended) in [("tenants", "attributes", "'{}'"), ("roles", "permissions", "'[]'"), ("users", "attributes", "'{}'")] {
            // What no version of this service writes.
            let nonsense = if world.backend == Backend::Sqlite { "'{nonsense'" } else { "'7'" };
            sql.execute(&format!("UPDATE {table} SET {broken} = {nonsense}")).await;
            let is_readable = world.backend == Backend::Postgres && table != "roles";
            let answer = world.validate(&token).await;
            assert_eq!(answer.map_or_else(|status| reason(&status), |_| "OK".to_owned()), if is_readable { "OK" } else { "INTERNAL" }, "{table}");
            sql.execute(&format!("UPDATE {table} SET {broken} = {mended}")).await;
        }
        world.validate(&token).await.unwrap();
    }

    async fn a_panic_is_internal_and_leaves_no_trace(world: World) {
        let store = world.restart_with(|config| config.database.max_connections = 1).await;
        let (world, store) = (&store, &store.app().store);
        let unit = |tx: Tx, tenant| async move {
            tenants::insert(&tx, tenant).await?;
            assert!(tx.executor().execute_unprepared("SELECT 1").await.is_err(), "on purpose");
            Ok(())
        };
        for _ in 0..3 {
            let refused = store.write("panics", new_tenant(&world.clock, "acme"), unit).await.unwrap_err();
            assert!(matches!(&refused, Error::Internal(text) if text.contains("panics")), "{refused:?}");
            let refused = store.read("panics_too", (), |_, ()| async { if true { panic!("on purpose") } else { Ok(()) } }).await.unwrap_err();
            assert!(matches!(&refused, Error::Internal(text) if text.contains("panics_too")), "{refused:?}");
        }
        assert_eq!(count_tenants(world).await, 0);
        // The one connection is whole: what comes next is a unit of its own.
        store.write("next", new_tenant(&world.clock, "acme"), |tx, tenant| async move { tenants::insert(&tx, tenant).await }).await.unwrap();
        assert_eq!(count_tenants(world).await, 1);
    }

    async fn a_unit_that_keeps_its_transaction_is_refused(world: World) {
        type Kept = Arc<Mutex<Option<Tx>>>;
        let kept = Kept::default();
        let unit = |tx: Tx, (kept, tenant): (Kept, NewTenant)| async move {
            tenants::insert(&tx, tenant).await?;
            *kept.lock().unwrap() = Some(tx);
            Ok(())
        };
        let refused = world.app().store.write("keeps", (Arc::clone(&kept), new_tenant(&world.clock, "acme")), unit).await.unwrap_err();
        assert!(matches!(&refused, Error::Internal(text) if text.contains("kept its transaction")), "{refused:?}");
        kept.lock().unwrap().take().unwrap();
        let store = &world.app().store;
        store.write("next", new_tenant(&world.clock, "other"), |tx, tenant| async move { tenants::insert(&tx, tenant).await }).await.unwrap();
        assert_eq!(count_tenants(&world).await, 1, "what the kept one wrote is not there");
    }

    async fn a_unit_goes_on_when_its_caller_is_gone(world: World) {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let input = (Arc::clone(&begun), Arc::clone(&go_on), new_tenant(&world.clock, "acme"));
        let store = world.app().store.clone();
        let caller = tokio::spawn(async move {
            let unit = |tx: Tx, (begun, go_on, tenant): (Arc<Notify>, Arc<Notify>, NewTenant)| async move {
                begun.notify_one();
                go_on.notified().await;
                tenants::insert(&tx, tenant).await.map(drop)
            };
            store.write("goes_on", input, unit).await
        });
        soon("the unit's begin", begun.notified()).await;
        caller.abort();
        assert!(soon("the caller's end", caller).await.unwrap_err().is_cancelled());
        assert_eq!(count_tenants(&world).await, 0);

        go_on.notify_one();

        eventually("the row", async || count_tenants(&world).await == 1).await;
    }

    async fn every_unique_name_has_its_own_refusal(world: World) {
        let user = |email: Option<&str>, username: Option<&str>| NewUserRequest {
            email: email.map(str::to_owned),
            username: username.map(str::to_owned),
            full_name: String::new(),
            superuser: false,
            password: None,
        };
        let tenant = |slug: &str, tax_id: &str, external_id: &str| NewTenantRequest {
            slug: slug.to_owned(),
            name: "A company".to_owned(),
            tax_id: Some(tax_id.to_owned()),
            external_id: Some(external_id.to_owned()),
            seat_limit: None,
        };
        let role = || NewRoleRequest { name: "seller".to_owned(), level: 1, permissions: Vec::new(), description: String::new() };
        let app = world.app();
        let ann = domain::users::create(app, user(Some("canary-ann@example.com"), Some("canary-ann")), cli()).await.unwrap();
        let acme = domain::tenants::create(app, tenant("canary-acme", "canary-tax", "canary-ext"), cli()).await.unwrap();
        domain::roles::create(app, &acme, role(), cli()).await.unwrap();
        domain::memberships::add(app, &acme, &ann, Vec::new(), cli()).await.unwrap();

        let refusals = [
            (domain::users::create(app, user(Some("CANARY-ann@Example.com"), None), cli()).await.map(drop), Taken::Email),
            (domain::users::create(app, user(None, Some("Canary-Ann")), cli()).await.map(drop), Taken::Username),
            (domain::tenants::create(app, tenant("canary-acme", "t2", "e2"), cli()).await.map(drop), Taken::Slug),
            (domain::tenants::create(app, tenant("s2", "canary-tax", "e2"), cli()).await.map(drop), Taken::TaxId),
            (domain::tenants::create(app, tenant("s2", "t2", "canary-ext"), cli()).await.map(drop), Taken::ExternalId),
            (domain::roles::create(app, &acme, role(), cli()).await.map(drop), Taken::RoleName),
            (domain::memberships::add(app, &acme, &ann, Vec::new(), cli()).await.map(drop), Taken::Member),
        ];
        for (outcome, expected) in refusals {
            let refusal = outcome.unwrap_err();
            assert!(matches!(&refusal, Error::Taken(taken) if *taken == expected), "{expected:?}: {refusal:?}");
            assert!(!inner(&refusal).to_lowercase().contains("canary"), "{refusal:?}");
        }
    }

    async fn what_the_driver_says_holds_no_value_of_ours(world: World) {
        let store = &world.app().store;
        let acme = world.tenant("acme").await;
        let role = |tenant_id, name: &str, level| NewRole {
            id: RoleId::generate(&Entropy::system(), &world.clock),
            tenant_id,
            name: name.to_owned(),
            description: "canary".to_owned(),
            level,
            system: false,
            permissions: PermissionSet::default(),
            now: world.clock.now(),
        };
        let nobody = TenantId::generate(&Entropy::system(), &world.clock);
        // A check, a foreign key, a primary key.
        let twice = role(acme.id, "canary-a", 1);
        insert_role(store, twice.clone()).await.unwrap();
        let again = NewRole { name: "canary-b".to_owned(), ..twice };
        for new in [role(acme.id, "canary-c", 101), role(nobody, "canary-d", 1), again] {
            let name = new.name.clone();
            let refusal = insert_role(store, new).await.unwrap_err();
            assert!(matches!(refusal, Error::Internal(_)), "{name}: {refusal:?}");
            assert!(!inner(&refusal).contains("canary") && !inner(&refusal).contains(&acme.id.to_string()), "{name}: {refusal:?}");
            assert_eq!(status::without_request(&refusal).message(), "internal error");
        }
        // What PostgreSQL cannot store; SQLite can.
        let outcome = insert_role(store, role(acme.id, "canary\0", 1)).await;
        assert_eq!(outcome.is_ok(), world.backend == Backend::Sqlite);
        if let Err(refusal) = outcome {
            assert!(!inner(&refusal).contains("canary"), "{refusal:?}");
        }
    }

    async fn times_are_whole_seconds_of_the_clock(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        world.pass(Duration::from_millis(1500));
        let tokens = world.login_to("ann@example.com", &acme).await;
        world.pass(Duration::from_millis(499));
        world.refresh(&tokens.refresh_token).await.unwrap();

        let sql = world.sql().await;
        assert_eq!(sql.count("SELECT created_at AS n FROM sessions").await, START + 1);
        assert_eq!(sql.count("SELECT rotated_at AS n FROM sessions").await, START + 1);
        let columns = match world.backend {
            Backend::Sqlite => {
                "SELECT m.name || '.' || c.name AS n FROM sqlite_master m, pragma_table_info(m.name) c \
                 WHERE m.type = 'table' AND c.name LIKE '%\\_at' ESCAPE '\\' AND m.name <> 'seaql_migrations'"
            }
            Backend::Postgres => {
                "SELECT table_name || '.' || column_name AS n FROM information_schema.columns \
                 WHERE table_schema = 'public' AND column_name LIKE '%\\_at' AND table_name <> 'seaql_migrations'"
            }
        };
        let columns: Vec<String> = sql.query(columns).await.iter().map(|row| row.try_get("", "n").unwrap()).collect();
        assert!(columns.len() >= 12, "{columns:?}");
        for column in columns {
            let (table, column) = column.split_once('.').unwrap();
            let kind = if world.backend == Backend::Sqlite { "typeof" } else { "pg_typeof" };
            let kinds = sql.query(&format!("SELECT DISTINCT CAST({kind}({column}) AS text) AS n FROM {table} WHERE {column} IS NOT NULL")).await;
            let kinds: BTreeSet<String> = kinds.iter().map(|row| row.try_get("", "n").unwrap()).collect();
            assert!(kinds.iter().all(|kind| ["integer", "bigint"].contains(&kind.as_str())), "{table}.{column}: {kinds:?}");
        }
    }
}

async fn insert_role(store: &Store, role: NewRole) -> Result<(), Error> {
    store.write("insert_role", role, |tx, role| async move { roles::insert(&tx, role).await.map(drop) }).await
}

on_new! {
    async fn migrators_at_once_are_one_run(ground: Ground) {
        for round in 0..4 {
            let ground = Ground::new(ground.backend);
            // The file has to be there; migrating makes none.
            doorward::store::connect(&ground.config.database, true).await.unwrap().close().await;
            let mut migrators = JoinSet::new();
            for _ in 0..4 {
                let database = ground.config.database.clone();
                migrators.spawn(async move { schema::migrate(&database).await.unwrap() });
            }
            let mut applied = soon("the migrators", migrators.join_all()).await;
            applied.sort();
            let all = applied.pop().unwrap();
            assert!(all.len() >= 7, "round {round}: {all:?}");
            assert_eq!(applied, [const { Vec::<String>::new() }; 3], "round {round}: each is applied by one");
            let count = ground.sql().await.count("SELECT count(*) AS n FROM seaql_migrations").await;
            assert_eq!(count, i64::try_from(all.len()).unwrap());
            assert!(schema::migrate(&ground.config.database).await.unwrap().is_empty(), "the lock is free again");
        }
    }
}

/// On SQLite a unit begins as the only writer, and never meets another halfway.
#[test]
fn units_that_lock_each_other_out_on_postgres_both_succeed() {
    run(Backend::Postgres, |ground| async move {
        let app = ground.open().await.unwrap();
        let mut ids = Vec::new();
        for slug in ["acme", "bolt"] {
            let tenant = new_tenant(&ground.clock, slug);
            ids.push(tenant.id);
            app.store.write("given", tenant, |tx, tenant| async move { tenants::insert(&tx, tenant).await }).await.unwrap();
        }
        let (both_hold_one, tries) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
        let mut units = JoinSet::new();
        for order in [[ids[0], ids[1]], [ids[1], ids[0]]] {
            let (store, input) = (app.store.clone(), (order, Arc::clone(&both_hold_one), Arc::clone(&tries)));
            units.spawn(async move {
                let unit = |tx: Tx, (order, both_hold_one, tries): ([TenantId; 2], Arc<Barrier>, Arc<AtomicU32>)| async move {
                    let first_two = tries.fetch_add(1, Ordering::SeqCst) < 2;
                    add_revision(&tx, order[0]).await?;
                    if first_two {
                        both_hold_one.wait().await;
                    }
                    add_revision(&tx, order[1]).await
                };
                store.write("locks_two", input, unit).await
            });
        }
        for outcome in soon("the units", units.join_all()).await {
            outcome.unwrap();
        }
        assert_eq!(tries.load(Ordering::SeqCst), 3, "one of the two was tried again");
        assert_eq!(ground.sql().await.count("SELECT sum(epoch)::bigint AS n FROM tenants").await, 4);
    });
}

/// Locks a tenant and moves its epoch, with the errors of the store.
async fn add_revision(tx: &Tx, id: TenantId) -> Result<(), Error> {
    doorward::store::memberships::lock_tenant(tx, id).await?;
    let sql = format!("UPDATE tenants SET epoch = epoch + 1 WHERE id = '{id}'");
    tx.executor().execute_unprepared(&sql).await.unwrap();
    Ok(())
}

#[test]
fn no_connection_is_left_inside_a_transaction() {
    run(Backend::Postgres, |ground| async move {
        let app = Arc::new(ground.open().await.unwrap());
        for number in 0..20 {
            let unit = move |tx: Tx, tenant: NewTenant| async move {
                tenants::insert(&tx, tenant).await?;
                match number % 3 {
                    0 => Err(Error::SeatLimit),
                    1 => panic!("on purpose"),
                    _ => Ok(()),
                }
            };
            drop(app.store.write("mixed", new_tenant(&ground.clock, &format!("t-{number}")), unit).await);
        }
        let sql = ground.sql().await;
        let inside = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        eventually("every connection to be outside", async || sql.count(inside).await == 0).await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM tenants").await, 6);
    });
}

#[test]
fn a_clock_that_is_moved_gives_whole_seconds() {
    let clock = Clock::manual(Timestamp::from_unix(START));
    clock.advance(Duration::from_millis(1999));
    assert_eq!(clock.now(), Timestamp::from_unix(START + 1));
}
