// Every bound of the SDK, with its unit in its name and what happens at it.

/** A message's text in UTF-8 (the server's limit too): send() throws `message_too_long` above it. */
export const MESSAGE_TEXT_BYTES_MAX = 16 * 1024;

/** What the outbox keeps, failed items included: send() throws `outbox_full` at either. */
export const OUTBOX_ITEMS_MAX = 200;
export const OUTBOX_BYTES_MAX = 256 * 1024;

/** Messages on the wire without an answer; the rest wait in the outbox. */
export const SENDS_IN_FLIGHT_MAX = 16;

/** Sends without an answer for so long on a live connection: reconnect and ask again. */
export const SEND_ANSWER_MS_MAX = 30_000;

/** From new WebSocket() to open, and from open to Welcome or Wait: then the attempt counts as failed. */
export const CONNECT_MS_MAX = 15_000;

/** From Ping to any traffic: then the connection is half-open. After a wake-up the shorter one. */
export const PONG_MS_MAX = 10_000;
export const WAKE_PONG_MS_MAX = 4_000;

/** Silence after something that wants an answer, until a Ping asks whether anybody is there. */
export const ANSWER_PROBE_MS = 5_000;

/** Pings leave in the last part of the heartbeat, at a random point, so that a crowd does not ping at once. */
export const HEARTBEAT_EARLY_MAX = 0.1;

/** Heartbeat before Welcome says one, and the bounds of what it may say. */
export const HEARTBEAT_MS_DEFAULT = 30_000;
export const HEARTBEAT_MS_MIN = 1_000;
export const HEARTBEAT_MS_MAX = 600_000;

/** Reconnect: attempt k waits random × min(max, base × 2^k), beyond what the server asked for. */
export const BACKOFF_MS_BASE = 500;
export const BACKOFF_MS_MAX = 30_000;

/** Who has nothing to say or to hear comes back within so long, so that a hundred thousand do not come at once. */
export const CALM_SPREAD_MS = 4_000;
/** In the waiting room: within this share of the expected time, and at most so long; the place is kept. */
export const WAIT_SPREAD_PARTS = 4;
export const WAIT_SPREAD_MS_MAX = 15_000;

/** A retry_ms of the server is believed up to here. */
export const RETRY_MS_MAX = 600_000;

/** A connection that lasted so long starts the backoff anew. */
export const STABLE_MS = 10_000;

/** Acknowledgements leave at most so often. */
export const ACK_MS = 50;

/** A state that shows lower marks than were acknowledged so long ago: they are said again. */
export const ACK_LOST_MS = 1_000;

/** Typing is said again at most so often. */
export const TYPING_MS = 3_000;

/** A missing seq is waited for: then a resume repairs it. In a conversation just joined: history is asked for. */
export const GAP_MS = 3_000;
export const JOIN_GAP_MS = 300;

/** Messages of one conversation held back for a missing one: above it, a resume at once. */
export const HELD_MESSAGES_MAX = 256;

/** Resumes for one missing seq: then it is asked for as history. */
export const RESUMES_PER_GAP_MAX = 2;

/** Conversations remembered: above it the longest untouched closed ones are forgotten. */
export const CONVERSATIONS_MAX = 256;

/** The wire's limit of cursors in one Hello: the most recently touched ones, open before closed. */
export const CURSORS_PER_HELLO_MAX = 64;

/** The wire's limits of Hello's strings: what is longer is cut. */
export const PAGE_BYTES_MAX = 2048;
export const LOCALE_BYTES_MAX = 64;

/** A Welcome has room for some conversations, the rest follow: who is not named for so long, is not ours any more. */
export const UNNAMED_MS_MAX = 3_000;

/** Commands without an answer, and how long one may take: then it is rejected. */
export const COMMANDS_MAX = 32;
export const COMMAND_MS_MAX = 15_000;

/** Sessions side by side in one storage (tabs): a tab beyond that keeps its outbox in memory. */
export const SESSION_SLOTS_MAX = 8;

/** A session that another page holds is waited for this long (a reload lets go of it late), then left to it. */
export const SESSION_LOCK_MS_MAX = 500;
