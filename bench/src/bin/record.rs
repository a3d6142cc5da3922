//! `record` prints the newest record of `bench/record/` as a table; `record --write` puts it into the README.
//! `scripts/bench show` calls it.

use anyhow::{Context, Result, bail};
use tidegate_bench::record;

fn main() -> Result<()> {
    let table = record::newest_markdown(&record::directory())?
        .context("no record yet; type: scripts/bench")?;
    match std::env::args().nth(1).as_deref() {
        None => print!("{table}"),
        Some("--write") => {
            let path = record::readme();
            let readme = std::fs::read_to_string(&path)?;
            std::fs::write(&path, record::with_table(&readme, &table)?)?;
        }
        Some(other) => bail!("{other}: expected nothing or --write"),
    }
    Ok(())
}
