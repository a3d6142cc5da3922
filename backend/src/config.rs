//! What an operator may set for the backend. Every key has a default, a unit in its name and a sentence.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::workers::Verdict;

/// The `[backend]` table of the configuration file. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of the database, the secrets and the lock; made with mode 0700 when absent.
    pub data_dir: PathBuf,
    /// Directory of the shared-memory bus; the same for backend and gateways, on a tmpfs.
    pub bus_dir: PathBuf,
    /// Address of pages, REST, `/healthz`, `/readyz` and `/metrics`.
    pub http_listen: SocketAddr,
    /// WebSocket address that clients are told, `ws://host:port/ws` or `wss://…`. Empty: the host that the client
    /// asked for, at `ws_port`.
    pub public_ws_url: String,
    /// Port of the gateway in the addresses made up when `public_ws_url` is empty.
    pub ws_port: u16,
    /// Origins (`https://shop.example`) that may embed the widget and call the API from a browser, beside our own.
    /// One list for CORS and `frame-ancestors`; `*` allows all.
    pub allowed_origins: Vec<String>,
    /// Addresses of reverse proxies whose `X-Forwarded-For` is believed. Behind one that ends TLS, say
    /// `public_ws_url` as well.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// File with the token key: 32 bytes as 64 hex digits, mode 0600; made when absent. Empty: `secrets/token.key`
    /// in `data_dir`.
    pub token_key_file: PathBuf,
    /// What an acknowledged message survives: `normal` any crash of a process, `full` also a loss of power.
    pub synchronous: Synchronous,
    /// SQLite VFS by name; empty: the platform's. For tests that fail or tear writes.
    pub sqlite_vfs: String,
    /// Size of the write-ahead log above which the checkpointer stops the writer for a moment to begin it anew.
    pub wal_bytes_max: u64,
    /// How often the checkpointer looks at the write-ahead log.
    pub checkpoint_every_ms: u64,
    /// How long a commit waits for a lock on the database, the checkpointer's or another process's, before it counts as busy.
    pub database_busy_ms_max: u64,
    /// Events kept for webhooks and other nodes; at the bound the oldest leave.
    pub outbox_rows_max: u64,
    /// Page cache of the writing connection.
    pub writer_cache_bytes: u64,
    /// Memory-mapped part of the database file, for readers; 0 = none. Mapped, a disk that fails kills the process
    /// instead of failing the read.
    pub database_mmap_bytes: u64,
    /// Inputs that one turn takes, over all rings and HTTP; the rest waits in the rings.
    pub turn_inputs_max: usize,
    /// While more than some thousand inputs come in a second, turns begin at least this far apart, so that one commit
    /// serves many messages. 0: never wait.
    pub turn_gather_us_max: u64,
    /// HTTP commands that may wait for the turn; more are answered 503.
    pub commands_waiting_max: usize,
    /// Memory for the recent messages from which reconnecting clients are served; the oldest leave first.
    pub window_bytes_max: usize,
    /// Sessions whose `last` is kept in memory; others are looked up in the database.
    pub sessions_max: usize,
    /// How long the marks (delivered, read) may wait for a turn that writes anyway.
    pub marks_delay_ms_max: u64,
    /// How long a visitor may be gone before a chat counts as left (`visitor_gone`).
    pub visitor_gone_s_max: u64,
    /// How long a visitor may be gone before their place in the queue is given up (`abandoned`).
    pub abandoned_s_max: u64,
    /// How long an agent's connection may be gone before the agent counts as offline.
    pub agent_grace_s: u64,
    /// Messages that one principal may send in a second, on average.
    pub sends_per_s_max: u32,
    /// Messages that one principal may send at once.
    pub sends_burst_max: u32,
    /// Threads that read the database for history, search, lists, exports and cold resumes.
    pub reader_threads: usize,
    /// Reads that may wait for a reader thread; more are answered 503.
    pub reads_waiting_max: usize,
    /// Number of this site in every row.
    pub site_id: u32,
    /// Life of a visitor's token.
    pub visitor_token_ttl_s: u64,
    /// Life of an agent's token.
    pub agent_token_ttl_s: u64,
    /// Largest body of an HTTP request.
    pub http_body_bytes_max: usize,
    /// Longest time for one HTTP request, beside what a long poll asks for.
    pub http_request_ms_max: u64,
    /// Longest `wait` of a long poll.
    pub long_poll_s_max: u64,
    /// Long polls that may wait at once; more are answered at once with what is there.
    pub long_polls_max: usize,
    /// HTTP connections at once; further ones wait in the listen backlog.
    pub http_connections_max: usize,
    /// How fast new visitors are let in when more come than are served.
    pub admission: Admission,
    /// What leaves the database after a time.
    pub retention: Retention,
    /// A worker that looks at visitors' texts before they are accepted.
    pub moderation: Moderation,
    /// A worker that translates visitors' and agents' texts before they are accepted.
    pub translation: Translation,
    /// A worker that may answer visitors while no agent has their chat.
    pub bot: Bot,
    /// Password checks at once: each holds 19 MiB and a thread for some 20 ms.
    pub password_checks_max: usize,
    /// Failed logins of one address in a minute before it has to wait.
    pub logins_per_address_per_min_max: u32,
    /// Failed logins of one user name in a minute before it has to wait.
    pub logins_per_user_per_min_max: u32,
    /// Visitor tokens that one address may fetch in a minute. A whole office shares one address, and behind a proxy
    /// that is not in `trusted_proxies` everybody does.
    pub visitor_tokens_per_address_per_min_max: u32,
    /// Addresses and names that each rate limit remembers; at the bound the most idle one is forgotten.
    pub rate_entries_max: usize,
    /// Read the pages from this directory instead of the binary (development). Empty: the binary's.
    pub web_dir: PathBuf,
    /// Read the SDK from this directory instead of the binary (development). Empty: the binary's.
    pub sdk_dir: PathBuf,
    /// Write every input of the turn to files of this name and a number, so that `tidegate backend --replay` can apply
    /// them again. They hold what people write. Empty: none.
    pub journal_file: PathBuf,
    /// Write the journal with texts, names and pages masked: their lengths stay, and equal ones stay equal.
    pub journal_masked: bool,
    /// Size of the journal at which it ends; older ones of the same name go before.
    pub journal_bytes_max: u64,
}

