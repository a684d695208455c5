//! What stops long work from outside: SIGTERM of a supervisor, SIGINT of Ctrl-C, SIGHUP of a terminal that is closed.
//!
//! All three stop a server cleanly. A SIGHUP that was ignored when the program started stays so: that is how `nohup` keeps it running.
//!
//! With TLS a server hears SIGHUP as other servers do: look for new certificates. It still stops when the terminal that it was started
//! from is closed, which is told by the terminal: there was one, and it is gone.

use std::{convert::Infallible, fs, io};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::server::{Stop, tls::Reload};

/// The terminal that a process is under, whatever its input and output are.
const TERMINAL: &str = "/dev/tty";

/// The signals, from the moment on that it was made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    had_terminal: bool,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Stop,
    HangUp,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        // Asked before a handler takes the place of the answer.
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup, had_terminal: has_terminal() })
    }

    /// The first one asks for a clean stop, each further one for an immediate one; where there is something to reload, a SIGHUP for that.
    /// Ends only with the server.
    pub(super) async fn pass_on(mut self, stop: &watch::Sender<Stop>, reload: Option<&Reload>) -> Infallible {
        let mut next = Stop::Drain;
        loop {
            let said = self.said().await;
            let lost_its_terminal = self.had_terminal && !has_terminal();
            if let Some(reload) = reload.filter(|_| said == Said::HangUp && !lost_its_terminal) {
                reload.ask();
                continue;
            }
            stop.send_replace(next);
            next = Stop::Now;
        }
    }

    /// Waits for the next one of any kind.
    pub(super) async fn next(&mut self) {
        self.said().await;
    }

    async fn said(&mut self) -> Said {
        tokio::select! {
            Some(()) = self.terminate.recv() => Said::Stop,
            Some(()) = self.interrupt.recv() => Said::Stop,
            Some(()) = hung_up(&mut self.hangup) => Said::HangUp,
            else => std::future::pending().await,
        }
    }
}

/// Whether there is a terminal: its closing takes it from every process under it, and then it cannot be opened any more.
fn has_terminal() -> bool {
    fs::File::open(TERMINAL).is_ok()
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
