//! Two gateway processes on one port and one backend: people on either chat with each other, the death of one is
//! nothing to those on the other, and a stopped one holds nobody who comes new.

mod stage;

use stage::people::{Person, conversation};
use stage::socket::Socket;
use stage::{Stage, directory, eventually, http, signal};

/// Connections that each gateway process holds, by the figures at its own address.
fn connections(stage: &Stage) -> Vec<u64> {
    let settings = std::fs::read_to_string(
        stage
            .directory
            .path()
            .join("tidegate-data/run/settings.toml"),
    );
    let settings: toml::Table = settings.expect("written").parse().expect("TOML");
    let first = settings["gateway"]["admin_listen"]
        .as_str()
        .expect("an address");
    let first: std::net::SocketAddr = first.parse().expect("an address");
    let mut found = Vec::new();
    let mut port = first.port();
    while found.len() < 2 && port < first.port() + 20 {
        let address = std::net::SocketAddr::new(first.ip(), port);
        if std::net::TcpStream::connect(address).is_ok() {
            let page = http::get(address, "/metrics", None).body;
            let open = page
                .lines()
                .filter(|line| line.starts_with("tidegate_gateway_connections_open{"));
            found.push(
                open.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                    .sum(),
            );
        }
        port += 1;
    }
    found
}

#[test]
fn people_on_either_gateway_chat_and_one_may_die() {
    let stage = Stage::start_in(directory(), &["--gateways", "2"], &[]);
    assert_eq!(stage.pids("gateway").len(), 2);
    let mut agent = Person::agent(&stage, "00000000000000b1");
    // The kernel spreads connections over the listening sockets: some visitors are on each gateway.
    let mut visitors: Vec<Person> = (0..6)
        .map(|i| Person::visitor(&stage, &format!("{:016x}", 0xa0 + i)))
        .collect();
    for (i, visitor) in visitors.iter_mut().enumerate() {
        let text = format!("hello from {i}");
        let chat = conversation(&visitor.say(&text, None));
        let heard = agent.hear();
        assert_eq!(heard["text"], text.as_str());
        agent.say(&format!("hello to {i}"), Some(&chat));
        assert_eq!(visitor.hear()["text"], format!("hello to {i}").as_str());
    }
    eventually("both gateways' figures", || {
        let held = connections(&stage);
        (held.len() == 2 && held.iter().sum::<u64>() == 7).then_some(())
    });

    // One dies. Whoever was on it finds the stream ended; all others go on as if nothing had been.
    let before = stage.pids("gateway");
    signal(before[0], "KILL");
    eventually("a successor", || {
        let now = stage.pids("gateway");
        (now.len() == 2 && !now.contains(&before[0])).then_some(())
    });
    let mut lasting = 0;
    for visitor in &mut visitors {
        if visitor.survives() {
            lasting += 1;
            assert_eq!(visitor.say("still here", None)["outcome"], "accepted");
        }
    }
    // And whoever lost the connection gets another at once.
    let mut newcomer = Person::visitor(&stage, "00000000000000ff");
    assert_eq!(newcomer.say("a new one", None)["outcome"], "accepted");
    println!(
        "{lasting} of {} visitors were on the other gateway",
        visitors.len()
    );
}

#[test]
fn a_stopped_gateway_holds_nobody_who_comes_new() {
    let stage = Stage::start_in(directory(), &["--gateways", "2"], &[]);
    // The kernel gives each gateway some of these; none at all for one of them happens once in 2^31.
    let before: Vec<Socket> = (0..32).map(|_| Socket::open(stage.ws)).collect();
    eventually("both gateways to hold some", || {
        let held = connections(&stage);
        (held.iter().sum::<u64>() == before.len() as u64 && held.iter().all(|&held| held > 0))
            .then_some(())
    });
    let stopped = stage.pids("gateway")[0];
    signal(stopped, "STOP");
    // A thread that was about to let somebody in does so before it stops, and keeps them.
    eventually("all its threads to stand still", || {
        let threads = std::fs::read_dir(format!("/proc/{stopped}/task")).ok()?;
        let mut states = threads.flatten().map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .unwrap_or_default()
                .trim_start()
                .starts_with('T')
        });
        states.all(|stands| stands).then_some(())
    });
    // Each waits for its upgrade: who is given to the stopped one would wait for as long as it stands still.
    let newcomers: Vec<Socket> = (0..32).map(|_| Socket::open(stage.ws)).collect();
    signal(stopped, "CONT");
    eventually("everybody to be served", || {
        let held: u64 = connections(&stage).iter().sum();
        (held == (before.len() + newcomers.len()) as u64).then_some(())
    });
}
