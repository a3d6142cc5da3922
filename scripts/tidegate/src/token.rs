//! `tidegate token`: a token made by hand, for trying things out and for a shop's own login.

use anyhow::{Context, Result};
use tidegate_backend::auth;
use tidegate_protocol::token::{self, Claims};
use tidegate_protocol::{Id, fb};

use crate::settings::Settings;

/// `tidegate token`
#[derive(Debug, clap::Args)]
pub struct TokenArguments {
    /// Whose: 32 hex digits [default: a new visitor]
    #[arg(long, value_name = "ID")]
    id: Option<Id>,
    /// The name that the other side sees
    #[arg(long, default_value = "")]
    name: String,
    /// The widget's number
    #[arg(long, default_value_t = 1)]
    widget: u32,
    /// How long it holds, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600)]
    ttl_s: u64,
}

/// Prints a visitor's token.
pub fn run(settings: &Settings, arguments: &TokenArguments) -> Result<()> {
    let key = auth::token_key(&settings.backend.token_key_path()).context(
        "no token key; start Tidegate once, or name the directory: --data-dir DIRECTORY",
    )?;
    let (now_ms, now_s) = (auth::now_us() / 1_000, auth::now_s());
    let id = match arguments.id {
        Some(id) => id,
        None => {
            let mut random = [0; 16];
            getrandom::fill(&mut random)
                .map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            Id::new(now_ms, u128::from_le_bytes(random))
        }
    };
    let claims = Claims {
        sub: id,
        role: fb::Role::Visitor,
        wid: arguments.widget,
        name: arguments.name.clone(),
        sid: settings.backend.site_id,
        iat: now_s,
        exp: now_s.saturating_add(arguments.ttl_s),
    };
    println!("{}", token::mint(&claims, &key));
    Ok(())
}
