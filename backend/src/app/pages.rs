//! Pages and tokens without a turn: what HTTP can do while the backend of the bus is another program, in another
//! language. Visitors get the page, its files, and a token; what needs a turn is answered `busy`, and the store stays
//! as it is. `tidegate up --no-backend` starts it in the backend's place.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::handle::{Wake, door};
use super::run::{DATA_DIR_HELD_MAX, Shutdown, StartError, listen, refuse_mistakes};
use crate::auth::token_key;
use crate::config::Config;
use crate::http::{HttpServer, HttpState};
use crate::store::data_dir::DataDir;
use crate::store::{Readers, SqliteStore, StoreOptions};

/// Who asks for the end wakes this sooner.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves on this thread's behalf until it is asked to stop, on the socket that was inherited, or on one bound here.
///
/// # Errors
/// See [`StartError`]: a sentence that says what was found and what to do.
pub fn run_pages(
    config: Config,
    inherited: Option<TcpListener>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    refuse_mistakes(&config)?;
    let listener = listen(&config, inherited)?;
    let mut data_dir = DataDir::take_within(&config.data_dir, DATA_DIR_HELD_MAX)?;
    let key = token_key::load_or_create(&config.token_key_path())?;
    // Widgets, and the logins of agents, are read from it; nobody writes.
    let store = SqliteStore::open(&StoreOptions::from_config(&config)?)?;
    let readers = Readers::start(
        store.place(),
        config.site_id,
        config.reader_threads,
        config.reads_waiting_max,
    )?;
    let waiting = thread::current();
    let wake: Wake = Arc::new(move || waiting.unpark());
    // The turn's end of the door is dropped at once: commands are refused, and nobody waits for them.
    let (handle, _) = door(Arc::clone(&wake), 1);
    let state = HttpState::new(config, handle, readers, key, None)?;
    let system = |error: std::io::Error| StartError::System(error.to_string());
    let http = HttpServer::start(listener, state).map_err(system)?;
    data_dir.say(Some(http.address())).map_err(system)?;
    shutdown.serves(wake, http.address());
    tracing::info!(http = %http.address(), "serving pages; no backend");
    while !shutdown.is_asked() {
        thread::park_timeout(LOOK_EVERY);
    }
    http.stop();
    Ok(())
}
