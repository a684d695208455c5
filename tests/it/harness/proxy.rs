//! A way to the database that a test can spoil: slow, cut, or gone without a word.
//!
//! ```text
//! let mut proxy = Proxy::before(&mut ground.config).await;   // given: whoever starts on this configuration goes through it
//! let life = Life::start(&ground).await;
//!
//! proxy.set(Fault::BlackHole).await;                          // when
//! ...
//! proxy.set(Fault::None).await;                               // and when it is over
//! ```
//!
//! It carries TCP, whatever is said over it, and stands before PostgreSQL by the host and port of `database.url`.

use std::{net::SocketAddr, time::Duration};

use doorward::config::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::database_url;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are carried as they are.
    None,
    /// Whatever is sent arrives so much later, in either direction.
    Latency(Duration),
    /// Those that there are are closed, and new ones are refused: a database that was stopped.
    Cut,
    /// Whatever is sent is lost, and nobody is told: a cable that was pulled, a firewall that forgot the flow. New connections are
    /// accepted and hear nothing. Those that were lost once stay lost, also when the fault is over.
    BlackHole,
}

/// A way that can be spoiled; gone when it is dropped.
pub struct Proxy {
    addr: SocketAddr,
    to: String,
    fault: watch::Sender<Fault>,
    /// The listener and its connections: gone together.
    carrying: JoinSet<()>,
    /// Holds the port for the next listener, so that nobody else gets it while connections are refused.
    port: TcpSocket,
}

impl Proxy {
    /// Puts itself between a configuration and its database.
    pub async fn before(config: &mut Config) -> Self {
        let url = database_url(config);
        let to = url.split(['@', '/']).nth(3).unwrap().to_owned();
        let port = socket_at("127.0.0.1:0".parse().unwrap());
        let addr = port.local_addr().unwrap();
        config.database.url = url.replacen(&to, &addr.to_string(), 1).into();
        let mut proxy = Self { addr, to, fault: watch::channel(Fault::Cut).0, carrying: JoinSet::new(), port };
        proxy.set(Fault::None).await;
        proxy
    }

    /// From here on.
    pub async fn set(&mut self, fault: Fault) {
        let before = self.fault.send_replace(fault);
        if fault == Fault::Cut {
            self.carrying.shutdown().await;
        } else if before == Fault::Cut {
            let port = std::mem::replace(&mut self.port, socket_at(self.addr));
            self.carrying.spawn(carry(port.listen(1_024).unwrap(), self.to.clone(), self.fault.subscribe()));
        }
    }

    /// A database that was started again: every connection is closed, and new ones get through.
    pub async fn restart(&mut self) {
        self.set(Fault::Cut).await;
        self.set(Fault::None).await;
    }
}

/// A socket that is bound to an address beside another one, and refuses connections until it listens.
fn socket_at(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}

async fn carry(listener: TcpListener, to: String, fault: watch::Receiver<Fault>) {
    let mut flows = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        flows.spawn(flow(near, to.clone(), fault.clone()));
    }
}

/// One connection, from its first byte to its end.
async fn flow(near: TcpStream, to: String, mut fault: watch::Receiver<Fault>) {
    let (mut near_in, mut near_out) = near.into_split();
    let mut carried = None;
    if *fault.borrow_and_update() != Fault::BlackHole {
        let (far_in, far_out) = carried.insert(TcpStream::connect(to).await.unwrap()).split();
        tokio::select! {
            () = pump(&mut near_in, far_out, fault.clone()) => return,
            () = pump(far_in, &mut near_out, fault.clone()) => return,
            _ = fault.wait_for(|fault| *fault == Fault::BlackHole) => {}
        }
    }
    // The far end is left as it is: it hears of nothing either.
    drop(copy(&mut near_in, &mut sink()).await);
}

/// Moves what one end says to the other one, until one of them is gone.
async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, fault: watch::Receiver<Fault>) {
    let mut buffer = vec![0; 64 * 1_024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let fault = *fault.borrow();
        if let Fault::Latency(delay) = fault {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
