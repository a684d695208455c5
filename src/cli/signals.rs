//! What stops long work from outside: SIGTERM of a supervisor, SIGINT of Ctrl-C, SIGHUP of a terminal that is closed.
//!
//! All three stop a server cleanly. A SIGHUP that was ignored when the program started stays so: that is how `nohup` keeps it running.

use std::{convert::Infallible, fs, io};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::server::Stop;

/// The signals, from the moment on that it was made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        // Asked before a handler takes the place of the answer.
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// The first one asks for a clean stop, each further one for an immediate one. Ends only with the server.
    pub(super) async fn pass_on(mut self, stop: &watch::Sender<Stop>) -> Infallible {
        let mut next = Stop::Drain;
        loop {
            self.next().await;
            stop.send_replace(next);
            next = Stop::Now;
        }
    }

    /// Waits for the next one of any kind.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            Some(()) = self.terminate.recv() => {}
            Some(()) = self.interrupt.recv() => {}
            Some(()) = hung_up(&mut self.hangup) => {}
            else => std::future::pending().await,
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is ignored, from proc(5): `SigIgn` is a mask in hexadecimal digits, and SIGHUP, number 1, its lowest bit.
fn ignores_hangup() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
