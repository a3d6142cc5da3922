//! Who may ask what: every route against every kind of token, and one visitor's token against another's data.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::backend::Backend;
use support::client::{Answer, Client};
use tidegate_protocol::fb;

/// Every operation of the description: method, path, whose token (`None`: anybody's).
fn operations(description: &Value) -> Vec<(String, String, Option<String>)> {
    let mut found = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let who = operation["security"].as_array().unwrap().first();
            let who = who.and_then(|scheme| scheme.as_object().unwrap().keys().next().cloned());
            found.push((method.to_uppercase(), path.clone(), who));
        }
    }
    found
}

#[test]
fn the_description_names_exactly_the_routes_that_there_are() {
    let backend = Backend::start();
    let description = backend.client.get("/api/openapi.json").expect(200);
    let described: BTreeSet<(String, String)> = operations(&description)
        .into_iter()
        .map(|(method, path, _)| (path, method))
        .collect();
    let source = include_str!("../src/http/server.rs");
    let mut routed = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let mut quoted = route.split('"');
        let path = quoted.nth(1).expect("a path").to_owned();
        let handlers = route.split(".fallback(").next().unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            if handlers.contains(&format!("{method}(")) {
                routed.insert((path.clone(), method.to_uppercase()));
            }
        }
    }
    assert!(routed.len() > 25);
    assert_eq!(described, routed);
}

fn ask(client: &Client, method: &str, path: &str, conversation: &str) -> Answer {
    let path = path.replace("{id}", conversation);
    match method {
        "GET" => client.get(&path),
        method => client.send(method, &path, &json!({})),
    }
}

#[test]
fn every_route_takes_its_own_tokens_and_no_others() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let (lin, _) = backend.agent(&boss, "lin");
    let (visitor, _) = backend.visitor();
    let conversation = backend.say(&visitor, "hello")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    let forged = backend
        .client
        .with(&format!("{}x", visitor.token.as_ref().unwrap()));
    let garbage = backend.client.with("garbage");
    let expired = |role| {
        backend.client.with(&backend.mint(role, |claims| {
            claims.iat -= 1_000;
            claims.exp -= 500;
        }))
    };
    let other_site = backend
        .client
        .with(&backend.mint(fb::Role::Visitor, |claims| claims.sid = 2));
    let no_account = backend
        .client
        .with(&backend.mint(fb::Role::Supervisor, |_| {}));
    let description = backend.client.get("/api/openapi.json").expect(200);
    let mut asked = 0;
    for (method, path, who) in operations(&description) {
        let status = |client: &Client| ask(client, &method, &path, &conversation).status;
        let problem = |client: &Client, expected| {
            ask(client, &method, &path, &conversation).problem(expected)
        };
        let Some(who) = who else {
            assert!(
                !matches!(status(&backend.client), 401 | 403),
                "{method} {path} is for anybody"
            );
            continue;
        };
        asked += 1;
        let route = format!("{method} {path}");
        for nobody in [&backend.client, &forged, &garbage] {
            assert_eq!(problem(nobody, 401), "bad_token", "{route}");
        }
        let (role, may): (_, [bool; 3]) = match who.as_str() {
            "visitor" => (fb::Role::Visitor, [true, false, false]),
            "agent" => (fb::Role::Agent, [false, true, true]),
            _ => (fb::Role::Supervisor, [false, false, true]),
        };
        assert_eq!(problem(&expired(role), 401), "expired_token", "{route}");
        if who == "visitor" {
            assert_eq!(problem(&other_site, 401), "bad_token", "{route}");
        } else {
            assert_eq!(problem(&no_account, 401), "bad_token", "{route}");
        }
        for (client, may) in [&visitor, &lin, &boss].into_iter().zip(may) {
            let status = status(client);
            if may {
                assert_ne!(status, 401, "{route}");
            } else {
                assert_eq!(status, 403, "{route}");
            }
        }
    }
    assert!(asked > 20);
}

