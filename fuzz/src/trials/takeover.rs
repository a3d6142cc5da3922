//! A newer program takes a running system over: its file is put in the old one's place, the supervisor gets SIGHUP, and
//! with all chats open the gateways and then the backend are replaced.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Signal, kill_process};

use super::Stand;
use crate::rig::crowd::ms;
use crate::rig::{Role, Setup, Shop};

/// Chats that are open.
const CHATS: u64 = 10_000;
const CHATS_PER_AGENT: u64 = 100;
/// Said in them meanwhile.
const SENDS_PER_S: u64 = 200;
/// The promise: within so long everybody goes on at the successors.
const RESUMED_MS_MAX: u128 = 10_000;
/// Between two connections of somebody who knocks all the while.
const KNOCK_EVERY: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let program = stand.scratch().join("tidegate");
    fs::copy(&stand.binary, &program)?;
    let setup = Setup::new(&program, &stand.scratch().join("system"));
    let count = stand.scale.of(CHATS);
    let mut shop = Shop::open_up(stand, &setup, count, count.div_ceil(CHATS_PER_AGENT))?;
    shop.chat(SENDS_PER_S);
    shop.crowd.pass(Duration::from_secs(1))?;
    let Shop { system, crowd, .. } = &mut shop;

    put_newer(&stand.binary, &program)?;
    let roles = [Role::Gateway(0), Role::Backend];
    let before = roles.map(|role| system.pid(role));
    let (welcomes, refused) = (crowd.tally.welcomes, crowd.tally.refused_connections);
    let accepted = crowd.tally.accepted;
    crowd.answers_count_from_now();
    let knocking = Knocking::start(system.ws());
    let up = system.up().context("a supervisor")?;
    kill_process(up, Signal::HUP)?;
    let began = Instant::now();
    let everybody = crowd.len() as u64;
    crowd.until("all have resumed", LIMIT, |crowd| {
        crowd.tally.welcomes >= welcomes + everybody && crowd.open() as u64 == everybody
    })?;
    let resumed = began.elapsed();
    let mut looked = Instant::now();
    crowd.until("both parts were replaced", LIMIT, |_| {
        // A look reads some files of each process.
        if looked.elapsed() < Duration::from_millis(50) {
            return false;
        }
        looked = Instant::now();
        let now = roles.map(|role| system.pid(role));
        let new = |(now, before): (&Option<_>, &Option<_>)| now.is_some() && now != before;
        now.iter().zip(&before).all(new)
    })?;
    let replaced = began.elapsed();
    system.await_ready(Role::Backend)?;
    let ready = began.elapsed();
    crowd.pass(Duration::from_secs(1))?;
    let (knocked, turned_away) = knocking.stop()?;
    stand.figure("chats open", count);
    stand.figure("all resumed after", format!("{} ms", resumed.as_millis()));
    stand.figure(
        "backend replaced after",
        format!("{} ms", replaced.as_millis()),
    );
    stand.figure(
        "backend ready again after",
        format!("{} ms", ready.as_millis()),
    );
    let refused = crowd.tally.refused_connections - refused;
    stand.figure(
        "connects meanwhile",
        knocked + crowd.tally.welcomes - welcomes,
    );
    stand.figure("connects refused", turned_away + refused);
    stand.figure(
        "messages acknowledged meanwhile",
        crowd.tally.accepted - accepted,
    );
    let answers = &crowd.tally.answers_us;
    stand.figure("acknowledged, p50", ms(answers.value_at_quantile(0.5)));
    stand.figure("acknowledged, p99", ms(answers.value_at_quantile(0.99)));
    stand.figure("acknowledged, longest", ms(answers.max()));

    let pid = system.pid(Role::Backend).context("a backend")?;
    let file = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()))?;
    ensure!(
        !file.to_string_lossy().ends_with("(deleted)"),
        "expected the newer file's backend, found one of {}",
        file.display()
    );
    shop.close(stand)?;
    ensure!(
        turned_away + refused == 0,
        "{} of {knocked} connects were refused",
        turned_away + refused
    );
    let resumed_ms = resumed.as_millis();
    stand.in_time(
        resumed_ms <= RESUMED_MS_MAX,
        &format!("all had resumed after {resumed_ms} ms, promised are {RESUMED_MS_MAX}"),
    )
}

/// As an installer does it: written beside, then renamed over.
fn put_newer(from: &Path, to: &Path) -> anyhow::Result<()> {
    let beside = to.with_extension("new");
    fs::copy(from, &beside)?;
    fs::rename(beside, to)?;
    Ok(())
}

/// Somebody who connects all the while, and counts.
struct Knocking {
    over: Arc<AtomicBool>,
    turned_away: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Knocking {
    fn start(at: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let turned_away = Arc::new(AtomicU64::new(0));
        let (stop, refusals) = (Arc::clone(&over), Arc::clone(&turned_away));
        let thread = std::thread::spawn(move || {
            let mut knocked = 0;
            while !stop.load(Ordering::Relaxed) {
                knocked += 1;
                if TcpStream::connect(at).is_err() {
                    refusals.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(KNOCK_EVERY);
            }
            knocked
        });
        Self {
            over,
            turned_away,
            thread,
        }
    }

    /// How often, and how often in vain.
    fn stop(self) -> anyhow::Result<(u64, u64)> {
        self.over.store(true, Ordering::Relaxed);
        let knocked = self.thread.join();
        let knocked = knocked.map_err(|_| anyhow::anyhow!("the thread that knocks panicked"))?;
        Ok((knocked, self.turned_away.load(Ordering::Relaxed)))
    }
}