/// The `[backend.admission]` table. Visitors past it wait in the gateways and are told their place; a shop without a
/// rush never comes near it. Agents never wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    /// New visitors let in a second; the backend lets in fewer while it lags. 0: nobody waits, whatever comes.
    pub per_s: u32,
    /// New visitors let in at once after a quiet time.
    pub burst: u32,
    /// Visitors connected at once, past which nobody is let in until somebody leaves. 0: no bound.
    pub inside_max: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            per_s: 10_000,
            burst: 20_000,
            inside_max: 0,
        }
    }
}

impl Admission {
    /// The same for the controller.
    #[must_use]
    pub const fn limits(self) -> crate::admission::Limits {
        crate::admission::Limits {
            per_s: self.per_s,
            burst: self.burst,
            inside_max: self.inside_max,
        }
    }
}

/// The longest that `turn_gather_us_max` may be: admission takes a turn of twice that for lag.
const TURN_GATHER_US_MAX: u64 = 20_000;

/// The `[backend.retention]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days that messages are kept; then they are removed, acknowledged or not, within the hour. 0: for ever.
    pub messages_days: u32,
    /// Hours that a repeat under the same Idempotency-Key is known to be one. 0: for ever.
    pub idempotency_keys_hours: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            messages_days: 0,
            idempotency_keys_hours: 48,
        }
    }
}

/// The `[backend.moderation]` table. A worker is a process of any language ([`crate::workers`]); its bus is the directory
/// `moderation` in `bus_dir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Moderation {
    /// Whether visitors' texts are held until a worker has looked at them.
    pub enabled: bool,
    /// What becomes of a text when no worker is there or it does not answer in time.
    pub default: ModerationDefault,
    /// How long a worker may take for an answer; at most 5,000.
    pub worker_answer_ms_max: u64,
    /// Texts held at once; what comes beyond gets the default at once.
    pub held_max: usize,
}

impl Default for Moderation {
    fn default() -> Self {
        Self {
            enabled: false,
            default: ModerationDefault::Allow,
            worker_answer_ms_max: 300,
            held_max: 1_024,
        }
    }
}

/// The `[backend.translation]` table. The translator's bus is the directory `translation` in `bus_dir`. Without one, or
/// without an answer in time, a text is sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Translation {
    /// Whether visitors' and agents' texts are held until a worker has looked at them; visitors' after the moderator.
    pub enabled: bool,
    /// How long a worker may take for an answer; at most 5,000, together with the moderator.
    pub worker_answer_ms_max: u64,
    /// Texts held at once; what comes beyond is sent as it is, at once.
    pub held_max: usize,
}

