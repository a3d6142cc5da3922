//! What can be done to the model, and how bytes say it.

use crate::engine::kinds::AgentStatus;
#[cfg(feature = "fuzzing")]
use crate::engine::model::{AGENTS, VISITORS};

/// One thing that somebody does. `nth` picks one of the conversations that there are.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Open {
        person: u128,
        tab: u64,
    },
    Close {
        person: u128,
        tab: u64,
    },
    Send {
        person: u128,
        tab: u64,
        nth: u32,
    },
    Repeat {
        person: u128,
        tab: u64,
    },
    Ack {
        person: u128,
        nth: u32,
        seq: u64,
    },
    Command {
        person: u128,
        op: u8,
        nth: u32,
        agent: u128,
    },
    Status {
        agent: u128,
        status: AgentStatus,
    },
    Pass {
        seconds: u64,
    },
    /// Any payload, with whatever number of a kind.
    Raw {
        person: u128,
        tab: u64,
        kind: u8,
        payload: Vec<u8>,
    },
    /// A text over HTTP under one of a few keys.
    Post {
        person: u128,
        nth: u32,
        key: u8,
    },
    /// The bot says something, wherever that is.
    Bot {
        nth: u32,
    },
    /// The gateway process of everybody ends.
    GatewayGone,
    /// The engine is made anew from its rows.
    Restart,
}

#[cfg(feature = "fuzzing")]
impl Op {
    /// The next operation that these bytes say; `None` at their end.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let [tag, a, b] = take(bytes)?;
        let person = person(a);
        let (tab, nth) = (u64::from(b % 3), u32::from(b));
        Some(match tag % 12 {
            0 | 1 => Self::Open { person, tab },
            2 => Self::Close { person, tab },
            3 | 4 => Self::Send { person, tab, nth },
            5 => Self::Repeat { person, tab },
            6 => Self::Ack {
                person,
                nth,
                seq: u64::from(take::<1>(bytes)?[0]),
            },
            7 => {
                let [op, agent] = take(bytes)?;
                let agent = u128::from(agent) % (AGENTS + 1);
                Self::Command {
                    person,
                    op: op % 8,
                    nth,
                    agent,
                }
            }
            8 => Self::Status {
                agent: u128::from(a) % AGENTS + 1,
                status: AgentStatus::ALL[usize::from(b) % AgentStatus::ALL.len()],
            },
            9 => Self::Pass {
                seconds: u64::from(a) * 4,
            },
            10 => {
                let [kind, length] = take(bytes)?;
                let length = usize::from(length).min(bytes.len());
                let (payload, rest) = bytes.split_at(length);
                *bytes = rest;
                Self::Raw {
                    person,
                    tab,
                    kind,
                    payload: payload.to_vec(),
                }
            }
            _ => match a % 4 {
                0 => Self::Restart,
                1 if b % 2 == 0 => Self::GatewayGone,
                1 => Self::Bot { nth },
                _ => {
                    let [key] = take(bytes)?;
                    let key = key % 4;
                    Self::Post { person, nth, key }
                }
            },
        })
    }
}

#[cfg(feature = "fuzzing")]
fn person(byte: u8) -> u128 {
    let byte = u128::from(byte);
    if byte % 5 < 3 {
        100 + byte / 5 % VISITORS
    } else {
        1 + byte / 5 % AGENTS
    }
}

#[cfg(feature = "fuzzing")]
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}
