//! A disk that is full, a database that somebody else has locked, and one that is damaged, under a running system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tidegate_backend::store::open::Place;

use super::Stand;
use crate::rig::system::Signal;
use crate::rig::{Load, Role, Setup, Shop, System, check};

const VISITORS: u64 = 20;
const AGENTS: u64 = 2;
const SENDS_PER_S: u64 = 300;
/// Large texts fill a small disk soon.
const TEXT_BYTES: usize = 4_000;
const DISK: &str = "size=12m,mode=0700";
const LARGER: &str = "remount,size=256m";
const FULL_S_MAX: u64 = 90;
/// For so long nothing may be acknowledged before the disk counts as full.
const STUCK_MS: u64 = 1_000;
const RELIEF_MS_MAX: u128 = 2_000;
const BACK_S_MAX: u64 = 60;
const SETTLE_S_MAX: u64 = 90;
const EXIT_UNUSABLE: i32 = 78;

/// Does something to a database's bytes.
type Damage = fn(&mut Vec<u8>);

/// `store-disk-full`
pub fn full(stand: &mut Stand) -> anyhow::Result<()> {
    let data = stand.scratch().join("data");
    fs::create_dir_all(&data)?;
    let Some(disk) = Mounted::tmpfs(&data)? else {
        stand.figure("skipped", "mounting a tmpfs needs root");
        return Ok(());
    };
    let setup = Setup::new(&stand.binary, stand.scratch());
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.crowd.load = Some(Load {
        per_s: SENDS_PER_S,
        text_bytes: TEXT_BYTES,
    });
    let accepted = until_stuck(&mut shop).context("the disk fills up")?;
    stand.figure("messages acknowledged before the disk was full", accepted);
    // Also a backend that starts now waits for room: it does not end, and the gateway keeps its people.
    shop.kill(Role::Backend)?;
    waits(&mut shop, "make room")?;
    let relief = relieve(stand, &mut shop, || disk.grow())?;
    stand.figure("from room to the next acknowledgement", relief);
    end(stand, &mut shop)
}

/// `store-locked`
pub fn locked(stand: &mut Stand) -> anyhow::Result<()> {
    let setup = Setup::new(&stand.binary, stand.scratch());
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    shop.flow(100)?;
    let other = place(&shop.system.database()).open_writer()?;
    other.busy_timeout(Duration::from_secs(BACK_S_MAX))?;
    other.execute_batch("BEGIN IMMEDIATE")?;
    until_stuck(&mut shop).context("somebody else has the lock")?;
    shop.kill(Role::Backend)?;
    waits(&mut shop, "another program holds")?;
    let relief = relieve(stand, &mut shop, || Ok(other.execute_batch("ROLLBACK")?))?;
    stand.figure("from the lock's end to the next acknowledgement", relief);
    end(stand, &mut shop)
}

/// `store-damaged`
pub fn damaged(stand: &mut Stand) -> anyhow::Result<()> {
    let setup = Setup::new(&stand.binary, stand.scratch());
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    shop.flow(500)?;
    shop.crowd.settle(Duration::from_secs(SETTLE_S_MAX))?;
    shop.system.signal(Role::Backend, Signal::TERM)?;
    shop.system.await_end(Role::Backend)?;
    let database = shop.system.database();
    let whole = fs::read(&database)?;
    let damages: [(&str, Damage); 4] = [
        ("the header overwritten", |bytes| bytes[..100].fill(0x55)),
        ("pages in the middle overwritten", |bytes| {
            let (from, to) = (bytes.len() / 3 / 4096 * 4096, bytes.len() * 2 / 3);
            bytes[from..to].fill(0x55);
        }),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("another program's file", |bytes| {
            *bytes = b"dear diary, ".repeat(1_000);
        }),
    ];
    for (what, damage) in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&database, bytes)?;
        refuses(&mut shop.system).with_context(|| format!("{what}{}", shop.logs()))?;
    }
    stand.figure("damages refused with code 78 and what to do", damages.len());
    fs::write(&database, whole)?;
    shop.system.begin(Role::Backend, None)?;
    shop.system.await_ready(Role::Backend)?;
    end(stand, &mut shop)
}