impl Default for Translation {
    fn default() -> Self {
        Self {
            enabled: false,
            worker_answer_ms_max: 300,
            held_max: 1_024,
        }
    }
}

/// The `[backend.bot]` table. The bot's bus is the directory `bot` in `bus_dir`. Without one, or without an answer in time,
/// nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bot {
    /// Whether a worker is asked about each visitor's text to which no agent is there to answer.
    pub enabled: bool,
    /// How long a worker may take for an answer; at most 60,000. Nothing is held meanwhile.
    pub worker_answer_ms_max: u64,
    /// Questions under way at once; what comes beyond is not asked.
    pub asked_max: usize,
}

impl Default for Bot {
    fn default() -> Self {
        Self {
            enabled: false,
            worker_answer_ms_max: 5_000,
            asked_max: 1_024,
        }
    }
}

/// The longest that a bot may think: a minute later nobody reads its answer as one.
const BOT_ANSWER_MS_MAX: u64 = 60_000;

/// The longest that a text may be held, at all stages together: HTTP and clients wait no longer than twice that.
const WORKER_ANSWER_MS_MAX: u64 = 5_000;

/// What becomes of a text that nobody looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModerationDefault {
    /// It is sent.
    #[default]
    Allow,
    /// It is refused, and its sender may try again.
    Refuse,
}

/// What a visitor reads whose text nobody looked at.
const UNMODERATED: &str = "this text could not be checked; try again later";

impl ModerationDefault {
    /// The same as a moderator would say it.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Refuse => Verdict::Refuse(UNMODERATED.to_owned()),
        }
    }
}

/// What an acknowledged message survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Any crash of a process: the log is synchronised at checkpoints only. After a loss of power the newest
    /// messages may be gone; the store then changes the incarnation, and clients are told.
    #[default]
    Normal,
    /// A loss of power as well: each turn's commit waits for the disk.
    Full,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("tidegate-data"),
            bus_dir: PathBuf::from("/dev/shm/tidegate"),
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8600)),
            public_ws_url: String::new(),
            ws_port: 8601,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            token_key_file: PathBuf::new(),
            synchronous: Synchronous::Normal,
            sqlite_vfs: String::new(),
            wal_bytes_max: 128 << 20,
            checkpoint_every_ms: 500,
            database_busy_ms_max: 250,
            outbox_rows_max: 100_000,
            writer_cache_bytes: 64 << 20,
            database_mmap_bytes: 0,
            turn_inputs_max: 4096,
            turn_gather_us_max: 1_000,
            commands_waiting_max: 1024,
            window_bytes_max: 256 << 20,
            sessions_max: 1 << 20,
            marks_delay_ms_max: 100,
            visitor_gone_s_max: 30 * 60,
            abandoned_s_max: 10 * 60,
            agent_grace_s: 20,
            sends_per_s_max: 10,
            sends_burst_max: 40,
            reader_threads: 2,
            reads_waiting_max: 256,
            site_id: 1,
            visitor_token_ttl_s: 30 * 24 * 3600,
            agent_token_ttl_s: 12 * 3600,
            http_body_bytes_max: 64 << 10,
            http_request_ms_max: 15_000,
            long_poll_s_max: 30,
            long_polls_max: 10_000,
            http_connections_max: 16_384,
            admission: Admission::default(),
            retention: Retention::default(),
            moderation: Moderation::default(),
            translation: Translation::default(),
            bot: Bot::default(),
            password_checks_max: 2,
            logins_per_address_per_min_max: 30,
            logins_per_user_per_min_max: 10,
            visitor_tokens_per_address_per_min_max: 60_000,
            rate_entries_max: 65_536,
            web_dir: PathBuf::new(),
            sdk_dir: PathBuf::new(),
            journal_file: PathBuf::new(),
            journal_masked: false,
            journal_bytes_max: 16 << 30,
        }
    }
}

impl Config {
    /// Where the token key is: `token_key_file`, or its default in `data_dir`.
    #[must_use]
    pub fn token_key_path(&self) -> PathBuf {
        if self.token_key_file.as_os_str().is_empty() {
            self.data_dir.join("secrets").join("token.key")
        } else {
            self.token_key_file.clone()
        }
    }

