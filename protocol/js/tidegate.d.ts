// The public types of the SDK. What comes from the server has the schema's names (protocol/schema/tidegate.fbs) in
// snake_case, with every field present: an absent number is 0, string '', id '', enum its first value.
//
// Ids are 32 hex digits, sessions 16; '' means absent. Times ending in _us are µs since the Unix epoch by the
// server's clock; everything else is in ms. There is no BigInt anywhere.

export type Id = string;
export type Codec = 'fb' | 'json';
export type Family = 'h5' | 'wechat' | 'app';
export type Role = 'visitor' | 'agent' | 'supervisor' | 'bot' | 'system' | 'unknown';
export type Side = 'visitor' | 'agent' | 'unknown';
export type ConversationStatus = 'waiting' | 'chatting' | 'closed' | 'unknown';
export type CloseReason =
  | 'none' | 'by_visitor' | 'by_agent' | 'by_supervisor' | 'visitor_gone' | 'abandoned' | 'unknown';
export type AgentStatus = 'offline' | 'away' | 'online' | 'unknown';
export type ContentType = 'text' | 'system' | 'unknown';
export type SystemEvent =
  | 'none' | 'queued' | 'agent_joined' | 'transferred' | 'requeued' | 'closed' | 'unknown';
export type CommandOp = 'start' | 'close' | 'transfer' | 'set_status' | 'take';
/** The schema's Reason. */
export type Reason =
  | 'none' | 'malformed_envelope' | 'unknown_field' | 'not_welcomed' | 'bad_token' | 'expired_token' | 'forbidden'
  | 'no_such_conversation' | 'conversation_closed' | 'no_such_agent' | 'agent_unavailable' | 'empty_message'
  | 'message_too_long' | 'rate_limited' | 'busy' | 'internal' | 'invalid_state' | 'unknown';
/** Reasons that only the SDK gives. */
export type LocalReason =
  | 'outbox_full'       // send(): OUTBOX_ITEMS_MAX or OUTBOX_BYTES_MAX reached; nothing was stored
  | 'unresolved'        // whether it was accepted can't be asked any more (superseded); offer "send again"
  | 'timeout'           // a command had no answer in time
  | 'connection_lost'   // a command's answer may have been lost with the connection
  | 'stopped'           // stop() was called
  | 'storage'           // the outbox could not be written; it lives in memory until reload
  | 'token'             // the token function threw
  | 'transport'         // the WebSocket could not be made
  | 'listener';         // a listener of yours threw; `cause` is what it threw

// --- what the server says ------------------------------------------------------------------------------------

export interface ConversationState {
  request: number;
  conversation: Id;
  incarnation: number;
  status: ConversationStatus;
  close_reason: CloseReason;
  seq: number;
  visitor: Id;
  visitor_name: string;
  visitor_online: boolean;
  agent: Id;
  agent_name: string;
  opened_at_us: number;
  assigned_at_us: number;
  closed_at_us: number;
  visitor_delivered: number;
  visitor_read: number;
  agent_delivered: number;
  agent_read: number;
  /** 1 = next; 0 = not waiting. */
  position: number;
  /** 0 = unknown. */
  eta_ms: number;
  unanswered_since_us: number;
  last_text: string;
  last_at_us: number;
  page: string;
  /** false: you no longer take part (transferred away); it has left `conversations`. */
  mine: boolean;
  /** While waiting: what the marks of a QueueUpdate are compared with. 0 = not waiting. */
  queue_ticket: number;
}

export interface Welcome {
  request: number;
  principal: Id;
  role: Role;
  name: string;
  heartbeat_ms: number;
  last_n: number;
  conversations: { state: ConversationState; recovered: boolean }[];
  agents_online: number;
  status: AgentStatus;
  capacity: number;
}

export interface Message {
  conversation: Id;
  seq: number;
  at_us: number;
  sender_role: Role;
  sender: Id;
  sender_name: string;
  session: string;
  n: number;
  content: ContentType;
  text: string;
  system: SystemEvent;
  close_reason: CloseReason;
}

