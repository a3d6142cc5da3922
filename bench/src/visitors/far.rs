//! The parent's end of a child that plays visitors. Nothing here waits for a child: orders are small enough for a pipe, and
//! reports are taken when they have come.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::dialogue::Dialogue;
use crate::system::until;

use super::{Job, Order, Report, VISITORS_PER_CHILD_MAX};

/// Reports come within this.
const TELL: Duration = Duration::from_secs(20);

/// All children of one kind of visitors.
#[derive(Debug)]
pub struct Visitors {
    children: Vec<Far>,
    /// The newest reports, added up.
    sum: Report,
    /// Reports that were ordered and not taken.
    awaited: usize,
}

#[derive(Debug)]
struct Far {
    dialogue: Dialogue<Report>,
    /// Reports that came and wait for those of the other children.
    come: VecDeque<Report>,
}

impl Visitors {
    /// Starts as many children as `job.count` needs.
    ///
    /// # Errors
    /// They can't be started.
    pub fn start(job: &Job) -> Result<Self> {
        let needed = job.count.div_ceil(VISITORS_PER_CHILD_MAX).max(1);
        let mut children = Vec::new();
        for number in 0..needed {
            let (begin, end) = (
                job.count * number / needed,
                job.count * (number + 1) / needed,
            );
            let part = Job {
                first: job.first + begin,
                count: end - begin,
                ..job.clone()
            };
            children.push(Far::start(&part)?);
        }
        Ok(Self {
            children,
            sum: Report::default(),
            awaited: 0,
        })
    }

    /// Tells all of them. `Look` and `Tell` are answered by reports.
    ///
    /// # Errors
    /// One has ended.
    pub fn order(&mut self, order: Order) -> Result<()> {
        self.awaited += usize::from(matches!(order, Order::Look | Order::Tell));
        for child in &mut self.children {
            child.dialogue.order(&order)?;
        }
        Ok(())
    }

    /// Waits a moment, and takes a report in.
    ///
    /// # Errors
    /// One has ended.
    pub fn look(&mut self, wait: Duration) -> Result<()> {
        if self.awaited == 0 {
            self.order(Order::Look)?;
        }
        std::thread::sleep(wait);
        self.report()?;
        Ok(())
    }

    /// Everybody tells all that they saw since they told it last.
    ///
    /// # Errors
    /// One has ended, or does not answer.
    pub fn tell(&mut self) -> Result<&Report> {
        self.order(Order::Tell)?;
        until("all processes of the load tell what they saw", TELL, || {
            self.report()?;
            Ok(self.awaited == 0)
        })?;
        Ok(&self.sum)
    }

    /// The next report of all of them together, once every child's has come.
    ///
    /// # Errors
    /// One has ended.
    pub fn report(&mut self) -> Result<Option<&Report>> {
        for child in &mut self.children {
            loop {
                match child.dialogue.reports.try_recv() {
                    Ok(report) => child.come.push_back(report),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) if child.come.is_empty() => {
                        bail!("a process of the load has ended")
                    }
                    Err(TryRecvError::Disconnected) => break,
                }
            }
        }
        if self.children.iter().any(|child| child.come.is_empty()) {
            return Ok(None);
        }
        let mut sum = Report::default();
        for child in &mut self.children {
            if let Some(report) = child.come.pop_front() {
                sum.add(report)?;
            }
        }
        self.awaited = self.awaited.saturating_sub(1);
        self.sum = sum;
        Ok(Some(&self.sum))
    }

    /// Reports that were ordered and have not been taken.
    #[must_use]
    pub const fn awaited(&self) -> usize {
        self.awaited
    }

    /// The newest report that was taken.
    #[must_use]
    pub const fn newest(&self) -> &Report {
        &self.sum
    }
}

impl Far {
    fn start(job: &Job) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench", "visitors", "--job"])
            .arg(serde_json::to_string(job)?);
        Ok(Self {
            dialogue: Dialogue::start(&mut command)?,
            come: VecDeque::new(),
        })
    }
}
