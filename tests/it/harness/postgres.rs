//! A throw-away PostgreSQL cluster, one per test process.
//!
//! It is started at the first use, in a new folder, on a free port of the loopback, and must not outlive the process, not even a killed
//! one: a shell supervises it and reads from a pipe that this process holds. When the process is gone the read ends, and the shell stops
//! the server and deletes the folder. PostgreSQL refuses to run as root: then it runs as the system's user `postgres`.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The running cluster.
pub struct Cluster {
    programs: PathBuf,
    port: u16,
    databases: AtomicU64,
    /// Closed when the process ends, however it does.
    _lifeline: Mutex<ChildStdin>,
}

/// The cluster of this process; none where PostgreSQL's server programs are not found.
///
/// # Panics
/// In CI, and with `DOORWARD_REQUIRE_POSTGRES` set, where they are not found.
pub fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            let Some(programs) = programs() else {
                let required = std::env::var_os("CI").is_some() || std::env::var_os("DOORWARD_REQUIRE_POSTGRES").is_some();
                assert!(!required, "PostgreSQL's server programs are required here, and were not found");
                eprintln!("note: PostgreSQL's server programs were not found: the tests run on SQLite only");
                return None;
            };
            Some(Cluster::start(programs))
        })
        .as_ref()
}

fn programs() -> Option<PathBuf> {
    let has_them = |folder: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).is_file());
    let named = std::env::var_os("DOORWARD_POSTGRES_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut packaged: Vec<PathBuf> = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|root| fs::read_dir(root).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path().join("bin")))
        .collect();
    packaged.sort();
    named.into_iter().chain(path).chain(packaged.into_iter().rev()).find(has_them)
}

impl Cluster {
    fn start(programs: PathBuf) -> Self {
        let folder = tempfile::Builder::new().prefix("doorward-pg-").tempdir().unwrap().keep();
        let user = unprivileged(&folder);
        let data = folder.join("data");
        let mut initdb = command_as(user.as_deref(), &programs.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "doorward", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        // A port that is free now can be taken a moment later: another one then.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(lifeline) = supervise(&programs, &folder, &data, port, user.as_deref()) {
                return Self { programs, port, databases: AtomicU64::new(0), _lifeline: Mutex::new(lifeline) };
            }
        }
        panic!("PostgreSQL did not start: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
    }

    /// A new, empty database; answers its URL.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://doorward@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs SQL past the service; answers what psql prints.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", "doorward", "-d", database, "-c", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// The user to run as where this process is root; the folder becomes theirs.
fn unprivileged(folder: &Path) -> Option<String> {
    let id = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
    if id.trim() != "0" {
        return None;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("chown").args(["postgres", folder.to_str().unwrap()]).status().unwrap().success());
    Some("postgres".to_owned())
}

/// A program to be run as that user, in a folder that everybody may enter.
fn command_as(user: Option<&str>, program: &Path) -> Command {
    let mut command = Command::new(if user.is_some() { Path::new("runuser") } else { program });
    if let Some(user) = user {
        command.args(["-u", user, "--"]).arg(program);
    }
    command.current_dir("/");
    command
}

/// Starts the server under a shell that stops it when the returned pipe closes; none where the server did not come up.
fn supervise(programs: &Path, folder: &Path, data: &Path, port: u16, user: Option<&str>) -> Option<ChildStdin> {
    let settings = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB \
                    -c listen_addresses=127.0.0.1 -c unix_socket_directories=";
    let script = format!(
        "trap '' INT TERM HUP\n{postgres} -D {data} -p {port} {settings}'' >{folder}/log 2>&1 </dev/null & server=$!\n\
         read _\nkill -QUIT $server 2>/dev/null; wait $server\nrm -rf {folder}/data {folder}/log; rmdir {folder} 2>/dev/null\n",
        postgres = programs.join("postgres").display(),
        data = data.display(),
        folder = folder.display(),
    );
    let mut shell = command_as(user, Path::new("sh"));
    shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    #[expect(clippy::zombie_processes, reason = "it ends after this process, which is why it is there")]
    let mut child = shell.spawn().unwrap();
    let mut lifeline = child.stdin.take().unwrap();
    let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if log().contains("database system is ready to accept connections") {
            return Some(lifeline);
        }
        if log().contains("could not bind") || log().contains("FATAL") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(lifeline.write_all(b"\n"));
    None
}
