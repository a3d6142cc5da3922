//! `tidegate ledger`: what became of every accepted message, as the backend counts it and as the rows say. It only
//! reads, and works whether Tidegate runs or not.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tidegate_backend::engine::ledger::{Account, Ledger};
use tidegate_backend::store::recount::{Recount, recount_at, stored_at};
use tidegate_backend::store::sqlite::database_path;

use crate::settings::Settings;

/// `tidegate ledger`
#[derive(Debug, clap::Args)]
pub struct LedgerArguments {
    /// Count every message and acknowledgement in the database too, and compare
    #[arg(long)]
    recount: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Figures {
    /// As of the last commit.
    counters: Ledger,
    recount: Option<Counted>,
    /// Whether everything adds up.
    closed: bool,
    wrong: Option<String>,
}

#[derive(Serialize)]
struct Counted {
    #[serde(flatten)]
    ledger: Ledger,
    promised: u64,
    kept: u64,
}

/// Exit code 1: the figures do not add up, or disagree.
pub fn run(settings: &Settings, arguments: &LedgerArguments) -> Result<ExitCode> {
    let path = database_path(&settings.backend);
    let figures = if arguments.recount {
        let found = recount_at(&path).context("cannot count")?;
        compared(&found)
    } else {
        let Some(counters) = stored_at(&path).context("cannot read the counters")? else {
            bail!(
                "no message was ever accepted here; `tidegate ledger --recount` counts the rows all the same"
            );
        };
        let closed = counters.is_closed();
        Figures {
            counters,
            recount: None,
            closed,
            wrong: (!closed)
                .then(|| "the counters do not add up; --recount counts the rows".into()),
        }
    };
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string(&figures).context("figures as JSON")?
        );
    } else {
        print(&figures);
    }
    match &figures.wrong {
        None => Ok(ExitCode::SUCCESS),
        Some(wrong) => {
            eprintln!("tidegate: the ledger is open: {wrong}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn compared(found: &Recount) -> Figures {
    let wrong = found.check().err();
    Figures {
        counters: found.stored.unwrap_or_default(),
        recount: Some(Counted {
            ledger: found.ledger,
            promised: found.promised,
            kept: found.kept,
        }),
        closed: wrong.is_none(),
        wrong,
    }
}

fn print(figures: &Figures) {
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>12}",
        "", "accepted", "delivered", "pending", "expired"
    );
    print_ledger("counters", &figures.counters);
    if let Some(counted) = &figures.recount {
        print_ledger("recounted", &counted.ledger);
        println!(
            "sessions were promised {} texts, {} are accounted for",
            counted.promised, counted.kept
        );
    }
    if figures.closed {
        println!("closed: accepted = delivered + pending + expired");
    }
}

fn print_ledger(source: &str, ledger: &Ledger) {
    for line in lines(source, ledger) {
        println!("{line}");
    }
}

/// One source's three lines.
pub fn lines(source: &str, ledger: &Ledger) -> [String; 3] {
    let total = ledger.total();
    [
        ("to agents", &ledger.to_agent),
        ("to visitors", &ledger.to_visitor),
        ("together", &total),
    ]
    .map(|(to, account)| {
        let Account {
            accepted,
            delivered,
            pending,
            expired,
        } = account;
        format!(
            "{:<24} {accepted:>12} {delivered:>12} {pending:>12} {expired:>12}",
            format!("{source}, {to}")
        )
    })
}
