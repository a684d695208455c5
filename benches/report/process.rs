//! A server in a process of its own: started, asked for its use of processor and memory, and stopped.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};

use crate::data::Data;

/// Which cores a server may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// The first one alone.
    First,
    /// Every one.
    All,
}

/// A server.
pub struct Process {
    child: Child,
    grpc: SocketAddr,
    ops: SocketAddr,
}

impl Process {
    /// The real binary on a data set.
    pub fn doorward(data: &Data, cores: Cores) -> Result<Self> {
        Self::doorward_with(data, cores, &[])
    }

    /// One that remembers hardly anything.
    pub fn forgetful(data: &Data) -> Result<Self> {
        Self::doorward_with(data, Cores::First, &[("DOORWARD__FRESHNESS__MEMORY_MIB", "1")])
    }

    fn doorward_with(data: &Data, cores: Cores, settings: &[(&str, &str)]) -> Result<Self> {
        let mut command = on(cores, Path::new(env!("CARGO_BIN_EXE_doorward")));
        // Its defaults, whatever is set where this runs.
        command.env_clear().arg("serve").envs(data.environment.iter().map(|(name, value)| (name, value)));
        for address in ["GRPC_ADDR", "HTTP_ADDR", "OPS_ADDR"] {
            command.env(format!("DOORWARD__SERVER__{address}"), "127.0.0.1:0");
        }
        command.env("DOORWARD__LOG__FORMAT", "json").envs(settings.iter().copied());
        Self::start(command)
    }

    /// The bare handler, which is this program with another task.
    pub fn bare(answer: &Path) -> Result<Self> {
        let mut command = on(Cores::First, &env::current_exe()?);
        command.env("DOORWARD_BENCH_BARE", answer);
        Self::start(command)
    }

    /// The bare handler that reads a row of a data set by its key for each answer.
    pub fn bare_read(data: &Data, answer: &Path) -> Result<Self> {
        let mut command = on(Cores::First, &env::current_exe()?);
        command.env("DOORWARD_BENCH_BARE", answer).env("DOORWARD_BENCH_BARE_READS", data.url().context("a database")?);
        Self::start(command)
    }

    /// The bare handler that moves a row of a data set on by one update.
    pub fn bare_update(data: &Data, answer: &Path) -> Result<Self> {
        let mut command = on(Cores::First, &env::current_exe()?);
        command.env("DOORWARD_BENCH_BARE", answer).env("DOORWARD_BENCH_BARE_DATABASE", data.url().context("a database")?);
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("standard error")?).lines();
        let mut log = String::new();
        for line in lines.by_ref() {
            let line = line?;
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let field = |name: &str| event.pointer(&format!("/fields/{name}")).and_then(serde_json::Value::as_str).map(str::to_owned);
            if field("message").as_deref() == Some("serving") {
                let address = |name: &str| anyhow::Ok(field(name).context("an address")?.parse()?);
                let (grpc, ops) = (address("grpc")?, address("ops")?);
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, grpc, ops });
            }
            log.push_str(&line);
        }
        anyhow::bail!("the server did not start: {log}")
    }

    /// A connection to it.
    pub async fn channel(&self) -> Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.grpc))?.connect().await?)
    }

    /// The processor time that it used so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |index: usize| anyhow::Ok(fields.get(index).context("a field")?.parse::<u64>()?);
        // utime and stime, in hundredths of a second (proc(5); Linux shows 100 to programs on every machine).
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// A figure of its memory, in MiB.
    pub fn memory(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context("a line of its memory")?;
        Ok(line.split_whitespace().nth(1).context("a figure")?.parse::<f64>()? / 1024.0)
    }

    /// The value of a sample, by its name with its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(self.ops).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).context("the metric")?;
        Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
    }

    /// Ends it as Kubernetes does.
    pub fn stop(mut self) -> Result<()> {
        ensure!(Command::new("kill").arg(self.child.id().to_string()).status()?.success(), "kill failed");
        ensure!(self.child.wait()?.success(), "the server did not end well");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After a stop there is nothing left to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Leaves the first core to the servers: this process, and what it starts from here on, works on the others. Where there is one core, or no
/// `taskset`, everything works everywhere.
pub fn leave_the_first_core() -> Result<()> {
    let last = *LAST_CORE;
    if last > 0 && *HAS_TASKSET {
        let mut taskset = Command::new("taskset");
        taskset.args(["-cp", &format!("1-{last}"), &std::process::id().to_string()]);
        ensure!(taskset.stdout(Stdio::null()).status()?.success(), "taskset failed");
    }
    Ok(())
}

/// Asked before any core is left to others.
static LAST_CORE: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1));
static HAS_TASKSET: LazyLock<bool> =
    LazyLock::new(|| Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()));

/// A program, on the cores that it may use as far as that can be said here.
fn on(cores: Cores, program: &Path) -> Command {
    if !*HAS_TASKSET {
        return Command::new(program);
    }
    let cores = match cores {
        Cores::First => "0".to_owned(),
        Cores::All => format!("0-{}", *LAST_CORE),
    };
    let mut command = Command::new("taskset");
    command.args(["-c", &cores]).arg(program);
    command
}
