//! A backend without gateways: the real engine and store behind a turn of thirty lines, and the real HTTP.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_backend::app::handle::{TurnDoor, door};
use tidegate_backend::auth::{self, token_key};
use tidegate_backend::config::Config;
use tidegate_backend::engine::connections::Address;
use tidegate_backend::engine::effect::{Effect, Output};
use tidegate_backend::engine::input::{Input, Opened};
use tidegate_backend::engine::kinds::{Family, Role};
use tidegate_backend::engine::loaded::{Found, Need};
use tidegate_backend::engine::{Engine, Rules};
use tidegate_backend::http::{HttpServer, HttpState};
use tidegate_backend::store::data_dir::DataDir;
use tidegate_backend::store::{Readers, SqliteStore, Store, StoreOptions};
use tidegate_protocol::token::{Claims, Key, mint};
use tidegate_protocol::{Id, fb};

use super::client::Client;

pub struct Backend {
    pub dir: TempDir,
    pub config: Config,
    pub key: Key,
    pub client: Client,
    server: Option<HttpServer>,
    turn: Option<JoinHandle<SqliteStore>>,
    stop: Arc<AtomicBool>,
    arrivals: mpsc::Sender<Id>,
    taken: DataDir,
}

impl Backend {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = super::config(&dir);
        config.http_listen = ([127, 0, 0, 1], 0).into();
        change(&mut config);
        let mut taken = DataDir::take(&config.data_dir).expect("the directory is free");
        let mut store = SqliteStore::open(&StoreOptions::from_config(&config).expect("options"))
            .expect("the store opens");
        let readers = Readers::start(
            store.place(),
            config.site_id,
            config.reader_threads,
            config.reads_waiting_max,
        )
        .expect("readers");
        let key = token_key::load_or_create(&config.token_key_path()).expect("a key");
        let (handle, turn_door) = door(Arc::new(|| {}), config.commands_waiting_max);
        let engine = Engine::new(
            Rules::default(),
            store.load().expect("it loads"),
            auth::now_us(),
        );
        let checkpoints = store.checkpoint_counters();
        let stop = Arc::new(AtomicBool::new(false));
        let (arrivals, arrived) = mpsc::channel();
        let turn = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || run(engine, store, &turn_door, &arrived, &stop))
        };
        let state = HttpState::new(
            config.clone(),
            handle.clone(),
            readers,
            key.clone(),
            checkpoints,
        )
        .expect("state");
        let listener = HttpServer::bind(config.http_listen).expect("a port");
        let server = HttpServer::start(listener, state).expect("a server");
        taken
            .say(Some(server.address()))
            .expect("the lock file is ours");
        let client = Client::new(server.address());
        let backend = Self {
            dir,
            config,
            key,
            client,
            server: Some(server),
            turn: Some(turn),
            stop,
            arrivals,
            taken,
        };
        super::until("the turn is ready", || {
            backend.client.get("/readyz").status == 200
        });
        backend
    }

    /// A visitor's token from the API, and their id.
    pub fn visitor(&self) -> (Client, String) {
        let answer = self
            .client
            .post("/api/visitor/token", &json!({}))
            .expect(200);
        (
            self.client.with(answer["token"].as_str().unwrap()),
            answer["visitor_id"].as_str().unwrap().to_owned(),
        )
    }

    /// The first supervisor, made as the command makes it, and their password.
    pub fn supervisor(&self) -> (Client, String) {
        let password = tidegate_backend::admin::create_agent(
            &self.config,
            &tidegate_backend::admin::NewAgent {
                user: "boss".to_owned(),
                name: "Boss".to_owned(),
                supervisor: true,
                capacity: 4,
            },
        )
        .expect("the running backend makes an agent");
        (self.login("boss", &password), password)
    }

    pub fn login(&self, user: &str, password: &str) -> Client {
        let answer = self
            .client
            .post(
                "/api/agent/login",
                &json!({ "user": user, "password": password }),
            )
            .expect(200);
        self.client.with(answer["token"].as_str().unwrap())
    }

    /// An agent made by a supervisor.
    pub fn agent(&self, supervisor: &Client, user: &str) -> (Client, String) {
        let body = json!({ "user": user, "name": format!("Agent {user}"), "capacity": 2 });
        let answer = supervisor.post("/api/admin/agents", &body).expect(201);
        let id = answer["agent"]["id"].as_str().unwrap().to_owned();
        (self.login(user, answer["password"].as_str().unwrap()), id)
    }

    /// Lets an agent's console connect: only the connected can be online.
    pub fn connect(&self, agent: &str) {
        self.arrivals
            .send(agent.parse().expect("an id"))
            .expect("the turn runs");
    }

    /// A token of whatever claims, signed with the right key.
    pub fn mint(&self, role: fb::Role, change: impl FnOnce(&mut Claims)) -> String {
        let now_s = auth::now_s();
        let mut claims = Claims {
            sub: Id(77 << 80),
            role,
            wid: 1,
            name: String::new(),
            sid: 1,
            iat: now_s,
            exp: now_s + 60,
        };
        change(&mut claims);
        mint(&claims, &self.key)
    }

    pub fn say(&self, visitor: &Client, text: &str) -> Value {
        visitor
            .post("/api/visitor/send-message", &json!({ "text": text }))
            .expect(201)
    }

    /// Stops everything in order and gives the directory back.
    pub fn stop(mut self) -> TempDir {
        self.server.take().expect("it runs").stop();
        self.stop.store(true, Ordering::Relaxed);
        let store = self
            .turn
            .take()
            .expect("it runs")
            .join()
            .expect("the turn did not panic");
        store.close().expect("it closes");
        drop(self.taken);
        self.dir
    }
}

