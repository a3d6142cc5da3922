//! A visitor and an agent who speak JSON over plain sockets.

use serde_json::{Value, json};

use super::socket::Socket;
use super::{Stage, http};

/// Somebody with a token and an open, welcomed connection.
pub struct Person {
    pub token: String,
    pub id: String,
    pub session: String,
    pub socket: Socket,
    pub welcome: Value,
    next_n: u64,
}

/// A visitor's token and id.
pub fn visitor_token(stage: &Stage) -> (String, String) {
    let answer = http::post(
        stage.http,
        "/api/visitor/token",
        None,
        &json!({"widget": "default"}),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let text = |key: &str| {
        body[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} in {body}"))
            .to_owned()
    };
    (text("token"), text("visitor_id"))
}

/// The demo agent's token and id.
pub fn agent_token(stage: &Stage) -> (String, String) {
    let password = stage
        .password
        .as_deref()
        .expect("the first start showed the password");
    let answer = http::post(
        stage.http,
        "/api/agent/login",
        None,
        &json!({"user": "demo", "password": password}),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let token = body["token"].as_str().expect("a token").to_owned();
    (
        token,
        body["agent"]["id"].as_str().expect("an id").to_owned(),
    )
}

impl Person {
    /// A visitor with a new identity.
    pub fn visitor(stage: &Stage, session: &str) -> Self {
        let (token, id) = visitor_token(stage);
        Self::connect(stage, token, id, session, &json!([]), 1)
    }

    /// The demo agent; connected means online, as long as nothing else was chosen.
    pub fn agent(stage: &Stage, session: &str) -> Self {
        let (token, id) = agent_token(stage);
        Self::connect(stage, token, id, session, &json!([]), 1)
    }

    /// Connects and says hello.
    pub fn connect(
        stage: &Stage,
        token: String,
        id: String,
        session: &str,
        cursors: &Value,
        next_n: u64,
    ) -> Self {
        let mut socket = Socket::open(stage.ws);
        let mut hello = json!({"kind": "hello", "request": 1, "token": token, "session": session});
        if cursors
            .as_array()
            .is_some_and(|cursors| !cursors.is_empty())
        {
            hello["cursors"] = cursors.clone();
        }
        socket.send(&hello.to_string());
        let welcome = socket.until("welcome");
        Self {
            token,
            id,
            session: session.to_owned(),
            socket,
            welcome,
            next_n,
        }
    }

    /// Sends a text and returns the result.
    pub fn say(&mut self, text: &str, conversation: Option<&str>) -> Value {
        self.post(text, conversation);
        self.socket.until("send_result")
    }

    /// Sends a text without waiting for its result; returns its n.
    pub fn post(&mut self, text: &str, conversation: Option<&str>) -> u64 {
        let mut send = json!({"kind": "send", "n": self.next_n, "text": text});
        if let Some(conversation) = conversation {
            send["conversation"] = json!(conversation);
        }
        self.socket.send(&send.to_string());
        self.next_n += 1;
        self.next_n - 1
    }

    /// Whether the connection still answers a ping; what comes before the pong is dropped.
    pub fn survives(&mut self) -> bool {
        if !self.socket.try_send(r#"{"kind":"ping","request":9}"#) {
            return false;
        }
        loop {
            match self.socket.next() {
                super::socket::Frame::Text(text) if text.contains(r#""kind":"pong""#) => {
                    return true;
                }
                super::socket::Frame::Text(_) => {}
                super::socket::Frame::Close(..) | super::socket::Frame::End => return false,
            }
        }
    }

    /// Acknowledges.
    pub fn acknowledge(&mut self, conversation: &str, delivered: u64, read: u64) {
        let ack = json!({"kind": "ack", "conversation": conversation, "delivered": delivered, "read": read});
        self.socket.send(&ack.to_string());
    }

    /// Sends a command with a request id.
    pub fn command(&mut self, fields: &Value) {
        let mut command = json!({"kind": "command", "request": 7});
        for (key, value) in fields.as_object().expect("an object") {
            command[key] = value.clone();
        }
        self.socket.send(&command.to_string());
    }

    /// The next text message of the other side; system messages are passed over.
    pub fn hear(&mut self) -> Value {
        loop {
            let message = self.socket.until("message");
            if message["content"].as_str().unwrap_or("text") == "text" {
                return message;
            }
        }
    }
}

/// Field `conversation` of an envelope.
pub fn conversation(envelope: &Value) -> String {
    envelope["conversation"]
        .as_str()
        .unwrap_or_else(|| panic!("no conversation in {envelope}"))
        .to_owned()
}
