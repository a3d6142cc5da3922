//! `tidegate agent`: agents and supervisors from the command line, with Tidegate running or not.

use anyhow::{Context, Result};
use tidegate_backend::admin::{self, NewAgent};

use crate::settings::Settings;

/// `tidegate agent`
#[derive(Debug, clap::Args)]
pub struct AgentArguments {
    #[command(subcommand)]
    action: AgentAction,
}

#[derive(Debug, clap::Subcommand)]
enum AgentAction {
    /// Make an agent; prints the password
    Add {
        /// The name to log in with
        user: String,
        /// The name that visitors see [default: the user]
        #[arg(long)]
        name: Option<String>,
        /// May see and do everything
        #[arg(long)]
        supervisor: bool,
        /// Conversations at once
        #[arg(long, default_value_t = 8)]
        capacity: u32,
    },
    /// Give an agent a new password; prints it
    Passwd {
        /// The name to log in with
        user: String,
    },
    /// All agents
    List,
}

/// Carries the action out.
pub fn run(settings: &Settings, arguments: &AgentArguments) -> Result<()> {
    let config = &settings.backend;
    match &arguments.action {
        AgentAction::Add {
            user,
            name,
            supervisor,
            capacity,
        } => {
            let new = NewAgent {
                user: user.clone(),
                name: name.clone().unwrap_or_else(|| user.clone()),
                supervisor: *supervisor,
                capacity: *capacity,
            };
            let password = admin::create_agent(config, &new)
                .with_context(|| format!("cannot make agent {user}"))?;
            println!("user {user}   password {password}   (shown this once)");
        }
        AgentAction::Passwd { user } => {
            let password = admin::set_password(config, user)
                .with_context(|| format!("cannot change agent {user}"))?;
            println!("user {user}   password {password}   (shown this once)");
        }
        AgentAction::List => {
            println!(
                "{:<20} {:<24} {:<10} {:>8}",
                "user", "name", "role", "capacity"
            );
            for agent in admin::list_agents(config)? {
                let role = if agent.supervisor {
                    "supervisor"
                } else {
                    "agent"
                };
                println!(
                    "{:<20} {:<24} {role:<10} {:>8}",
                    agent.user, agent.name, agent.capacity
                );
            }
        }
    }
    Ok(())
}
