//! `tidegate bus tap`: what goes over the bus, decoded, a JSON object a line. Texts are shown by their length unless asked
//! for; tokens never.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use shm_bus::recording::{Entry, Event, RecordingReader};
use tidegate_protocol::bus::BUS_PROTOCOL;
use tidegate_protocol::{Id, Kind};
use tidegate_settings::settings::Settings;

use super::find::{self, BusArguments};
use super::line::{Connection, Line, Lines, RECORD_KINDS};
use super::watch::Watch;

/// `tidegate bus tap`
#[derive(Debug, clap::Args)]
pub struct TapArguments {
    #[command(flatten)]
    bus: BusArguments,
    /// Only these kinds: envelopes (`send`, `message`, …) or records of the bus (`opened`, `closed`, …)
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// Only this connection: SHARD.SLOT, or SHARD.SLOT.GENERATION, as lines show it
    #[arg(long, value_name = "CONNECTION", value_parser = connection)]
    connection: Option<(u16, u32, Option<u32>)>,
    /// Only this conversation: 32 hex digits, as lines show it
    #[arg(long, value_name = "ID", value_parser = conversation)]
    conversation: Option<String>,
    /// Only one direction
    #[arg(long)]
    direction: Option<Leads>,
    /// Show what people wrote, not only how long it is
    #[arg(long)]
    bodies: bool,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Show a recording instead of a running bus
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bus", "seconds"])]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Leads {
    ToBackend,
    ToGateway,
}

fn connection(text: &str) -> Result<(u16, u32, Option<u32>), String> {
    let wrong = || "expected SHARD.SLOT or SHARD.SLOT.GENERATION, as `1.17.3`".to_owned();
    let mut parts = text.split('.');
    let mut next = |is_needed| match parts.next() {
        Some(part) => part.parse::<u32>().map(Some).map_err(|_| wrong()),
        None if is_needed => Err(wrong()),
        None => Ok(None),
    };
    let (shard, slot, generation) = (next(true)?, next(true)?, next(false)?);
    let shard = shard.and_then(|shard| u16::try_from(shard).ok());
    match (shard, slot, parts.next()) {
        (Some(shard), Some(slot), None) => Ok((shard, slot, generation)),
        _ => Err(wrong()),
    }
}

fn conversation(text: &str) -> Result<String, String> {
    let id = text.parse::<Id>();
    id.map(|id| id.to_string())
        .map_err(|_| "expected 32 hex digits".to_owned())
}

/// What is shown.
struct Filter<'a>(&'a TapArguments);

impl Filter<'_> {
    /// Refuses kinds that there are not: nothing would ever come.
    fn check(&self) -> Result<()> {
        let known = || {
            let envelopes = Kind::ALL.iter().map(|kind| kind.name());
            let records = RECORD_KINDS.iter().map(|(_, name)| *name);
            records.chain(envelopes)
        };
        match self
            .0
            .kind
            .iter()
            .find(|kind| !known().any(|name| name == **kind))
        {
            Some(kind) => bail!(
                "--kind {kind}: no such kind; there are: {}",
                known().collect::<Vec<_>>().join(", ")
            ),
            None => Ok(()),
        }
    }

    fn shows(&self, entry: &Entry<'_>, line: &Line) -> bool {
        let wish = self.0;
        let direction = match wish.direction {
            None => true,
            Some(Leads::ToBackend) => line.direction == Some("to_backend"),
            Some(Leads::ToGateway) => line.direction == Some("to_gateway"),
        };
        // What was not seen may have been anything, and who comes and goes concerns everybody.
        if !matches!(entry.event, Event::Record { .. }) {
            return direction || line.direction.is_none();
        }
        let is_it = |&(shard, slot, generation): &Connection| {
            wish.connection.is_none_or(|wanted| {
                (shard, slot) == (wanted.0, wanted.1) && wanted.2.is_none_or(|it| it == generation)
            })
        };
        direction
            && (wish.kind.is_empty() || wish.kind.contains(&line.kind))
            && (wish.connection.is_none() || line.all.iter().any(is_it))
            && wish
                .conversation
                .as_ref()
                .is_none_or(|id| line.concerns(id))
    }
}

/// Shows until the bus ends, or whoever reads has enough.
pub fn run(settings: Settings, wish: &TapArguments) -> Result<ExitCode> {
    let filter = Filter(wish);
    filter.check()?;
    let mut lines = Lines::new(wish.bodies);
    let mut out = BufWriter::new(stdout().lock());
    let mut show = |entry: &Entry<'_>| -> Result<()> {
        let line = lines.line(entry);
        if filter.shows(entry, &line) {
            serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
        Ok(())
    };
    let shown = match &wish.file {
        Some(file) => from_file(file, &mut show),
        None => from_bus(settings, wish, &mut show),
    };
    match shown {
        Err(error) if is_enough(&error) => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

fn from_bus(
    settings: Settings,
    wish: &TapArguments,
    show: &mut impl FnMut(&Entry<'_>) -> Result<()>,
) -> Result<ExitCode> {
    let mut watch = Watch::begin(find::running(settings, &wish.bus)?)?;
    check_protocol(watch.protocol(), "the running backend")?;
    let end = wish
        .seconds
        .map(|s| Instant::now() + Duration::from_secs(s));
    while end.is_none_or(|end| Instant::now() < end) {
        if !watch.turn(show)? {
            eprintln!("tidegate: nobody lives on the bus any more");
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn from_file(
    path: &std::path::Path,
    show: &mut impl FnMut(&Entry<'_>) -> Result<()>,
) -> Result<ExitCode> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut reader =
        RecordingReader::open(BufReader::new(file)).with_context(|| format!("{name}"))?;
    check_protocol(reader.head().protocol, &format!("what recorded {name}"))?;
    while let Some(entry) = reader
        .next()
        .with_context(|| format!("cannot read {name}"))?
    {
        show(&entry)?;
    }
    match reader.damaged_bytes() {
        0 => Ok(ExitCode::SUCCESS),
        bytes => {
            eprintln!("tidegate: {name}: {bytes} bytes are damaged and were passed over");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Records of another meaning would be shown as what they are not.
pub fn check_protocol(found: u32, whose: &str) -> Result<()> {
    // 0: nobody said yet, as no backend was ever there.
    if found != BUS_PROTOCOL && found != 0 {
        bail!(
            "{whose} speaks bus protocol {found}, this program {BUS_PROTOCOL}; use the program of that release"
        );
    }
    Ok(())
}

/// Whoever reads our lines went away: `| head`.
fn is_enough(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_with_or_without_its_generation() {
        assert_eq!(connection("1.17"), Ok((1, 17, None)));
        assert_eq!(connection("1.17.3"), Ok((1, 17, Some(3))));
        for wrong in ["", "1", "1.", "70000.1", "1.2.3.4", "a.b"] {
            connection(wrong).expect_err(wrong);
        }
    }
}
