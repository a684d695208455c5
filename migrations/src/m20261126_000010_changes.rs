//! The change feed: row triggers on everything that an answer from memory is made of, which append what changed to `changes`. The database
//! itself announces, so that no code path, import or hand-written SQL can forget to.
//!
//! What an answer depends on is announced as few kinds: a membership and its roles as the *user* whose they are, a role as its *tenant*, what
//! belongs to a service account as that *account*. Certificates are announced without an id, for all of them: which account a name leads to
//! is asked by the name. An id that cannot be found is NULL, and whoever reads that forgets everything.
//!
//! Each column is *announced* or *routine* ([`FACTS`]); a test compares the list with the tables. Routine is what moves at every refresh or
//! use and decides nothing that is kept, and a new session, of which nobody can know anything yet.
//!
//! PostgreSQL: a row says in which transaction it was written (`xid`), by which a reader finds what became visible since its last snapshot,
//! in whatever order transactions commit. The functions run with the rights of their owner and name everything in full: whoever may change a
//! fact announces it, also without a right to `changes`, and no `search_path` leads it elsewhere. TRUNCATE announces everything. The triggers
//! are of the kind ALWAYS: what is replicated into the tables, or loaded with `session_replication_role = replica`, is announced too. Not seen
//! is what a BEFORE trigger of somebody else makes of an update of other columns, nor what is done while triggers are disabled by hand.
//!
//! SQLite: one transaction writes at a time, so that the sequence is the order. REPLACE takes rows away without their delete trigger: an
//! insertion that meets a row announces everything. (`UPDATE OR REPLACE` is seen where `recursive_triggers` is on.)

use std::fmt::Write as _;

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// A table whose rows are behind answers.
struct Fact {
    table: &'static str,
    kind: &'static str,
    /// The id that a change of a row is announced under; `{row}` is OLD or NEW.
    id: &'static str,
    /// Whether a new row is announced.
    inserts: bool,
    announced: &'static [&'static str],
    /// Beside it, what no two rows have in common.
    unique: &'static [&'static [&'static str]],
}

const FACTS: &[Fact] = &[
    Fact { table: "instance", kind: "instance", id: "NULL", inserts: true, announced: &["id", "epoch"], unique: &[&["id"]] },
    Fact {
        table: "users",
        kind: "user",
        id: "{row}.id",
        inserts: true,
        announced: &[
            "id",
            "external_id",
            "email",
            "username",
            "full_name",
            "given_name",
            "family_name",
            "state",
            "superuser",
            "email_verified",
            "attributes",
            "epoch",
            "revision",
            "created_at",
        ],
        unique: &[&["id"], &["external_id"], &["email_canonical"], &["username_canonical"]],
    },
    Fact {
        table: "tenants",
        kind: "tenant",
        id: "{row}.id",
        inserts: true,
        announced: &[
            "id",
            "slug",
            "name",
            "tax_id",
            "external_id",
            "state",
            "seat_limit",
            "attributes",
            "policy",
            "epoch",
            "revision",
            "created_at",
        ],
        unique: &[&["id"], &["slug"], &["tax_id"], &["external_id"]],
    },
    Fact {
        table: "roles",
        kind: "tenant",
        id: "{row}.tenant_id",
        inserts: true,
        announced: &["id", "tenant_id", "name", "description", "level", "system", "attributes", "permissions", "created_at"],
        unique: &[&["id"], &["tenant_id", "name"]],
    },
    Fact {
        table: "memberships",
        kind: "user",
        id: "{row}.user_id",
        inserts: true,
        announced: &["id", "tenant_id", "user_id", "state", "external_id", "epoch", "revision", "created_at"],
        unique: &[&["id"], &["tenant_id", "user_id"]],
    },
    Fact {
        table: "membership_roles",
        kind: "user",
        id: "(SELECT m.user_id FROM {schema}memberships m WHERE m.id = {row}.membership_id)",
        inserts: true,
        announced: &["tenant_id", "membership_id", "role_id"],
        unique: &[],
    },
    Fact {
        table: "sessions",
        kind: "session",
        id: "{row}.id",
        inserts: false,
        announced: &[
            "id",
            "user_id",
            "tenant_id",
            "client_id",
            "scope",
            "amr",
            "instance_epoch",
            "user_epoch",
            "tenant_epoch",
            "membership_epoch",
            "must_change",
            "created_at",
            "expires_at",
            "revoked_at",
            "revoked_reason",
        ],
        unique: &[&["id"]],
    },
    Fact {
        table: "signing_keys",
        kind: "signing_key",
        id: "{row}.id",
        inserts: true,
        announced: &["id", "kid", "algorithm", "state", "sealed_private_key", "created_at", "activated_at", "retired_at", "revoked_at"],
        unique: &[],
    },
    Fact {
        table: "service_accounts",
        kind: "service_account",
        id: "{row}.id",
        inserts: true,
        announced: &["id", "tenant_id", "name", "state", "permissions", "epoch", "revision", "created_at"],
        unique: &[&["id"]],
    },
    Fact {
        table: "service_account_roles",
        kind: "service_account",
        id: "{row}.service_account_id",
        inserts: true,
        announced: &["tenant_id", "service_account_id", "role_id"],
        unique: &[],
    },
    Fact {
        table: "service_account_secrets",
        kind: "service_account",
        id: "{row}.service_account_id",
        inserts: true,
        announced: &["id", "service_account_id", "digest", "created_at", "expires_at"],
        unique: &[&["id"]],
    },
    Fact {
        table: "service_account_certificates",
        kind: "certificate",
        id: "NULL",
        inserts: true,
        announced: &["name", "service_account_id", "created_at"],
        unique: &[],
    },
];