/** A message as the SDK hands it on: once, in order, after all before it. */
export interface ReceivedMessage extends Message {
  /** Sent by this principal (this tab or another one, or before a reload). */
  own: boolean;
  /** The outbox item that this is, when it had not been acknowledged yet ('sent' was emitted just before). */
  key: string;
}

export interface Receipt { conversation: Id; side: Side; delivered: number; read: number }
export interface TypingNotice { conversation: Id; side: Side; name: string; active: boolean }
export interface QueueUpdate {
  /** Yours, while it waits; '' for agents. */
  conversation: Id;
  /** 1 = next. */
  position: number;
  /** 0 = unknown. */
  eta_ms: number;
  waiting: number; agents_online: number; longest_wait_ms: number;
  /** What `position` was found by; empty for agents. */
  marks: QueueMark[];
  /** Measured time from one served to the next; 0 = unknown. */
  each_ms: number;
}
export interface QueueMark { place: number; ticket: number }
export interface Presence {
  request: number; agent: Id; name: string; status: AgentStatus; open: number; capacity: number;
}
export interface Wait {
  /** 1 = next to be let in. */
  place: number;
  /** People let in a second; 0 = unknown. */
  rate_per_s: number;
  /** When the next Wait comes; extrapolate until then. */
  next_ms: number;
  /** The SDK keeps it: it holds the place over reconnects and reloads. */
  ticket: string;
  /** 0 = unknown. */
  eta_ms: number;
}

// --- what the SDK says ---------------------------------------------------------------------------------------

export type State =
  | 'idle'           // before start(), after stop()
  | 'connecting'     // the first connection
  | 'open'           // welcomed
  | 'waiting'        // in the waiting room (admission): see 'wait'
  | 'reconnecting'   // lost; `inMs` until the next attempt, 0 while one runs
  | 'closed';        // given up: `code` says why; start() tries again

export interface StateChange {
  state: State;
  /** 'reconnecting': ms until the next attempt. */
  inMs: number;
  /** The close code that led here; 0 where none did. */
  code: number;
}

export interface OutboxItem {
  /** Stable from send() until it is gone, also over a reload. */
  key: string;
  /** 0 until it was first put on the wire. With `session`, the message's id. */
  n: number;
  session: string;
  text: string;
  /** As given to send(); '' = my open conversation. After 'sent' it is the conversation it went to. */
  conversation: Id;
  state: 'waiting' | 'sent' | 'failed';
  /** 0 until accepted. */
  seq: number;
  /** ms, local clock, of send(); after 'sent' the server's time of the message. */
  at: number;
  /** Why it failed. */
  reason: Reason | LocalReason | '';
  detail: string;
}

/**
 * Messages that did not come over the socket: read them over HTTP (`after` exclusive, `to` inclusive), then call
 * `delivered(conversation, to)`. Until then nothing of this conversation is acknowledged, and the event comes again
 * after a reconnect. `after` 0 with `reset`: forget what you hold of it (the server lost history), read it anew.
 * Without a listener the SDK takes the messages as read.
 */
export interface HistoryNeeded { conversation: Id; after: number; to: number; incarnation: number; reset: boolean }

export interface Failure {
  reason: Reason | LocalReason;
  field: string;
  detail: string;
  retry_ms: number;
  cause?: unknown;
}

export interface Events {
  state: StateChange;
  welcome: Welcome;
  message: ReceivedMessage;
  /** An outbox item changed its state (also the copy that has just left the outbox). */
  sent: OutboxItem;
  receipt: Receipt;
  typing: TypingNotice;
  conversation: ConversationState;
  history: HistoryNeeded;
  queue: QueueUpdate;
  presence: Presence;
  error: Failure;
  wait: Wait;
  /** What holds the place in the waiting room, or brings back in, is new. `storage` keeps it for this tab. */
  ticket: { ticket: string };
  /** A connection ended. retriable: the SDK comes back by itself. */
  closed: { code: number; reason: string; retriable: boolean };
}

/** Synchronous, like localStorage. A `set` that throws makes the SDK go on in memory. */
export interface Storage {
  get(key: string): string | null | undefined;
  set(key: string, value: string): void;
  remove(key: string): void;
}

/** The part of the browser's WebSocket that the SDK uses. */
export interface SocketLike {
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: { data: any }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: Uint8Array | string): void;
  close(code?: number, reason?: string): void;
}

