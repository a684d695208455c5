//! Where the command is run, and what a run of it gave.

use super::*;

/// A folder in which the command is run.
pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) settings: Vec<(String, String)>,
}

impl Place {
    /// On free ports: a server of the developer's may hold the usual ones.
    pub(super) fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap(), settings: Vec::new() };
        place.set("server.grpc_addr", "127.0.0.1:0").set("server.http_addr", "127.0.0.1:0").set("server.ops_addr", "127.0.0.1:0")
    }

    /// Sets `section.key` for every further run.
    pub(super) fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((format!("DOORWARD__{}", key.replace('.', "__").to_uppercase()), value.to_owned()));
        self
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.args(words).current_dir(self.folder.path()).env_clear().env("USER", "somebody-else");
        command.envs(self.settings.iter().cloned()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Ran {
        Ran::new(self.command(words).stdin(Stdio::null()).output().unwrap())
    }

    /// A server that must not come to serve; where it does, it is ended and has not been refused.
    pub(super) fn serve_in_vain(&self) -> Ran {
        let program = self.command(&["serve"]);
        let mut command = Command::new("timeout");
        command.arg("20").arg(program.get_program()).arg("serve").current_dir(self.folder.path());
        command.env_clear().envs(self.settings.iter().cloned());
        Ran::new(command.stdin(Stdio::null()).output().unwrap())
    }

    pub(super) fn run_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ran::new(child.wait_with_output().unwrap())
    }

    /// Makes a user and answers the JSON of it.
    pub(super) fn user(&self, email: &str) -> Value {
        let words = ["user", "create", "--email", email, "--password-stdin", "--format", "json"];
        self.run_with(&words, PASSWORD.as_bytes()).done().json()
    }

    pub(super) fn tenant(&self, slug: &str) -> Value {
        self.run(&["tenant", "create", "--slug", slug, "--name", slug, "--format", "json"]).done().json()
    }

    pub(super) fn users(&self) -> Vec<Value> {
        self.run(&["user", "list", "--format", "json"]).done().json()["users"].as_array().unwrap().clone()
    }

    pub(super) fn members(&self, tenant: &str) -> Vec<Value> {
        self.run(&["member", "list", "--tenant", tenant, "--format", "json"]).done().json()["members"].as_array().unwrap().clone()
    }

    /// What the first column of a statement's rows says, read behind the service's back.
    pub(super) fn sql(&self, sql: &str) -> Vec<String> {
        on_database(&self.file("doorward.db"), async |db| {
            let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
            rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
        })
    }

    pub(super) fn sql_write(&self, file: &str, sql: &str) {
        on_database(&self.file(file), async |db| {
            db.execute_unprepared(sql).await.unwrap();
        });
    }
}

pub(super) fn on_database<T>(file: &std::path::Path, work: impl AsyncFnOnce(&DatabaseConnection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = crate::harness::connection(format!("sqlite://{}?mode=rwc", file.display())).await;
        let answer = work(&db).await;
        db.close().await.unwrap();
        answer
    })
}

/// Both ends of a new terminal. No program that another test starts at this moment gets one of them: as long as somebody had the second
/// end, the first would wait for more.
pub(super) fn terminal() -> (fs::File, fs::File) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname_r(&master).unwrap();
    let slave = fs::File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(name).unwrap();
    (master.as_fd().try_clone_to_owned().unwrap().into(), slave)
}

/// What a run of the command gave.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ran {
    pub(super) fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub(super) fn done(self) -> Self {
        // The first command of a place makes its database, and says so.
        let err = self.err.replace(&format!("doorward: {NEW_DATABASE}\n"), "");
        // A busy machine makes a start take long, which is told of too.
        let err: String = err.split_inclusive('\n').filter(|line| !line.contains("WARN still waiting: ")).collect();
        assert_eq!((self.code, err.as_str()), (0, ""), "{self:?}");
        Self { err, ..self }
    }

    /// Refused with a sentence that holds each of `parts`, and nothing printed as a result.
    #[track_caller]
    pub(super) fn refused(self, parts: &[&str]) -> Self {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing in {self:?}");
        }
        self
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}
