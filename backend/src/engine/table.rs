//! The states of a conversation and everything that can happen to one: a table without an empty cell.
//!
//! | | begin | visitor text | agent text | assign | take | transfer | requeue | visitor closes | agent closes | visitor stayed away | agent gone | bot text |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | **none** | begin | begin | refuse | – | refuse | refuse | refuse | refuse | refuse | – | – | – |
//! | **waiting** | find | append | refuse | assign | assign | assign | refuse | close | close | close | – | append |
//! | **chatting** | find | append | append | – | hand over | hand over | requeue | close | close | close | requeue | – |
//! | **closed** | begin | refuse | refuse | – | refuse | refuse | refuse | find | find | – | – | – |
//!
//! "–" is [`Step::Nothing`]: a timer, the queue or the bot found the world changed, and nobody waits for an answer. *Who* may
//! cause an event is checked before the table is asked.

use super::kinds::{CloseReason, Reason, Status};

/// What happens to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// The visitor asks for a conversation.
    Begin = 0,
    /// The visitor sends a text.
    VisitorText = 1,
    /// Its agent sends a text.
    AgentText = 2,
    /// The queue gives it to an agent.
    Assign = 3,
    /// An agent takes it out of turn.
    Take = 4,
    /// It is handed to a named agent.
    Transfer = 5,
    /// It is handed back to the queue.
    Requeue = 6,
    /// The visitor closes it.
    VisitorCloses = 7,
    /// Its agent closes it.
    AgentCloses = 8,
    /// A supervisor closes it.
    SupervisorCloses = 9,
    /// The visitor stayed away for too long.
    VisitorAway = 10,
    /// Its agent went offline.
    AgentGone = 11,
    /// The bot answers the visitor.
    BotText = 12,
}

impl Event {
    /// Every event, in the order of the columns.
    pub const ALL: [Self; 13] = [
        Self::Begin,
        Self::VisitorText,
        Self::AgentText,
        Self::Assign,
        Self::Take,
        Self::Transfer,
        Self::Requeue,
        Self::VisitorCloses,
        Self::AgentCloses,
        Self::SupervisorCloses,
        Self::VisitorAway,
        Self::AgentGone,
        Self::BotText,
    ];
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new conversation, waiting.
    Begin,
    /// The one there is.
    Find,
    /// One message more.
    Append,
    /// Waiting → Chatting.
    Assign,
    /// Chatting → Chatting with another agent.
    HandOver,
    /// Chatting → Waiting, at the queue's head.
    Requeue,
    /// → Closed.
    Close(CloseReason),
    /// Refused.
    Refuse(Reason),
    /// Nothing; nobody is answered.
    Nothing,
}

/// Rows: none, waiting, chatting, closed. Columns: [`Event::ALL`].
pub const TABLE: [[Step; 13]; 4] = {
    use Step::{Append, Assign, Begin, Close, Find, HandOver, Nothing, Refuse, Requeue};
    const MISSING: Step = Refuse(Reason::NoSuchConversation);
    const OVER: Step = Refuse(Reason::ConversationClosed);
    const INVALID: Step = Refuse(Reason::InvalidState);
    [
        [
            Begin, Begin, MISSING, Nothing, MISSING, MISSING, MISSING, MISSING, MISSING, MISSING,
            Nothing, Nothing, Nothing,
        ],
        [
            Find,
            Append,
            INVALID,
            Assign,
            Assign,
            Assign,
            INVALID,
            Close(CloseReason::ByVisitor),
            Close(CloseReason::ByAgent),
            Close(CloseReason::BySupervisor),
            Close(CloseReason::Abandoned),
            Nothing,
            Append,
        ],
        [
            Find,
            Append,
            Append,
            Nothing,
            HandOver,
            HandOver,
            Requeue,
            Close(CloseReason::ByVisitor),
            Close(CloseReason::ByAgent),
            Close(CloseReason::BySupervisor),
            Close(CloseReason::VisitorGone),
            Requeue,
            Nothing,
        ],
        [
            Begin, OVER, OVER, Nothing, OVER, OVER, OVER, Find, Find, Find, Nothing, Nothing,
            Nothing,
        ],
    ]
};

/// What follows when `event` meets a conversation in `status` (`None`: there is none).
#[must_use]
pub const fn step(status: Option<Status>, event: Event) -> Step {
    let row = match status {
        None => 0,
        Some(Status::Waiting) => 1,
        Some(Status::Chatting) => 2,
        Some(Status::Closed) => 3,
    };
    TABLE[row][event as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_the_events_in_their_order() {
        for (column, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, column);
        }
    }

    #[test]
    fn every_cell_leads_to_a_state_that_the_event_allows() {
        for status in [
            None,
            Some(Status::Waiting),
            Some(Status::Chatting),
            Some(Status::Closed),
        ] {
            for event in Event::ALL {
                match step(status, event) {
                    Step::Begin => assert!(
                        !matches!(status, Some(Status::Waiting | Status::Chatting)),
                        "{event:?}"
                    ),
                    Step::Find => assert!(status.is_some()),
                    Step::Append => assert!(
                        matches!(status, Some(Status::Waiting | Status::Chatting)),
                        "{event:?}"
                    ),
                    Step::Assign => assert_eq!(status, Some(Status::Waiting), "{event:?}"),
                    Step::HandOver | Step::Requeue => {
                        assert_eq!(status, Some(Status::Chatting), "{event:?}")
                    }
                    Step::Close(reason) => {
                        assert!(
                            matches!(status, Some(Status::Waiting | Status::Chatting)),
                            "{event:?}"
                        );
                        assert_ne!(reason, CloseReason::None);
                    }
                    Step::Refuse(reason) => assert_ne!(reason, Reason::None),
                    Step::Nothing => assert!(
                        matches!(
                            event,
                            Event::Assign | Event::VisitorAway | Event::AgentGone | Event::BotText
                        ),
                        "somebody waits for an answer to {event:?}"
                    ),
                }
            }
        }
    }

    #[test]
    fn a_closed_conversation_is_never_opened_again() {
        for event in Event::ALL {
            assert!(!matches!(
                step(Some(Status::Closed), event),
                Step::Append | Step::Assign | Step::Requeue
            ));
        }
    }
}
