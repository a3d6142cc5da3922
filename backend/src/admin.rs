//! What `tidegate agent …` and the first start do to accounts.
//!
//! While no backend runs, the command takes the data directory's lock, opens the database, changes it and closes
//! it. While one runs, the command asks it over its own HTTP, as the local operator: it reads the token key (whoever
//! can, may do anything here anyway) and signs itself a supervisor's token that lives for a minute. So there is
//! always exactly one writer, and a running backend knows of every change.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_protocol::fb;
use tidegate_protocol::token::{self, Claims, LOCAL_OPERATOR, LOCAL_OPERATOR_S_MAX};

use crate::auth::{self, password};
use crate::config::Config;
use crate::engine::kinds::Role;
use crate::engine::rows::AgentRow;
use crate::engine::write_set::WriteSet;
use crate::store::data_dir::{self, DataDir};
use crate::store::read::Reader;
use crate::store::{SqliteStore, Store, StoreError, StoreOptions};

/// How long a running backend may take to answer.
const ANSWER_MS_MAX: u64 = 15_000;
/// Bytes of its answer at most.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// An agent to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAgent {
    /// The name to log in with.
    pub user: String,
    /// The name that visitors see.
    pub name: String,
    /// May see and do everything.
    pub supervisor: bool,
    /// Conversations at once.
    pub capacity: u32,
}

/// An agent that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAccount {
    /// The name to log in with.
    pub user: String,
    /// The name that visitors see.
    pub name: String,
    /// May see and do everything.
    pub supervisor: bool,
    /// Conversations at once.
    pub capacity: u32,
    /// No login.
    pub disabled: bool,
}

/// Makes an agent; answers the password, which is told only here.
///
/// # Errors
/// A sentence: the name is taken, the directory is not ours, the backend does not answer.
pub fn create_agent(config: &Config, new: &NewAgent) -> Result<String, StoreError> {
    match Access::open(config)? {
        Access::Database(database) => database.create(config, new),
        Access::Running(backend) => {
            let role = if new.supervisor {
                "supervisor"
            } else {
                "agent"
            };
            let body = json!({ "user": new.user, "name": new.name, "role": role, "capacity": new.capacity });
            told_password(&backend.ask("POST", "/api/admin/agents", &body)?)
        }
    }
}

/// Gives an agent a new password and ends their logins; answers the password.
///
/// # Errors
/// As [`create_agent`]; or there is no such agent.
pub fn set_password(config: &Config, user: &str) -> Result<String, StoreError> {
    match Access::open(config)? {
        Access::Database(database) => database.set_password(user),
        Access::Running(backend) => {
            let body = json!({ "user": user, "reset_password": true });
            told_password(&backend.ask("PATCH", "/api/admin/agents", &body)?)
        }
    }
}

/// All agents, by login name.
///
/// # Errors
/// As [`create_agent`].
pub fn list_agents(config: &Config) -> Result<Vec<AgentAccount>, StoreError> {
    match Access::open(config)? {
        Access::Database(database) => {
            let found = database.reader.agents()?.into_iter().map(account).collect();
            database.store.close()?;
            Ok(found)
        }
        Access::Running(backend) => {
            let answer = backend.ask("GET", "/api/admin/agents", &Value::Null)?;
            let agents = answer
                .get("agents")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            Ok(agents.map(listed).collect())
        }
    }
}

/// On the first start: makes one supervisor, if there is no agent at all. Answers their password, or `None` if
/// nothing was to be done.
///
/// # Errors
/// As [`create_agent`].
pub fn ensure_demo_agent(config: &Config, user: &str) -> Result<Option<String>, StoreError> {
    match Access::open(config)? {
        Access::Database(database) => {
            if database.reader.agents()?.is_empty() {
                let demo = NewAgent {
                    user: user.to_owned(),
                    name: "Demo".to_owned(),
                    supervisor: true,
                    capacity: 8,
                };
                return database.create(config, &demo).map(Some);
            }
            database.store.close()?;
            Ok(None)
        }
        // A backend that runs was started before: not the first start.
        Access::Running(_) => Ok(None),
    }
}

