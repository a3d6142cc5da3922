//! What supervisors do: accounts, widgets, figures, exports; and the command line beside a running backend.

mod support;

use serde_json::{Value, json};
use support::backend::Backend;
use tidegate_backend::admin::{self, NewAgent};

#[test]
fn agents_are_made_changed_and_log_in() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let made = boss
        .post(
            "/api/admin/agents",
            &json!({ "user": "Lin", "name": "小林", "capacity": 3 }),
        )
        .expect(201);
    let password = made["password"].as_str().unwrap().to_owned();
    assert_eq!(
        (&made["agent"]["user"], &made["agent"]["role"]),
        (&json!("lin"), &json!("agent"))
    );
    assert_eq!(
        boss.post("/api/admin/agents", &json!({ "user": "LIN" }))
            .problem(409),
        "invalid_state"
    );
    let lin = backend.login("lin", &password);
    assert_eq!(
        lin.get("/api/agent/me").expect(200)["agent"]["name"],
        "小林"
    );

    let changed = boss
        .send(
            "PATCH",
            "/api/admin/agents",
            &json!({ "user": "lin", "capacity": 5, "name": "Lin" }),
        )
        .expect(200);
    assert_eq!(
        (&changed["agent"]["capacity"], &changed["password"]),
        (&json!(5), &Value::Null)
    );
    let reset = boss
        .send(
            "PATCH",
            "/api/admin/agents",
            &json!({ "user": "lin", "reset_password": true }),
        )
        .expect(200);
    assert_ne!(reset["password"], password.as_str());
    let chosen = boss
        .send(
            "PATCH",
            "/api/admin/agents",
            &json!({ "user": "lin", "password": "eight chars" }),
        )
        .expect(200);
    assert_eq!(
        chosen["password"],
        Value::Null,
        "a password that was chosen is not told again"
    );
    backend.login("lin", "eight chars");
    for (body, status) in [
        (json!({ "user": "lin", "password": "short" }), 422),
        (json!({ "user": "lin", "capacity": -1 }), 422),
        (json!({ "user": "lin", "role": "king" }), 422),
        (json!({ "user": "nobody", "capacity": 1 }), 404),
    ] {
        boss.send("PATCH", "/api/admin/agents", &body)
            .problem(status);
    }
    let list = boss.get("/api/admin/agents").expect(200);
    assert_eq!(list["agents"].as_array().unwrap().len(), 2);
    assert!(
        !list.to_string().contains("argon2"),
        "a hash left the house"
    );
}

#[test]
fn the_command_line_works_through_the_running_backend() {
    let backend = Backend::start();
    let new = NewAgent {
        user: "ops".into(),
        name: "Ops".into(),
        supervisor: true,
        capacity: 1,
    };
    let first = admin::create_agent(&backend.config, &new).unwrap();
    backend.login("ops", &first);
    let second = admin::set_password(&backend.config, "ops").unwrap();
    backend.login("ops", &second);
    let taken = admin::create_agent(&backend.config, &new)
        .unwrap_err()
        .to_string();
    assert!(taken.contains("there is an agent"), "{taken}");
    let agents = admin::list_agents(&backend.config).unwrap();
    assert!(agents.len() == 1 && agents[0].supervisor);
    assert_eq!(
        admin::ensure_demo_agent(&backend.config, "demo").unwrap(),
        None
    );
    let config = backend.config.clone();
    let _dir = backend.stop();
    assert_eq!(
        admin::list_agents(&config).unwrap(),
        agents,
        "and the same without it"
    );
}

#[test]
fn failed_logins_are_slowed_down_by_user_and_good_ones_are_not() {
    let backend = Backend::start_with(|config| config.logins_per_user_per_min_max = 3);
    let (_, password) = backend.supervisor();
    let login = |user: &str, password: &str| {
        backend.client.post(
            "/api/agent/login",
            &json!({ "user": user, "password": password }),
        )
    };
    for _ in 0..6 {
        login("boss", &password).expect(200);
    }
    for _ in 0..3 {
        assert_eq!(login("boss", "wrong password").problem(401), "bad_token");
    }
    let refused = login("boss", &password);
    assert_eq!(refused.problem(429), "rate_limited");
    assert!(refused.headers["retry-after"].parse::<u32>().unwrap() >= 1);
    // An unknown user and a wrong password look alike.
    let (unknown, wrong) = (
        login("nobody", "wrong password"),
        login("BOSS2", "wrong password"),
    );
    assert_eq!(unknown.text(), wrong.text());
}

