//! A part of a load in a process of its own: orders go in and reports come out, one JSON object a line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The parent's end. The process ends with it.
#[derive(Debug)]
pub struct Dialogue<R> {
    process: Child,
    orders: ChildStdin,
    /// What it says; disconnected once it has ended, or said something else.
    pub reports: Receiver<R>,
}

impl<R: DeserializeOwned + Send + 'static> Dialogue<R> {
    /// Starts the process.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process of the load")?;
        let orders = process.stdin.take().context("a pipe")?;
        let reports = heard(BufReader::new(process.stdout.take().context("a pipe")?));
        Ok(Self {
            process,
            orders,
            reports,
        })
    }

    /// Tells it something.
    ///
    /// # Errors
    /// It has ended.
    pub fn order(&mut self, order: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders
            .write_all(&line)
            .context("a process of the load has ended")
    }
}

impl<R> Drop for Dialogue<R> {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The child's end: what it is told; disconnected once its parent has ended.
#[must_use]
pub fn orders<O: DeserializeOwned + Send + 'static>() -> Receiver<O> {
    heard(BufReader::new(std::io::stdin()))
}

/// Line by line on a thread of its own, until the end or the first line that is none.
fn heard<T: DeserializeOwned + Send + 'static>(from: impl BufRead + Send + 'static) -> Receiver<T> {
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            let Ok(said) = serde_json::from_str(&line) else {
                return;
            };
            if sender.send(said).is_err() {
                return;
            }
        }
    });
    heard
}