fn account(row: AgentRow) -> AgentAccount {
    AgentAccount {
        user: row.login,
        name: row.name,
        supervisor: row.role == Role::Supervisor,
        capacity: row.capacity,
        disabled: row.disabled,
    }
}

fn listed(value: &Value) -> AgentAccount {
    let text = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    AgentAccount {
        user: text("user"),
        name: text("name"),
        supervisor: text("role") == "supervisor",
        capacity: value
            .get("capacity")
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        disabled: value
            .get("disabled")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    }
}

fn told_password(answer: &Value) -> Result<String, StoreError> {
    let password = answer.get("password").and_then(Value::as_str);
    password
        .map(str::to_owned)
        .ok_or_else(|| StoreError::Failed("the backend told no password".to_owned()))
}

/// The one way to the accounts at this moment.
enum Access {
    Database(Box<Database>),
    Running(RunningBackend),
}

impl Access {
    fn open(config: &Config) -> Result<Self, StoreError> {
        match DataDir::take(&config.data_dir) {
            Ok(taken) => {
                Database::open(config, taken).map(|database| Self::Database(Box::new(database)))
            }
            Err(refused) if data_dir::is_taken(&config.data_dir) => {
                let owner = data_dir::owner(&config.data_dir);
                let Some(address) = owner.http.and_then(|http| http.parse().ok()) else {
                    return Err(StoreError::Busy(format!(
                        "{refused}; it does not answer yet, try again in a moment"
                    )));
                };
                RunningBackend::new(config, address).map(Self::Running)
            }
            Err(refused) => Err(refused),
        }
    }
}

/// The database, while nobody else has it.
struct Database {
    // Dropped in this order: the lock goes last.
    reader: Reader,
    store: SqliteStore,
    _taken: DataDir,
}

impl Database {
    fn open(config: &Config, taken: DataDir) -> Result<Self, StoreError> {
        let options = StoreOptions {
            checkpoint_every_ms: 0,
            ..StoreOptions::from_config(config)?
        };
        let store = SqliteStore::open(&options)?;
        let reader = Reader::new(store.place().open_reader()?, config.site_id);
        Ok(Self {
            reader,
            store,
            _taken: taken,
        })
    }

    fn create(mut self, config: &Config, new: &NewAgent) -> Result<String, StoreError> {
        let user = new.user.trim().to_lowercase();
        if user.is_empty()
            || user.len() > crate::http::LOGIN_BYTES_MAX
            || user.chars().any(char::is_control)
        {
            return Err(StoreError::Refused(
                "a user has a name of 1 to 64 bytes".to_owned(),
            ));
        }
        if self.reader.agent_by_login(&user)?.is_some() {
            return Err(StoreError::Refused(format!(
                "there is an agent {user} already; a new password: tidegate agent passwd {user}"
            )));
        }
        let (password, password_hash) = fresh_password()?;
        let row = AgentRow {
            site_id: config.site_id,
            id: auth::random::id().map_err(|error| StoreError::Failed(error.to_string()))?,
            name: if new.name.trim().is_empty() {
                user.clone()
            } else {
                new.name.trim().to_owned()
            },
            login: user,
            role: if new.supervisor {
                Role::Supervisor
            } else {
                Role::Agent
            },
            capacity: new.capacity,
            disabled: false,
            password_hash,
            tokens_valid_from_s: 0,
            created_at_us: auth::now_us(),
        };
        self.put(row)?;
        self.store.close()?;
        Ok(password)
    }