#[test]
fn one_visitors_token_reads_one_visitors_data() {
    let backend = Backend::start();
    let (alice, alice_id) = backend.visitor();
    let (mallory, _) = backend.visitor();
    let conversation = backend.say(&alice, "my secret")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    let own = backend.say(&mallory, "mine")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();

    let seen = [
        mallory.get(&format!(
            "/api/visitor/messages?conversation={conversation}"
        )),
        mallory.get(&format!(
            "/api/visitor/messages?conversation={conversation}&after=0&wait=1"
        )),
        mallory.get("/api/visitor/messages"),
        mallory.get("/api/visitor/queue-position"),
        mallory.post(
            "/api/visitor/send-message",
            &json!({ "text": "x", "conversation": conversation }),
        ),
        mallory.post(
            "/api/visitor/close",
            &json!({ "conversation": conversation }),
        ),
        mallory.get(&format!("/api/visitor/messages?conversation={own}&after=0")),
        mallory.get(&format!("/api/agent/conversations/{conversation}")),
        mallory.get(&format!("/api/agent/conversations/{conversation}/messages")),
        mallory.get("/api/agent/conversations?filter=all&q=secret"),
        mallory.get("/api/admin/export-sessions"),
    ];
    for answer in &seen {
        let body = answer.text();
        assert!(
            !body.contains("secret") && !body.contains(&alice_id) && !body.contains(&conversation),
            "{body}"
        );
    }
    // A conversation of another looks like one that does not exist.
    let absent = mallory.get(&format!(
        "/api/visitor/messages?conversation={}",
        "0".repeat(31) + "5"
    ));
    assert_eq!(seen[0].text(), absent.text());
    assert_eq!(seen[0].problem(404), "no_such_conversation");
    for refused in [&seen[4], &seen[5]] {
        assert!(matches!(refused.status, 403 | 404), "{refused:?}");
    }
    // And Alice's chat is as it was.
    let page = alice.get("/api/visitor/messages").expect(200);
    assert!(page["state"]["status"] == "waiting");
    assert!(!page["messages"].to_string().contains("\"x\""));
}

#[test]
fn an_agent_reads_their_own_the_waiting_and_nothing_else() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let (lin, lin_id) = backend.agent(&boss, "lin");
    let (wu, _) = backend.agent(&boss, "wu");
    let (visitor, _) = backend.visitor();
    backend.connect(&lin_id);
    support::until("the console is connected", || {
        boss.get("/api/admin/realtime-stats").expect(200)["agents_connected"] == 1
    });
    lin.send("PUT", "/api/agent/status", &json!({ "status": "online" }))
        .expect(200);
    let conversation = backend.say(&visitor, "for lin")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    let detail = format!("/api/agent/conversations/{conversation}");
    let messages = format!("{detail}/messages");
    support::until("it is lin's", || {
        lin.get(&detail).expect(200)["conversation"]["agent"] == lin_id.as_str()
    });

    assert_eq!(wu.get(&detail).problem(403), "forbidden");
    assert_eq!(wu.get(&messages).problem(403), "forbidden");
    for path in ["/api/agent/close", "/api/agent/transfer"] {
        assert_eq!(
            wu.post(path, &json!({ "conversation": conversation }))
                .problem(403),
            "forbidden"
        );
    }
    assert_eq!(
        wu.post(
            "/api/agent/send-message",
            &json!({ "conversation": conversation, "text": "x" })
        )
        .problem(403),
        "forbidden"
    );
    for filter in ["mine", "all", "closed", "waiting"] {
        let list = wu
            .get(&format!("/api/agent/conversations?filter={filter}"))
            .expect(200);
        assert_eq!(list["conversations"], json!([]), "{filter}");
    }
    boss.get(&messages).expect(200);
    let list = boss.get("/api/agent/conversations?filter=all").expect(200);
    assert_eq!(
        list["conversations"][0]["conversation"],
        conversation.as_str()
    );
}

#[test]
fn a_disabled_account_and_an_old_password_end_at_once() {
    let backend = Backend::start();
    let (boss, password) = backend.supervisor();
    let (lin, lin_id) = backend.agent(&boss, "lin");
    lin.get("/api/agent/me").expect(200);
    boss.send(
        "PATCH",
        "/api/admin/agents",
        &json!({ "id": lin_id, "disabled": true }),
    )
    .expect(200);
    assert_eq!(lin.get("/api/agent/me").problem(401), "expired_token");
    // Their own rights a supervisor cannot take from themselves.
    let own = boss.send(
        "PATCH",
        "/api/admin/agents",
        &json!({ "user": "boss", "disabled": true }),
    );
    assert_eq!(own.problem(409), "invalid_state");
    // A new password ends the logins of before. Tokens are dated in seconds, so this one is from a while ago.
    let id = boss.get("/api/agent/me").expect(200)["agent"]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let earlier = backend
        .client
        .with(&backend.mint(fb::Role::Supervisor, |claims| {
            claims.sub = id;
            claims.iat -= 5;
        }));
    earlier.get("/api/agent/me").expect(200);
    let new = tidegate_backend::admin::set_password(&backend.config, "boss").unwrap();
    assert_eq!(earlier.get("/api/agent/me").problem(401), "expired_token");
    let old = backend.client.post(
        "/api/agent/login",
        &json!({ "user": "boss", "password": password }),
    );
    assert_eq!(old.problem(401), "bad_token");
    backend.login("boss", &new).get("/api/agent/me").expect(200);
}
