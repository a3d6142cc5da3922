//! `tidegate bus record FILE`: what goes over the bus, kept in a file (format: `shm_bus::recording`). Texts are kept by
//! their length unless asked for; tokens never.
//!
//! A file that is large enough becomes FILE.1, what was FILE.1 becomes FILE.2, and so on; the oldest goes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use shm_bus::recording::{Entry, Event, Head, RecordingWriter};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use tidegate_settings::settings::Settings;

use super::find::{self, BusArguments};
use super::mask;
use super::tap::check_protocol;
use super::watch::{Watch, now_us};

/// What was seen is in the file after so long at the latest.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// `tidegate bus record`
#[derive(Debug, clap::Args)]
pub struct RecordArguments {
    /// The file; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    bus: BusArguments,
    /// Begin another file when this one has so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    rotate_mib: u64,
    /// Keep so many files beside the newest: FILE.1 is the one before it
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=9_999))]
    keep: u32,
    /// Keep what people wrote, not only how long it is
    #[arg(long)]
    bodies: bool,
    /// End after so many seconds [default: with Ctrl-C]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// What was kept.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    missed_bytes: u64,
    files: u64,
    file_bytes: u64,
}

struct Recorder<'a> {
    wish: &'a RecordArguments,
    head: Head,
    writer: RecordingWriter<File>,
    payload: Vec<u8>,
    tally: Tally,
}

/// Keeps what goes by until it is told to end, or the bus does.
pub fn run(settings: Settings, wish: &RecordArguments) -> Result<ExitCode> {
    let mut watch = Watch::begin(find::running(settings, &wish.bus)?)?;
    check_protocol(watch.protocol(), "the running backend")?;
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&told)).context("cannot await Ctrl-C")?;
    }
    // Beyond `ulimit -f` a write shall fail, and not end the process.
    let _unused = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let head = Head {
        protocol: watch.protocol(),
        began_at_us: now_us(),
        part: 0,
    };
    let older = numbered(&wish.file, 1);
    if older.exists() {
        bail!(
            "{} is there already: a file of an earlier recording; move it away, or name another file",
            older.display()
        );
    }
    let mut recorder = Recorder {
        wish,
        head,
        writer: begin(&wish.file, &head)?,
        payload: Vec::new(),
        tally: Tally::default(),
    };
    let began = Instant::now();
    let end = wish.seconds.map(|s| began + Duration::from_secs(s));
    let mut flushed = began;
    // The first look finds who is there.
    let kept = loop {
        let turn = watch.turn(&mut |entry| recorder.keep(entry));
        match turn {
            Ok(true) => {}
            Ok(false) => {
                eprintln!("tidegate: nobody lives on the bus any more");
                break Ok(());
            }
            Err(error) => break Err(error),
        }
        let now = Instant::now();
        let is_full = recorder.writer.written_bytes() >= wish.rotate_mib << 20;
        if is_full || now - flushed >= FLUSH_EVERY {
            flushed = now;
            let kept = recorder.flush().and_then(|()| {
                if is_full {
                    recorder.rotate(&watch)?;
                }
                Ok(())
            });
            if kept.is_err() {
                break kept;
            }
        }
        if told.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end) {
            break recorder.flush();
        }
    };
    recorder.finish(kept, began.elapsed())
}

/// A file that was not there, of this user alone: it holds what people are called, at least.
fn begin(path: &Path, head: &Head) -> Result<RecordingWriter<File>> {
    let name = path.display();
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{name} is there already, and is never written over; name another file")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {name}")),
    };
    RecordingWriter::begin(file, head).with_context(|| format!("cannot write {name}"))
}

/// FILE.7
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

impl Recorder<'_> {
    fn keep(&mut self, entry: &Entry<'_>) -> Result<()> {
        let mut entry = *entry;
        match &mut entry.event {
            Event::Record {
                header, payload, ..
            } => {
                self.tally.records += 1;
                self.payload.clear();
                self.payload.extend_from_slice(payload);
                mask::record(
                    header.kind,
                    header.flags,
                    &mut self.payload,
                    self.wish.bodies,
                );
                *payload = &self.payload;
            }
            Event::Missed { bytes, .. } => self.tally.missed_bytes += *bytes,
            Event::Gateway { .. } | Event::Gone => {}
        }
        self.writer
            .write(&entry)
            .with_context(|| self.cannot_write())
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.wish.file.display())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().with_context(|| self.cannot_write())
    }

    /// The file gets a number, and another begins in which the gateways are named anew.
    fn rotate(&mut self, watch: &Watch) -> Result<()> {
        let path = &self.wish.file;
        let moved = |from: &Path, to: &Path| match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot rename {}", from.display()))
            }
            _ => Ok(()),
        };
        for number in (1..self.wish.keep).rev() {
            moved(&numbered(path, number), &numbered(path, number + 1))?;
        }
        if self.wish.keep == 0 {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        } else {
            moved(path, &numbered(path, 1))?;
        }
        self.head.part += 1;
        self.tally.files += 1;
        self.tally.file_bytes += self.writer.written_bytes();
        self.writer = begin(path, &self.head)?;
        watch.introduce(&mut |entry| self.keep(entry))
    }

    /// Says what was kept. A file that could not be written further is cut back to what is whole in it.
    fn finish(mut self, kept: Result<()>, took: Duration) -> Result<ExitCode> {
        self.tally.files += 1;
        let written_bytes = self.writer.written_bytes();
        self.tally.file_bytes += written_bytes;
        let whole = format!(
            "{} records in {:.1} s, {} bytes of them missed, in {} file{} of {} bytes",
            self.tally.records,
            took.as_secs_f64(),
            self.tally.missed_bytes,
            self.tally.files,
            if self.tally.files == 1 { "" } else { "s" },
            self.tally.file_bytes
        );
        match kept {
            Ok(()) => {
                println!("{whole}");
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                let _as_it_is = self.writer.file().set_len(written_bytes);
                Err(error.context(format!(
                    "the recording ended early, and is whole up to there ({whole} at most); free some room, or name a file \
                     elsewhere"
                )))
            }
        }
    }
}