/// Over a damaged database a start ends for good, with a sentence.
fn refuses(system: &mut System) -> anyhow::Result<()> {
    let said_before = system.log("backend").len();
    system.begin(Role::Backend, None)?;
    let status = system.await_end(Role::Backend)?;
    let log = system.log("backend");
    let said = log.get(said_before..).unwrap_or_default();
    ensure!(
        status.code() == Some(EXIT_UNUSABLE),
        "expected exit code {EXIT_UNUSABLE}, found {status}: {said}"
    );
    ensure!(
        said.contains("put back a backup"),
        "expected what to do, found: {said}"
    );
    Ok(())
}

/// People go on until nothing is acknowledged any more and the backend says that it is not ready.
fn until_stuck(shop: &mut Shop) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(FULL_S_MAX);
    loop {
        let before = shop.crowd.tally.accepted;
        shop.crowd.pass(Duration::from_millis(STUCK_MS))?;
        let accepted = shop.crowd.tally.accepted;
        if accepted == before && !shop.system.is_ready(Role::Backend) {
            return Ok(accepted);
        }
        ensure!(
            Instant::now() < deadline,
            "messages are acknowledged all the time, {accepted} so far"
        );
    }
}

/// The backend runs, acknowledges nothing, and has said why.
fn waits(shop: &mut Shop, why: &str) -> anyhow::Result<()> {
    let Shop { system, crowd, .. } = shop;
    let before = crowd.tally.accepted;
    let time_max = Duration::from_secs(BACK_S_MAX);
    crowd.until("the new backend says why it waits", time_max, |_| {
        system.log("backend").contains(why)
    })?;
    crowd.pass(Duration::from_millis(STUCK_MS))?;
    let ended = system.ended(Role::Backend)?;
    ensure!(
        ended.is_none(),
        "it ended ({ended:?}) instead of waiting{}",
        shop.logs()
    );
    ensure!(
        shop.crowd.tally.accepted == before,
        "something was acknowledged that nobody can have stored"
    );
    Ok(())
}

/// From relief to the next acknowledgement, at most two seconds.
fn relieve(
    stand: &Stand,
    shop: &mut Shop,
    relief: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let before = shop.crowd.tally.accepted;
    relief()?;
    let relieved = Instant::now();
    let time_max = Duration::from_secs(BACK_S_MAX);
    shop.crowd
        .until("something is acknowledged again", time_max, |crowd| {
            crowd.tally.accepted > before
        })
        .with_context(|| shop.logs())?;
    let took_ms = relieved.elapsed().as_millis();
    stand.in_time(
        took_ms <= RELIEF_MS_MAX,
        &format!("the next message was acknowledged {took_ms} ms after relief; the promise is 2 s"),
    )?;
    Ok(format!("{took_ms} ms"))
}

fn end(stand: &mut Stand, shop: &mut Shop) -> anyhow::Result<()> {
    let settled = shop.crowd.settle(Duration::from_secs(SETTLE_S_MAX));
    let stored = check::Stored::read(&shop.system.database())?;
    let report = check::check(&shop.crowd.journal, &stored).into_result()?;
    settled.with_context(|| shop.logs())?;
    stand.figure("messages acknowledged", report.accepted);
    stand.figure("lost, doubled, out of order, silent gaps", 0);
    Ok(())
}

fn place(database: &Path) -> Place {
    Place {
        path: database.to_owned(),
        vfs: None,
        busy_ms_max: 1_000,
        cache_bytes: 1 << 20,
        mmap_bytes: 0,
    }
}

/// A tiny disk; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`: this user may not mount.
    fn tmpfs(path: &Path) -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tidegate-trial"])
            .arg(path)
            .status()?;
        // A container's root may not mount either.
        Ok(mounted.success().then(|| Self(path.to_owned())))
    }
}

impl Mounted {
    fn grow(&self) -> anyhow::Result<()> {
        let grown = Command::new("mount")
            .args(["-o", LARGER])
            .arg(&self.0)
            .status()?;
        ensure!(grown.success(), "the tmpfs does not grow: {grown}");
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _busy_is_said_by_umount = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
