//! Whatever happens in whatever order: what the engine keeps agrees with what a naive reader of its rows would say.

use proptest::prelude::*;
use tidegate_protocol::fb;

use super::kinds::AgentStatus;
use super::model::{AGENTS, Op, VISITORS, World};

fn person() -> impl Strategy<Value = u128> {
    prop_oneof![3 => 100..100 + VISITORS, 2 => 1..=AGENTS]
}

fn op() -> impl Strategy<Value = Op> {
    let nth = any::<u32>;
    let status = prop_oneof![
        Just(AgentStatus::Online),
        Just(AgentStatus::Away),
        Just(AgentStatus::Offline)
    ];
    prop_oneof![
        4 => (person(), 0..3_u64).prop_map(|(person, tab)| Op::Open { person, tab }),
        2 => (person(), 0..3_u64).prop_map(|(person, tab)| Op::Close { person, tab }),
        8 => (person(), 0..3_u64, nth()).prop_map(|(person, tab, nth)| Op::Send { person, tab, nth }),
        2 => (person(), 0..3_u64).prop_map(|(person, tab)| Op::Repeat { person, tab }),
        5 => (person(), nth(), 0..12_u64).prop_map(|(person, nth, seq)| Op::Ack { person, nth, seq }),
        3 => (person(), 1..6_u8, nth(), 0..=AGENTS).prop_map(|(person, op, nth, agent)| {
            Op::Command { person, op, nth, agent }
        }),
        1 => (1..=AGENTS, status).prop_map(|(agent, status)| Op::Status { agent, status }),
        2 => (0..900_u64).prop_map(|seconds| Op::Pass { seconds }),
        2 => (person(), nth(), 0..4_u8).prop_map(|(person, nth, key)| Op::Post { person, nth, key }),
        2 => nth().prop_map(|nth| Op::Bot { nth }),
        1 => Just(Op::Restart),
        1 => Just(Op::GatewayGone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_the_rows_tell_the_same_story(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.check();
        }
    }
}

macro_rules! agree {
    ($($ours:ident = $theirs:ident),* $(,)?) => {$(
        let theirs: Vec<u8> = fb::$theirs::ENUM_VALUES.iter().map(|value| value.0).collect();
        let ours: Vec<u8> = super::kinds::$ours::ALL.iter().map(|value| value.code()).collect();
        assert_eq!(ours, theirs, stringify!($ours));
        for value in super::kinds::$ours::ALL {
            let theirs = fb::$theirs(value.code()).variant_name().map(str::to_lowercase);
            assert_eq!(Some(value.name().replace('_', "")), theirs, stringify!($ours));
        }
    )*};
}

#[test]
fn numbers_and_names_are_the_schemas() {
    agree!(
        Role = Role,
        Side = Side,
        Status = ConversationStatus,
        CloseReason = CloseReason,
        AgentStatus = AgentStatus,
        Content = ContentType,
        SystemEvent = SystemEvent,
        Outcome = SendOutcome,
        Reason = Reason,
        Family = Family,
    );
}
