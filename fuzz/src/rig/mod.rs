//! Real processes and crowds for trials: start, kill, stop and continue the parts of a running Tidegate by role
//! ([`System`]); hundreds to thousands of clients on one thread ([`Crowd`]), which write down what they sent, what was
//! acknowledged and what they received ([`Journal`]); and the checker that compares that with what is stored
//! ([`check`]).
//!
//! ```no_run
//! use std::time::Duration;
//! use tidegate_fuzz::rig::{Crowd, Load, Role, Setup, System, check};
//!
//! # fn trial(stand: &tidegate_fuzz::trials::Stand) -> anyhow::Result<()> {
//! let mut system = System::start(&Setup::new(&stand.binary, stand.scratch()))?;
//! let mut crowd = Crowd::new(system.ws(), stand.seed)?;
//! let agent = system.add_agent("a", 100)?;
//! crowd.add_agent(&agent);
//! for n in 0..50 {
//!     crowd.add_visitor(&system.visitor_token(n));
//! }
//! crowd.start();
//! crowd.until("all are welcome", Duration::from_secs(20), |crowd| crowd.open() == crowd.len())?;
//! crowd.load = Some(Load { per_s: 500, text_bytes: 40 });
//! crowd.pass(Duration::from_millis(300))?;
//! system.kill(Role::Backend)?;
//! system.begin(Role::Backend, None)?;
//! crowd.settle(Duration::from_secs(30))?;
//! let report = check::check(&crowd.journal, &check::Stored::read(&system.database())?);
//! report.into_result()?;
//! # Ok(())
//! # }
//! ```

pub mod check;
pub mod crowd;
pub mod journal;
pub mod shop;
pub mod system;

pub use crowd::{Crowd, Load};
pub use journal::Journal;
pub use shop::Shop;
pub use system::{Agent, Role, Setup, System};
pub use tidegate_bench::rest::Metrics;