impl Fact {
    fn id_of(&self, row: &str, schema: &str) -> String {
        self.id.replace("{row}", row).replace("{schema}", schema)
    }

    /// The columns of an UPDATE that is announced, and when it is.
    fn changed(&self, is_distinct: &str) -> (String, String) {
        let differs: Vec<_> = self.announced.iter().map(|column| format!("OLD.{column} {is_distinct} NEW.{column}")).collect();
        (self.announced.join(", "), differs.join(" OR "))
    }

    fn on_postgres(&self, schema: &str) -> Vec<String> {
        let Self { table, kind, .. } = self;
        let (old, new) = (self.id_of("OLD", schema), self.id_of("NEW", schema));
        let (columns, differs) = self.changed("IS DISTINCT FROM");
        let append = |id: &str| format!("INSERT INTO {schema}changes (kind, entity_id) VALUES ('{kind}', {id});");
        let function = format!(
            "CREATE FUNCTION {schema}changes_of_{table}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp AS $$
             BEGIN
                 IF TG_OP = 'INSERT' THEN
                     {append_new}
                 ELSIF TG_OP = 'DELETE' THEN
                     {append_old}
                 ELSE
                     {append_old}
                     IF ({old}) IS DISTINCT FROM ({new}) THEN
                         {append_new}
                     END IF;
                 END IF;
                 RETURN NULL;
             END $$",
            append_new = append(&new),
            append_old = append(&old),
        );
        let trigger = |event: &str, rest: &str, function: &str| {
            let name = event.split(' ').next().unwrap_or_default().to_lowercase();
            format!("CREATE TRIGGER changes_{table}_{name} AFTER {event} ON {schema}{table} {rest} EXECUTE FUNCTION {schema}{function}()")
        };
        let own = format!("changes_of_{table}");
        let mut statements = vec![
            function,
            trigger("DELETE", "FOR EACH ROW", &own),
            trigger(&format!("UPDATE OF {columns}"), &format!("FOR EACH ROW WHEN ({differs})"), &own),
            trigger("TRUNCATE", "FOR EACH STATEMENT", "changes_of_everything"),
        ];
        if self.inserts {
            statements.push(trigger("INSERT", "FOR EACH ROW", &own));
        }
        let events = ["delete", "update", "truncate", "insert"].into_iter().filter(|event| *event != "insert" || self.inserts);
        statements.extend(events.map(|event| format!("ALTER TABLE {schema}{table} ENABLE ALWAYS TRIGGER changes_{table}_{event}")));
        statements
    }

    fn on_sqlite(&self) -> Vec<String> {
        let Self { table, kind, .. } = self;
        let (old, new) = (self.id_of("OLD", ""), self.id_of("NEW", ""));
        let (columns, differs) = self.changed("IS NOT");
        let append = |id: &str| format!("INSERT INTO changes (kind, entity_id) VALUES ('{kind}', {id});");
        let mut statements = vec![
            format!("CREATE TRIGGER changes_{table}_delete AFTER DELETE ON {table} BEGIN {} END", append(&old)),
            format!(
                "CREATE TRIGGER changes_{table}_update AFTER UPDATE OF {columns} ON {table} WHEN {differs} BEGIN
                 {} INSERT INTO changes (kind, entity_id) SELECT '{kind}', {new} WHERE {old} IS NOT {new}; END",
                append(&old)
            ),
        ];
        if self.inserts {
            statements.push(format!("CREATE TRIGGER changes_{table}_insert AFTER INSERT ON {table} BEGIN {} END", append(&new)));
        }
        if !self.unique.is_empty() {
            let mut met = String::new();
            for (number, columns) in self.unique.iter().enumerate() {
                let or = if number == 0 { "" } else { " OR " };
                let same: Vec<_> = columns.iter().map(|column| format!("o.{column} = NEW.{column}")).collect();
                // Writing to a string cannot fail.
                let _ = write!(met, "{or}({})", same.join(" AND "));
            }
            statements.push(format!(
                "CREATE TRIGGER changes_{table}_replace BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} o WHERE {met}) BEGIN
                 INSERT INTO changes (kind, entity_id) VALUES ('everything', NULL); END"
            ));
        }
        statements
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let statements = match db.get_database_backend() {
            DbBackend::Postgres => {
                let sql = "SELECT quote_ident(current_schema()) AS name";
                let row = db.query_one_raw(sea_orm::Statement::from_string(DbBackend::Postgres, sql)).await?;
                let name: String = row.map(|row| row.try_get("", "name")).transpose()?.unwrap_or_default();
                on_postgres(&format!("{name}."))
            }
            _ => on_sqlite(),
        };
        for statement in statements {
            db.execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn on_postgres(schema: &str) -> Vec<String> {
    let mut statements = vec![
        format!(
            "CREATE TABLE {schema}changes (
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
                 kind text NOT NULL,
                 entity_id uuid
             )"
        ),
        format!("CREATE INDEX changes_xid_idx ON {schema}changes (xid)"),
        format!(
            "CREATE FUNCTION {schema}changes_of_everything() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp AS $$
             BEGIN
                 INSERT INTO {schema}changes (kind, entity_id) VALUES ('everything', NULL);
                 RETURN NULL;
             END $$"
        ),
    ];
    statements.extend(FACTS.iter().flat_map(|fact| fact.on_postgres(schema)));
    statements
}

fn on_sqlite() -> Vec<String> {
    let table = "CREATE TABLE changes (id integer PRIMARY KEY AUTOINCREMENT, kind text NOT NULL, entity_id uuid_blob)";
    let mut statements = vec![table.to_owned()];
    statements.extend(FACTS.iter().flat_map(Fact::on_sqlite));
    statements
}