    /// What cannot work, as sentences that name the key and say what to write; empty when all is well.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut at_least_one = |key: &str, value: u128| {
            if value == 0 {
                found.push(format!("{key} is 0; it must be at least 1"));
            }
        };
        at_least_one("turn_inputs_max", self.turn_inputs_max as u128);
        at_least_one("commands_waiting_max", self.commands_waiting_max as u128);
        at_least_one("reader_threads", self.reader_threads as u128);
        at_least_one("reads_waiting_max", self.reads_waiting_max as u128);
        at_least_one("checkpoint_every_ms", u128::from(self.checkpoint_every_ms));
        at_least_one("password_checks_max", self.password_checks_max as u128);
        at_least_one("rate_entries_max", self.rate_entries_max as u128);
        at_least_one("http_connections_max", self.http_connections_max as u128);
        at_least_one("visitor_token_ttl_s", u128::from(self.visitor_token_ttl_s));
        at_least_one("agent_token_ttl_s", u128::from(self.agent_token_ttl_s));
        if self.admission.per_s > 0 && self.admission.burst == 0 {
            found.push(
                "admission.burst is 0; it must be at least 1 (or set admission.per_s to 0)".into(),
            );
        }
        if self.wal_bytes_max < 1 << 20 {
            found.push(format!(
                "wal_bytes_max is {}; below 1 MiB (1048576) the writer would be stopped all the time",
                self.wal_bytes_max
            ));
        }
        if !self.public_ws_url.is_empty()
            && !self.public_ws_url.starts_with("ws://")
            && !self.public_ws_url.starts_with("wss://")
        {
            found.push(format!(
                "public_ws_url is \"{}\"; write ws://host:port/ws or wss://host/ws",
                self.public_ws_url
            ));
        }
        if self.turn_gather_us_max > TURN_GATHER_US_MAX {
            found.push(format!(
                "turn_gather_us_max is {}; above {TURN_GATHER_US_MAX} people would notice it",
                self.turn_gather_us_max
            ));
        }
        let (moderation, translation) = (self.moderation, self.translation);
        for (worker, ms, ms_max) in [
            (
                "moderation",
                moderation.worker_answer_ms_max,
                WORKER_ANSWER_MS_MAX,
            ),
            (
                "translation",
                translation.worker_answer_ms_max,
                WORKER_ANSWER_MS_MAX,
            ),
            ("bot", self.bot.worker_answer_ms_max, BOT_ANSWER_MS_MAX),
        ] {
            if !(1..=ms_max).contains(&ms) {
                found.push(format!(
                    "{worker}.worker_answer_ms_max is {ms}; it must be 1 to {ms_max}"
                ));
            }
        }
        let both_ms = moderation
            .worker_answer_ms_max
            .saturating_add(translation.worker_answer_ms_max);
        if moderation.enabled && translation.enabled && both_ms > WORKER_ANSWER_MS_MAX {
            found.push(format!(
                "moderation.worker_answer_ms_max and translation.worker_answer_ms_max are {both_ms} together; a text that \
                 waits for both may be held for {WORKER_ANSWER_MS_MAX}: lower one of them"
            ));
        }
        for origin in &self.allowed_origins {
            if let Err(why) = crate::http::origin::check(origin) {
                found.push(format!("allowed_origins has \"{origin}\": {why}"));
            }
        }
        for (key, path) in [("data_dir", &self.data_dir), ("bus_dir", &self.bus_dir)] {
            if path.as_os_str().is_empty() || path == Path::new("/") {
                found.push(format!(
                    "{key} is \"{}\"; name a directory of its own",
                    path.display()
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_mistakes() {
        assert_eq!(Config::default().mistakes(), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<Config>(r#"{"data_dri": "x"}"#).unwrap_err();
        assert!(error.to_string().contains("data_dri"), "{error}");
    }

    #[test]
    fn each_mistake_names_its_key() {
        let config = Config {
            reader_threads: 0,
            public_ws_url: "http://x".into(),
            allowed_origins: vec!["shop.example".into()],
            wal_bytes_max: 5,
            admission: Admission {
                burst: 0,
                ..Admission::default()
            },
            moderation: Moderation {
                enabled: true,
                worker_answer_ms_max: 4_000,
                ..Moderation::default()
            },
            translation: Translation {
                enabled: true,
                worker_answer_ms_max: 4_000,
                ..Translation::default()
            },
            bot: Bot {
                worker_answer_ms_max: 0,
                ..Bot::default()
            },
            ..Config::default()
        };
        let mistakes = config.mistakes().join("\n");
        for key in [
            "reader_threads",
            "public_ws_url",
            "allowed_origins",
            "wal_bytes_max",
            "admission.burst",
            "translation.worker_answer_ms_max are 8000 together",
            "bot.worker_answer_ms_max is 0",
        ] {
            assert!(mistakes.contains(key), "{key} is missing in: {mistakes}");
        }
    }
}
