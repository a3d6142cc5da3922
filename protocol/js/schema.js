// protocol/schema/tidegate.fbs as tables that both codecs walk. A test compares this page with the schema, field by
// field, and with the golden vectors: edit both or neither.
//
// A field is written `name:type` or `name:type=default`, in the order of its id. Types:
//   u64      number, an integer below 2^53          session  16 hex digits ('' = 0)
//   u32      number                                  id       32 hex digits ('' = absent)
//   bool     boolean                                 string   string ('' = absent)
//   [Name]   array of tables                         Name     enumeration, or a nested table (null = absent)

/** Enumerations: value → name. A value past the end reads as 'unknown'. */
export const ENUMS = {
  Family: 'h5 wechat app'.split(' '),
  Role: 'visitor agent supervisor bot system'.split(' '),
  Side: 'visitor agent'.split(' '),
  ConversationStatus: 'waiting chatting closed'.split(' '),
  CloseReason: 'none by_visitor by_agent by_supervisor visitor_gone abandoned'.split(' '),
  AgentStatus: 'offline away online'.split(' '),
  ContentType: 'text system'.split(' '),
  SystemEvent: 'none queued agent_joined transferred requeued closed'.split(' '),
  CommandOp: 'none start close transfer set_status take'.split(' '),
  SendOutcome: 'accepted duplicate gap id_conflict busy refused'.split(' '),
  Reason: ('none malformed_envelope unknown_field not_welcomed bad_token expired_token forbidden ' +
    'no_such_conversation conversation_closed no_such_agent agent_unavailable empty_message message_too_long ' +
    'rate_limited busy internal invalid_state').split(' '),
};

const SOURCE = {
  Cursor: 'conversation:id incarnation:u64 seq:u64',
  Hello: 'request:u64 token:string session:session family:Family locale:string cursors:[Cursor] ticket:string ' +
    'page:string connection:u32',
  Ping: 'request:u64',
  Send: 'n:u64 conversation:id text:string',
  Ack: 'conversation:id delivered:u64 read:u64',
  Typing: 'conversation:id active:bool',
  Command: 'request:u64 op:CommandOp conversation:id agent:id status:AgentStatus',
  ConversationState: 'request:u64 conversation:id incarnation:u64 status:ConversationStatus ' +
    'close_reason:CloseReason seq:u64 visitor:id visitor_name:string visitor_online:bool agent:id ' +
    'agent_name:string opened_at_us:u64 assigned_at_us:u64 closed_at_us:u64 visitor_delivered:u64 ' +
    'visitor_read:u64 agent_delivered:u64 agent_read:u64 position:u32 eta_ms:u32 unanswered_since_us:u64 ' +
    'last_text:string last_at_us:u64 page:string mine:bool=true queue_ticket:u64',
  Resumed: 'state:ConversationState recovered:bool',
  Welcome: 'request:u64 principal:id role:Role name:string heartbeat_ms:u32 last_n:u64 conversations:[Resumed] ' +
    'agents_online:u32 status:AgentStatus capacity:u32',
  Pong: 'request:u64',
  SendResult: 'n:u64 outcome:SendOutcome conversation:id seq:u64 at_us:u64 expected_n:u64 retry_ms:u32 ' +
    'reason:Reason detail:string',
  Message: 'conversation:id seq:u64 at_us:u64 sender_role:Role sender:id sender_name:string session:session n:u64 ' +
    'content:ContentType text:string system:SystemEvent close_reason:CloseReason',
  Receipt: 'conversation:id side:Side delivered:u64 read:u64',
  TypingNotice: 'conversation:id side:Side name:string active:bool',
  QueueMark: 'place:u32 ticket:u64',
  QueueUpdate: 'conversation:id position:u32 eta_ms:u32 waiting:u32 agents_online:u32 longest_wait_ms:u32 ' +
    'marks:[QueueMark] each_ms:u32',
  Presence: 'request:u64 agent:id name:string status:AgentStatus open:u32 capacity:u32',
  Error: 'request:u64 reason:Reason field:string detail:string retry_ms:u32',
  Wait: 'place:u64 rate_per_s:u32 next_ms:u32 ticket:string eta_ms:u32',
  Goaway: 'retry_ms:u32',
  Admitted: 'ticket:string',
};

/** Kind number → its name on the JSON wire. */
export const KINDS = {
  1: 'hello', 2: 'ping', 3: 'send', 4: 'ack', 5: 'typing', 6: 'command',
  65: 'welcome', 66: 'pong', 67: 'send_result', 68: 'message', 69: 'conversation_state', 70: 'receipt',
  71: 'typing_notice', 72: 'queue_update', 73: 'presence', 74: 'error', 75: 'wait', 76: 'goaway', 77: 'admitted',
};

/** Bytes that a type takes inside its table; what is not listed is a 4-byte offset. */
const INLINE_BYTES = { u64: 8, session: 8, u32: 4, bool: 1, id: 16 };
const EMPTY = { u64: 0, u32: 0, bool: false, string: '', id: '', session: '' };

function parseField(source, index) {
  const [, name, list, type, , preset] = /^(\w+):(\[?)(\w+)\]?(=(\w+))?$/.exec(source);
  const names = ENUMS[type];
  const field = { name, slot: 4 + 2 * index, type, names, bytes: INLINE_BYTES[type] || 4, absent: EMPTY[type] };
  if (names) {
    field.type = 'enum';
    field.bytes = 1;
    field.absent = names[0];
  } else if (list) {
    field.type = 'tables';
    field.of = type;
  } else if (SOURCE[type]) {
    field.type = 'table';
    field.of = type;
    field.absent = null;
  }
  if (preset) field.absent = preset === 'true';
  return field;
}

/** Table name → its fields: { name, slot (in the vtable), type, bytes, absent (the default), names?, of? }. */
export const TABLES = {};
for (const name of Object.keys(SOURCE)) TABLES[name] = SOURCE[name].split(' ').map(parseField);

/** 'send_result' → 'SendResult' */
export const tableOf = (kind) => kind.replace(/(^|_)(\w)/g, (_, __, letter) => letter.toUpperCase());

/** Kind name → kind number. */
export const KIND_NUMBERS = {};
for (const number of Object.keys(KINDS)) KIND_NUMBERS[KINDS[number]] = Number(number);

/** What an absent field reads as: a fresh array for lists, the default for all else. */
export const absentValue = (field) => (field.type === 'tables' ? [] : field.absent);

/** Whether a value is what an absent field reads as, so that it need not be written. */
export function isAbsent(field, value) {
  if (value === undefined || value === null || value === field.absent) return true;
  if (field.type === 'tables') return value.length === 0;
  return (field.type === 'id' || field.type === 'session') && /^0*$/.test(value);
}