    fn set_password(mut self, user: &str) -> Result<String, StoreError> {
        let user = user.trim().to_lowercase();
        let Some(row) = self.reader.agent_by_login(&user)? else {
            return Err(StoreError::Refused(format!(
                "there is no agent {user}; see: tidegate agent list"
            )));
        };
        let (password, password_hash) = fresh_password()?;
        self.put(AgentRow {
            password_hash,
            tokens_valid_from_s: auth::now_s(),
            ..row
        })?;
        self.store.close()?;
        Ok(password)
    }

    fn put(&mut self, row: AgentRow) -> Result<(), StoreError> {
        let set = WriteSet {
            at_us: auth::now_us(),
            agents: vec![row],
            ..WriteSet::default()
        };
        self.store
            .submit(&set)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(())
    }
}

fn fresh_password() -> Result<(String, String), StoreError> {
    let password = password::generate().map_err(|error| StoreError::Failed(error.to_string()))?;
    let hash = password::hash(&password).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok((password, hash))
}

/// A backend that has the database.
struct RunningBackend {
    address: SocketAddr,
    token: String,
}

impl RunningBackend {
    fn new(config: &Config, listens: SocketAddr) -> Result<Self, StoreError> {
        let key = auth::token_key(&config.token_key_path())?;
        let now_s = auth::now_s();
        let claims = Claims {
            sub: LOCAL_OPERATOR,
            role: fb::Role::Supervisor,
            wid: 0,
            name: "tidegate agent".to_owned(),
            sid: config.site_id,
            iat: now_s,
            exp: now_s + LOCAL_OPERATOR_S_MAX,
        };
        // Bound to all interfaces it is also reached on this machine's own.
        let ip = match listens.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Ok(Self {
            address: SocketAddr::new(ip, listens.port()),
            token: token::mint(&claims, &key),
        })
    }

    /// One request over HTTP/1.1, one JSON answer, and the connection is closed.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, StoreError> {
        let text = self.exchange(method, path, body).map_err(|error| {
            StoreError::Failed(format!(
                "the backend at {} does not answer: {error}",
                self.address
            ))
        })?;
        let unexpected = || {
            StoreError::Failed(format!(
                "the backend at {} answered something unexpected",
                self.address
            ))
        };
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(unexpected)?;
        let status: u16 = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(unexpected)?;
        let answer: Value = serde_json::from_str(body).map_err(|_| unexpected())?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let detail = answer
            .get("detail")
            .and_then(Value::as_str)
            .unwrap_or("no reason given");
        Err(StoreError::Refused(format!(
            "the backend refused: {detail}"
        )))
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<String> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let mut stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> Config {
        Config {
            data_dir: dir.join("data"),
            ..Config::default()
        }
    }

    #[test]
    fn the_first_start_makes_one_supervisor_and_the_second_none() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let password = ensure_demo_agent(&config, "demo").unwrap().unwrap();
        assert!(password.len() >= 16);
        assert_eq!(ensure_demo_agent(&config, "demo").unwrap(), None);
        let agents = list_agents(&config).unwrap();
        assert_eq!(agents.len(), 1);
        assert!(agents[0].supervisor && agents[0].user == "demo");
    }

    #[test]
    fn agents_are_made_and_given_passwords_while_nothing_runs() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let new = NewAgent {
            user: "Lin".into(),
            name: "小林".into(),
            supervisor: false,
            capacity: 3,
        };
        let first = create_agent(&config, &new).unwrap();
        let taken = create_agent(&config, &new).unwrap_err().to_string();
        assert!(taken.contains("passwd lin"), "{taken}");
        let second = set_password(&config, "LIN").unwrap();
        assert_ne!(first, second);
        let nobody = set_password(&config, "nobody").unwrap_err().to_string();
        assert!(nobody.contains("agent list"), "{nobody}");
    }

    #[test]
    fn a_directory_that_somebody_starts_to_use_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let _owner = DataDir::take(&config.data_dir).unwrap();
        assert!(matches!(list_agents(&config), Err(StoreError::Busy(_))));
    }
}