/** What a test replaces to run in virtual time. */
export interface Clock {
  /** ms since the Unix epoch. */
  now(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
}

export interface Options {
  /** ws:// or wss:// address of the gateway, for instance from POST /api/visitor/token. */
  url: string;
  /** A token, or a function that gets one: called before the first connection and when the last one expired. */
  token: string | ((why: 'first' | 'expired') => string | Promise<string>);
  family?: Family;
  codec?: Codec;
  locale?: string;
  /** Where the visitor is, for the agent's eyes; also settable later by `chat.page = …`. */
  page?: string;
  /** null: memory only. Default: sessionStorage where there is one. Storage shared by tabs needs Web Locks. */
  storage?: Storage | null;
  /** A ticket that an earlier page of this visitor was told by 'ticket', for a tab that has none of its own. */
  ticket?: string;
  /** Default 'tidegate'. One per role on one origin ('tidegate.agent'). */
  storageKey?: string;
  /** Default: the global one (absent in Node before 22). */
  WebSocket?: new (url: string, protocols: string[]) => SocketLike;
  clock?: Clock;
  now?: () => number;
  /** In [0, 1). Default Math.random; the session id comes from crypto where there is one. */
  random?: () => number;
  /** Calls back when the network or the page is back; returns how to stop. Default: online, visibilitychange, pageshow. */
  wake?: (callback: () => void) => () => void;
  /** navigator.locks or null. */
  locks?: unknown;
}

export interface CommandRequest {
  op: CommandOp;
  conversation?: Id;
  agent?: Id;
  status?: AgentStatus;
}

export class TidegateError extends Error {
  readonly reason: Reason | LocalReason;
  readonly field: string;
  readonly retry_ms: number;
}

export class Tidegate {
  constructor(options: Options);
  /** Takes a session, connects, and stays connected until stop() or a close code that says so. */
  start(): this;
  /** Closes the socket. The outbox stays, stored, for the next start(). */
  stop(): void;
  on<T extends keyof Events>(type: T, listener: (event: Events[T]) => void): () => void;
  /**
   * Puts a message into the outbox and, when connected, on the wire. Throws TidegateError `empty_message`,
   * `message_too_long` (MESSAGE_TEXT_BYTES_MAX) or `outbox_full`; then nothing was stored.
   */
  send(text: string, options?: { conversation?: Id }): OutboxItem;
  /** Puts a failed item at the outbox's end, under a new id. */
  resend(key: string): OutboxItem | null;
  /** Takes back an item that failed or was never put on the wire. false: too late. */
  discard(key: string): boolean;
  /** Copies, in order: failed ones included, accepted ones not. */
  readonly outbox: OutboxItem[];
  /** You hold everything up to seq (read over HTTP). Automatic for what came by 'message'. */
  delivered(conversation: Id, seq: number, incarnation?: number): void;
  /** A person saw everything up to seq. */
  read(conversation: Id, seq: number): void;
  /** Sent at most every 3 s while true; dropped when not connected. */
  typing(conversation: Id, active: boolean): void;
  /** Rejects with TidegateError. Waits for the connection, 15 s in all; never repeated by itself. */
  command(request: CommandRequest): Promise<ConversationState | Presence>;
  /** Everything this principal takes part in, newest state, marks merged. */
  readonly conversations: Map<Id, ConversationState>;
  /** The last Welcome, or null. */
  readonly welcome: Welcome | null;
  readonly state: State;
  readonly session: string;
  page: string;
}

/** new Tidegate(options).start() */
export function connect(options: Options): Tidegate;

/**
 * An object of the JSON codec (also what REST answers) with every field filled in.
 * kind: 'message', 'conversation_state', …
 */
export function complete<T = any>(kind: string, object: object): T;

/** What a close code means: 'retry' come back; 'token' get a new token, then come back; 'stop' don't. */
export function closeClass(code: number): 'retry' | 'token' | 'stop';

export const MESSAGE_TEXT_BYTES_MAX: number;
export const OUTBOX_ITEMS_MAX: number;
export const OUTBOX_BYTES_MAX: number;