#[test]
fn widgets_are_changed_and_widen_the_one_allow_list() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let change = json!({
        "name": "My shop", "greeting": "你好", "accent": "#0a7cff", "allowed_origins": ["https://shop.example"],
        "settings": { "locale": "zh", "name": "not this one" },
    });
    let cors = |origin: &str| {
        let answer =
            backend
                .client
                .request("GET", "/api/widget/config", &[("Origin", origin)], None);
        answer.headers.get("access-control-allow-origin").cloned()
    };
    assert_eq!(cors("https://shop.example"), None);
    boss.send("PATCH", "/api/admin/widgets", &change)
        .expect(200);
    let config = backend
        .client
        .get("/api/widget/config?widget=default")
        .expect(200);
    assert_eq!(
        (&config["name"], &config["accent"], &config["locale"]),
        (&json!("My shop"), &json!("#0a7cff"), &json!("zh"))
    );
    assert_eq!(
        cors("https://shop.example").as_deref(),
        Some("https://shop.example")
    );
    assert_eq!(cors("https://evil.example"), None);
    let other = boss
        .post(
            "/api/admin/widgets",
            &json!({ "key": "second", "name": "Second" }),
        )
        .expect(201);
    assert_eq!(other["id"], 2);
    assert_eq!(
        boss.post("/api/admin/widgets", &json!({ "key": "second" }))
            .problem(409),
        "invalid_state"
    );
    let token = backend
        .client
        .post("/api/visitor/token", &json!({ "widget": "second" }))
        .expect(200);
    assert_eq!(token["widget"]["name"], "Second");
    for bad in [
        json!({ "allowed_origins": ["shop.example"] }),
        json!({ "allowed_origins": "https://shop.example" }),
        json!({ "accent": "red; } body { display: none" }),
        json!({ "settings": [] }),
    ] {
        assert_eq!(
            boss.send("PATCH", "/api/admin/widgets", &bad).problem(422),
            "unknown_field"
        );
    }
    // Still so after a restart: it is stored, not only kept.
    let config = backend.config.clone();
    let _dir = backend.stop();
    let store = tidegate_backend::store::SqliteStore::open(
        &tidegate_backend::store::StoreOptions::from_config(&config).unwrap(),
    );
    let mut store = store.unwrap();
    let loaded = tidegate_backend::store::Store::load(&mut store).unwrap();
    assert_eq!(loaded.widgets[0].allowed_origins, ["https://shop.example"]);
}

