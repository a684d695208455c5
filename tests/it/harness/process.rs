//! The real binary, serving in a process of its own, that can be killed and started again.
//!
//! ```text
//! let server = Process::start(&ground.config, &[("tokens.refresh_grace", "1s")]).await;   // ready when this comes back
//! let tokens = server.client().login(login_request("ann@example.com")).await;
//!
//! server.kill9();                 // at this moment, whatever it was doing
//! server.restart().await;         // on the same port, ready again
//! ```
//!
//! It lives on the clock of the system, and hashes at the least cost that a configuration may say. When it is dropped it is killed; if
//! that is because a test fails, what it wrote to standard error is shown. It does not outlive the test's process, not even a killed one:
//! its parent is a shell that reads from a pipe which this process holds, and kills it when the read ends.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use doorward::{config::Config, pb::v1::auth_service_client::AuthServiceClient};
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tonic::transport::{Channel, Endpoint};

use super::database_url;

/// Longer than a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The server's parent. Only who is waited for keeps its number: nobody else is killed in its place.
const SHELL: &str = "\"$0\" serve & server=$!; exec 2>/dev/null; read _; kill -KILL $server; wait $server";

/// A server.
pub struct Process {
    pub grpc_addr: SocketAddr,
    pub ops_addr: SocketAddr,
    environment: Vec<(String, String)>,
    life: Mutex<Life>,
    /// What it said in all its lives.
    log: Arc<Mutex<String>>,
    /// Its ports, which nobody else gets while it is dead: a call would hear a stranger's answer.
    _ports: [TcpSocket; 2],
}

/// From a start to its end.
struct Life {
    shell: Option<Child>,
    /// Reads what it says, until it is gone.
    listening: Option<JoinHandle<()>>,
    /// Of this life: one of the last finds out late that it leads nowhere.
    channel: Channel,
}

impl Process {
    /// Starts a server on the database and the root secrets of a configuration. What else it is to know is told by `section.key`.
    pub async fn start(config: &Config, settings: &[(&str, &str)]) -> Self {
        let ports = [free_port(), free_port()];
        let [grpc_addr, ops_addr] = ports.each_ref().map(|port| port.local_addr().unwrap());
        let roots: Vec<&str> = config.secrets.root.iter().map(ExposeSecret::expose_secret).collect();
        let (roots, url) = (roots.join(","), database_url(config));
        let (grpc, ops) = (grpc_addr.to_string(), ops_addr.to_string());
        let mut all = vec![
            ("database.url", url.as_str()),
            ("database.migrate_on_start", "true"),
            ("server.grpc_addr", &grpc),
            ("server.ops_addr", &ops),
            ("server.http_addr", "127.0.0.1:0"),
            ("passwords.memory_kib", "7168"),
            ("passwords.iterations", "5"),
        ];
        if !roots.is_empty() {
            all.push(("secrets.root", &roots));
        }
        all.extend(settings);
        let variable = |key: &str| format!("DOORWARD__{}", key.replace('.', "__").to_uppercase());
        let environment = all.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        let life = Mutex::new(Life { shell: None, listening: None, channel: channel(grpc_addr) });
        let process = Self { grpc_addr, ops_addr, environment, life, log: Arc::default(), _ports: ports };
        process.restart().await;
        process
    }

    /// Starts it again, as it was; waits until it is ready.
    pub async fn restart(&self) {
        self.begin();
        let begin = Instant::now();
        while !self.is_ready().await {
            let is_gone = self.life.lock().unwrap().listening.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!is_gone && begin.elapsed() < PATIENCE, "the server does not serve:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn begin(&self) {
        let mut life = self.life.lock().unwrap();
        assert!(life.shell.is_none(), "it is running");
        let mut command = Command::new("/bin/sh");
        // In a folder that holds no configuration file, and nothing of the environment here.
        command.args(["-c", SHELL, env!("CARGO_BIN_EXE_doorward")]).current_dir("/").env_clear().envs(self.environment.iter().cloned());
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, log) = (BufReader::new(shell.stderr.take().unwrap()).lines(), Arc::clone(&self.log));
        let listening = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        *life = Life { shell: Some(shell), listening: Some(listening), channel: channel(self.grpc_addr) };
    }

    /// What its readiness says over HTTP.
    pub async fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.ops_addr).await else { return false };
        let mut answer = String::new();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.is_ok()
            && stream.read_to_string(&mut answer).await.is_ok()
            && answer.starts_with("HTTP/1.1 200 ")
    }

    /// Ends it as nothing can be prepared for, and waits until it is gone. Answers whether it was running.
    pub fn kill9(&self) -> bool {
        let mut life = self.life.lock().unwrap();
        let Some(mut shell) = life.shell.take() else { return false };
        drop(shell.stdin.take());
        shell.wait().unwrap();
        life.listening.take().unwrap().join().unwrap();
        true
    }

    /// The command line on the same database, as an operator types it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.args(words).current_dir("/").env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// A client of it, over the connection that all clients of this life share.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.life.lock().unwrap().channel.clone())
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the server at {} said:\n{}---", self.grpc_addr, self.log());
        }
    }
}

fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy()
}

/// A free port, kept: whoever binds it as servers do may listen on it, and the system gives it to nobody by itself.
fn free_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}
