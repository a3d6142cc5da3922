//! Asks the questions of fairness: what do those suffer who share a shard with others that behave badly?

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tidegate_bench::dribble;
use tidegate_bench::server::Server;
use tidegate_bench::slow_reader;

/// What a healthy pair suffers beside a thousand dribblers, and a slow reader during its replay.
#[derive(Debug, Parser)]
struct Arguments {
    /// The binary in question
    #[arg(long, default_value = "target/fast/tidegate")]
    tidegate: PathBuf,
    /// Connections that each dribble half a frame
    #[arg(long, default_value_t = 1_000)]
    dribblers: usize,
    /// How long the pair chats
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let echo = Server::echo(&arguments.tidegate)?;
    let dribbled = dribble::ask(dribble::Question {
        server: echo.ws,
        dribblers: arguments.dribblers,
        rate_per_s: 200,
        duration: Duration::from_secs(arguments.seconds),
    })?;
    drop(echo);
    if arguments.json {
        println!(
            "{}",
            serde_json::json!({"question": "dribble", "pair": dribbled.healthy.json()})
        );
    } else {
        println!(
            "a pair beside {} dribblers     {}",
            arguments.dribblers,
            dribbled.healthy.line()
        );
        println!(
            "  (they got rid of {} bytes meanwhile)",
            dribbled.dribbled_bytes
        );
    }
    for read_bytes_per_s in [200_000, 100_000, 50_000] {
        let server = Server::whole(&arguments.tidegate, &slow_reader::SETTINGS)?;
        let question = slow_reader::Question {
            backlog_messages: 190,
            message_bytes: 4_000,
            read_bytes_per_s,
        };
        let answer = slow_reader::ask(&server, question)?;
        if arguments.json {
            let (pong, message) = (answer.pongs.json(), answer.messages.json());
            let row = serde_json::json!({"question": "slow_reader", "read_bytes_per_s": read_bytes_per_s, "pong": pong, "message": message});
            println!("{row}");
        } else {
            println!(
                "a reader of {:>3} KB/s, replay of {:.1} s",
                read_bytes_per_s / 1_000,
                answer.replay.as_secs_f64()
            );
            println!("  pong          {}", answer.pongs.line());
            println!("  new message   {}", answer.messages.line());
        }
    }
    Ok(())
}