#[test]
fn canned_replies_are_ones_own_or_everybodys() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let (lin, _) = backend.agent(&boss, "lin");
    let put = |who: &support::client::Client, replies: Value| {
        who.send(
            "PUT",
            "/api/agent/canned-replies",
            &json!({ "replies": replies }),
        )
    };
    put(&boss, json!([{ "shortcut": "hi", "text": "Hello", "shared": true }, { "shortcut": "b", "text": "boss's" }])).expect(200);
    let seen = put(&lin, json!([{ "shortcut": "l", "text": "lin's" }])).expect(200);
    let shortcuts = |answer: &Value| -> Vec<String> {
        answer["replies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reply| reply["shortcut"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(shortcuts(&seen), ["hi", "l"]);
    // Sent back as it came, with one change: everybody's stay as they are, ids are kept.
    let mut back = seen["replies"].clone();
    back[1]["text"] = json!("changed");
    back[0]["text"] = json!("an agent cannot change what is everybody's");
    let again = put(&lin, back).expect(200);
    assert_eq!(again["replies"][0]["text"], "Hello");
    assert_eq!(
        (&again["replies"][1]["text"], &again["replies"][1]["id"]),
        (&json!("changed"), &seen["replies"][1]["id"])
    );
    put(&lin, json!([])).expect(200);
    assert_eq!(
        shortcuts(&lin.get("/api/agent/canned-replies").expect(200)),
        ["hi"]
    );
    assert_eq!(
        shortcuts(&boss.get("/api/agent/canned-replies").expect(200)),
        ["b", "hi"]
    );
    assert_eq!(
        put(&lin, json!([{ "text": "" }])).problem(422),
        "unknown_field"
    );
    assert_eq!(put(&lin, json!({})).problem(422), "unknown_field");
}

#[test]
fn an_export_streams_every_conversation_once_in_both_formats() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let mut expected = Vec::new();
    for n in 0..7 {
        let token = backend
            .client
            .post(
                "/api/visitor/token",
                &json!({ "name": format!("=v,\"{n}\"") }),
            )
            .expect(200);
        let visitor = backend.client.with(token["token"].as_str().unwrap());
        expected.push(
            backend.say(&visitor, "hi")["conversation"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    expected.sort();
    let csv = boss.get("/api/admin/export-sessions?format=csv");
    assert_eq!(
        (csv.status, csv.headers["content-type"].as_str(), csv.whole),
        (200, "text/csv; charset=utf-8; header=present", true)
    );
    let lines: Vec<&str> = csv.text().split("\r\n").collect();
    assert!(lines[0].starts_with("conversation,status,") && !lines[0].contains(' '));
    let ids: Vec<&str> = lines[1..]
        .iter()
        .filter_map(|line| line.split(',').next())
        .filter(|id| !id.is_empty())
        .collect();
    assert_eq!(ids, expected);
    assert!(lines[1].contains("\"'=v,\"\"0\"\"\""), "{}", lines[1]);

    let jsonl = boss.get("/api/admin/export-sessions?format=jsonl");
    assert!(jsonl.whole && jsonl.headers["content-type"].starts_with("application/jsonl"));
    let rows: Vec<Value> = jsonl
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows.iter()
            .map(|row| row["conversation"].as_str().unwrap())
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        (&rows[0]["visitor_messages"], &rows[0]["status"]),
        (&json!(1), &json!("waiting"))
    );

    let none = boss.get("/api/admin/export-sessions?format=jsonl&to=2020-01-01");
    assert_eq!((none.status, none.text()), (200, ""));
    let none = boss.get("/api/admin/export-sessions?format=jsonl&from=2199-01-01T00:00:00Z");
    assert_eq!(none.text(), "");
    for bad in ["format=xml", "from=yesterday", "to=2026-02-31"] {
        assert_eq!(
            boss.get(&format!("/api/admin/export-sessions?{bad}"))
                .problem(422),
            "unknown_field",
            "{bad}"
        );
    }
}

#[test]
fn search_finds_texts_names_and_pages_and_pages_through_them() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    for n in 0..5 {
        let token = backend
            .client
            .post(
                "/api/visitor/token",
                &json!({ "name": format!("Visitor {n}") }),
            )
            .expect(200);
        let visitor = backend.client.with(token["token"].as_str().unwrap());
        let body = json!({ "text": format!("退款 number {n}"), "page": format!("https://shop.example/item/{n}") });
        visitor.post("/api/visitor/send-message", &body).expect(201);
    }
    let found = |query: &str| {
        boss.get(&format!("/api/agent/conversations?filter=all&{query}"))
            .expect(200)
    };
    let count = |answer: &Value| answer["conversations"].as_array().unwrap().len();
    assert_eq!(count(&found("q=%E9%80%80%E6%AC%BE")), 5);
    assert_eq!(count(&found("q=NUMBER%203")), 1);
    assert_eq!(count(&found("q=visitor%204")), 1);
    assert_eq!(count(&found("q=item/2")), 1);
    assert_eq!(count(&found("q=nothing")), 0);
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = found(&format!("q=number&limit=2{cursor}"));
        for row in page["conversations"].as_array().unwrap() {
            assert!(seen.insert(row["conversation"].to_string()), "twice");
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
}

#[test]
fn the_figures_add_up() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let (visitor, _) = backend.visitor();
    backend.say(&visitor, "one");
    backend.say(&visitor, "two");
    support::until("the snapshot shows it", || {
        boss.get("/api/admin/realtime-stats").expect(200)["ledger"]["accepted"] == 2
    });
    let stats = boss.get("/api/admin/realtime-stats").expect(200);
    assert_eq!(
        (&stats["ledger"]["pending"], &stats["ledger"]["closed"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(
        (&stats["waiting"], &stats["today"]["opened"]),
        (&json!(1), &json!(1))
    );
    for _ in 0..2 {
        assert_eq!(backend.client.get("/api/admin/agents").status, 401);
    }
    let metrics = backend.client.get("/metrics");
    let text = metrics.text();
    for line in [
        "tidegate_ledger_messages{to=\"agent\",state=\"pending\"} 2",
        "tidegate_ledger_messages{to=\"visitor\",state=\"accepted\"} 0",
        "tidegate_conversations_waiting 1",
        "tidegate_http_refused_total{reason=\"bad_token\"} 2",
        "tidegate_messages_accepted_total 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    for line in text.lines() {
        assert!(
            line.starts_with('#') || line.split(' ').count() == 2,
            "{line}"
        );
    }
}