fn run(
    mut engine: Engine,
    mut store: SqliteStore,
    door: &TurnDoor,
    arrived: &mpsc::Receiver<Id>,
    stop: &AtomicBool,
) -> SqliteStore {
    let mut out = Output::default();
    let mut slot = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut requests = Vec::new();
        requests.extend(door.requests.recv_timeout(Duration::from_millis(5)).ok());
        requests.extend(door.requests.try_iter());
        out.clear();
        engine.begin_turn(
            auth::now_us(),
            auth::random::u64().expect("randomness"),
            &mut out,
        );
        for agent in arrived.try_iter() {
            slot += 1;
            apply(
                &mut engine,
                &mut store,
                &Input::Opened(opened(agent, slot)),
                &mut out,
            );
        }
        for (ticket, request) in requests.iter().enumerate() {
            let ticket = u32::try_from(ticket).expect("few requests");
            apply(
                &mut engine,
                &mut store,
                &Input::Http {
                    ticket,
                    command: Cow::Borrowed(&request.command),
                },
                &mut out,
            );
        }
        apply(&mut engine, &mut store, &Input::Tick, &mut out);
        engine.end_turn(&mut out);
        store.submit(&out.writes).expect("it commits");
        door.live.send_replace(Arc::new(engine.live_view(
            true,
            0,
            tidegate_backend::app::live_view::Counters::default(),
        )));
        for message in &out.writes.messages {
            door.polls.tell(message.conversation, message.seq);
        }
        let mut answers: HashMap<u32, _> = HashMap::new();
        for effect in out.effects.drain(..) {
            if let Effect::Http { ticket, answer } = effect {
                answers.insert(ticket, answer);
            }
        }
        for (ticket, request) in requests.into_iter().enumerate() {
            let answer = answers
                .remove(&u32::try_from(ticket).expect("few"))
                .expect("every request is answered");
            let _ = request
                .answer
                .send(answer.map(|answer| *answer).map_err(|refusal| *refusal));
        }
    }
    store
}

fn apply(engine: &mut Engine, store: &mut SqliteStore, input: &Input<'_>, out: &mut Output) {
    while let Err(need) = engine.apply(input, out) {
        let found = match need {
            Need::OldMessages { after, before_us } => Found::OldMessages(
                store
                    .old_messages(after, before_us)
                    .expect("the store reads"),
            ),
            Need::OldKeys { after, before_us } => {
                Found::OldKeys(store.old_keys(after, before_us).expect("the store reads"))
            }
            Need::Synthetic => Found::Synthetic(store.synthetic().expect("the store reads")),
            Need::Session { principal, session } => {
                Found::Session(store.session(principal, session).unwrap())
            }
            Need::Sent {
                principal,
                session,
                n,
                ..
            } => Found::Sent(store.sent(principal, session, n).unwrap()),
            Need::Visitor { id } => Found::Visitor(store.visitor(id).unwrap()),
            Need::Conversation { id } => {
                Found::Conversation(store.conversation(id).unwrap().map(Box::new))
            }
            Need::IdempotencyKey {
                principal,
                key_hash,
            } => Found::IdempotencyKey(store.idempotency_key(principal, key_hash).unwrap()),
            Need::Pending {
                conversation,
                above,
                up_to,
            } => Found::Pending(store.pending(conversation, above, up_to).unwrap()),
        };
        engine.provide(need, found);
    }
}

fn opened(agent: Id, slot: u32) -> Opened<'static> {
    Opened {
        address: Address {
            gateway: 1,
            shard: 0,
            slot,
            generation: 1,
        },
        principal: agent,
        session: u64::from(slot),
        connection: 0,
        request: 0,
        role: Role::Agent,
        family: Family::H5,
        widget: 0,
        announced: true,
        name: "",
        hello: &[],
        heartbeat_ms: 60_000,
        issued_at_s: u64::MAX,
    }
}
