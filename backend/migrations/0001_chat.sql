-- The chat: who, what was said, how far each side has it.
--
-- Conventions, for every table:
--   * An id of 128 bits is a blob of 16 bytes, big-endian, so that blobs sort as ids do: by the time they were made.
--   * No autoincrement, no rowid that means anything: two sites can be merged.
--   * `site_id` says which site a row belongs to.
--   * `…_at_us` is µs since the Unix epoch by the server's clock; 0 = not yet.
--   * A 64-bit number that uses its top bit (sessions, hashes) is stored as the signed number of the same bits.
--   * `role`, `status`, `reason` … are the numbers of the enumerations in protocol/schema/tidegate.fbs.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,       -- owner_epoch, incarnation, hlc_ceiling, clean, synchronous, …
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta_text (
    key   TEXT PRIMARY KEY,       -- boot_id: the kernel's random id of the boot that wrote last
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE widget (
    site_id         INTEGER NOT NULL,
    id              INTEGER NOT NULL,   -- stands in visitors' tokens as `wid`
    key             TEXT    NOT NULL,   -- what a page names it by
    name            TEXT    NOT NULL,
    greeting        TEXT    NOT NULL,
    accent          TEXT    NOT NULL,   -- CSS colour; empty = the page's own
    allowed_origins TEXT    NOT NULL,   -- JSON array; beside those of the configuration
    settings_json   TEXT    NOT NULL,   -- JSON object of further public settings
    PRIMARY KEY (site_id, id),
    UNIQUE (site_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent (
    id                  BLOB    PRIMARY KEY CHECK (length(id) = 16),
    site_id             INTEGER NOT NULL,
    login               TEXT    NOT NULL,
    name                TEXT    NOT NULL,   -- what visitors read
    role                INTEGER NOT NULL,   -- 1 agent, 2 supervisor
    capacity            INTEGER NOT NULL,   -- conversations at once
    disabled            INTEGER NOT NULL,
    password_hash       TEXT    NOT NULL,   -- argon2id, PHC string
    tokens_valid_from_s INTEGER NOT NULL,   -- tokens issued before are refused: a new password ends old logins
    created_at_us       INTEGER NOT NULL,
    UNIQUE (site_id, login)
) STRICT, WITHOUT ROWID;

-- Presence: last writer wins by (hlc, node). Beside `agent`, because it changes often and the rest hardly ever.
CREATE TABLE agent_status (
    agent   BLOB    PRIMARY KEY CHECK (length(agent) = 16),
    site_id INTEGER NOT NULL,
    status  INTEGER NOT NULL,
    hlc     INTEGER NOT NULL,   -- hybrid logical clock
    node    INTEGER NOT NULL    -- who wrote it: the tie-breaker
) STRICT, WITHOUT ROWID;

CREATE TABLE visitor (
    id            BLOB    PRIMARY KEY CHECK (length(id) = 16),
    site_id       INTEGER NOT NULL,
    widget        INTEGER NOT NULL,
    name          TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL,
    locale        TEXT    NOT NULL,   -- BCP 47
    family        INTEGER NOT NULL    -- 0 h5, 1 wechat, 2 app
) STRICT, WITHOUT ROWID;

CREATE TABLE conversation (
    id                   BLOB    PRIMARY KEY CHECK (length(id) = 16),
    site_id              INTEGER NOT NULL,
    owner_epoch          INTEGER NOT NULL,   -- the owner that wrote this row: the one who may give out its seqs
    widget               INTEGER NOT NULL,
    visitor              BLOB    NOT NULL CHECK (length(visitor) = 16),
    status               INTEGER NOT NULL,   -- 0 waiting, 1 chatting, 2 closed
    close_reason         INTEGER NOT NULL,
    agent                BLOB    CHECK (agent IS NULL OR length(agent) = 16),   -- NULL = nobody yet
    opened_at_us         INTEGER NOT NULL,
    assigned_at_us       INTEGER NOT NULL,   -- the newest assignment
    first_assigned_at_us INTEGER NOT NULL,   -- the first: minus opened_at_us it is the time waited
    closed_at_us         INTEGER NOT NULL,
    queue_order          INTEGER NOT NULL,   -- while waiting: the smaller the sooner; may be negative
    page                 TEXT    NOT NULL,   -- where the visitor was when it began
    synthetic            INTEGER NOT NULL    -- 1 = made by the load generator: kept out of statistics
) STRICT, WITHOUT ROWID;

-- The rule "at most one open conversation per visitor and widget" does not rest on the engine alone.
CREATE UNIQUE INDEX conversation_open ON conversation (site_id, widget, visitor) WHERE status <> 2;
-- Lists by state, newest first (ids sort by time); the queue is short enough to sort.
CREATE INDEX conversation_by_status ON conversation (site_id, status, id);
CREATE INDEX conversation_by_agent ON conversation (agent, status, id) WHERE agent IS NOT NULL;
CREATE INDEX conversation_by_visitor ON conversation (visitor, id);

CREATE TABLE message (
    conversation BLOB    NOT NULL CHECK (length(conversation) = 16),
    seq          INTEGER NOT NULL,   -- 1, 2, 3 … without a hole
    site_id      INTEGER NOT NULL,
    at_us        INTEGER NOT NULL,
    sender_role  INTEGER NOT NULL,
    sender       BLOB,               -- NULL = Tidegate itself
    session      INTEGER NOT NULL,   -- first half of the message's id; 0 = has none
    n            INTEGER NOT NULL,   -- second half
    body_hash    INTEGER NOT NULL,   -- the same id with another hash is a conflict
    content      INTEGER NOT NULL,   -- 0 text, 1 system
    system       INTEGER NOT NULL,
    close_reason INTEGER NOT NULL,
    sender_name  TEXT    NOT NULL,   -- as it was then: a later change of name does not rewrite history
    text         TEXT    NOT NULL,
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;

-- There is no index by message id: it would cost as much as the messages do (a page more per message; 40 % of the
-- processor time of a commit). A session's `last` may only grow, so an id is used once; the first answer to an old
-- repeat is found by walking back from `last`.

-- `last` of each session that ever sent.
CREATE TABLE session (
    principal         BLOB    NOT NULL CHECK (length(principal) = 16),
    session           INTEGER NOT NULL,
    site_id           INTEGER NOT NULL,
    last_n            INTEGER NOT NULL,
    last_hash         INTEGER NOT NULL,
    last_conversation BLOB    NOT NULL,
    last_seq          INTEGER NOT NULL,
    last_at_us        INTEGER NOT NULL,
    PRIMARY KEY (principal, session)
) STRICT, WITHOUT ROWID;

-- Max-registers: a write never lowers one. Beside `conversation`, because they change with every acknowledgement.
CREATE TABLE marks (
    conversation      BLOB    PRIMARY KEY CHECK (length(conversation) = 16),
    site_id           INTEGER NOT NULL,
    visitor_delivered INTEGER NOT NULL,
    visitor_read      INTEGER NOT NULL,
    agent_delivered   INTEGER NOT NULL,
    agent_read        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- REST's half of the delivery contract: what a key was answered first.
CREATE TABLE idempotency_key (
    principal    BLOB    NOT NULL CHECK (length(principal) = 16),
    key_hash     BLOB    NOT NULL CHECK (length(key_hash) = 16),   -- of SHA-256 of the header's value
    site_id      INTEGER NOT NULL,
    body_hash    INTEGER NOT NULL,
    conversation BLOB    NOT NULL,
    seq          INTEGER NOT NULL,
    at_us        INTEGER NOT NULL,
    PRIMARY KEY (principal, key_hash)
) STRICT, WITHOUT ROWID;

-- How far each gateway's ring was applied; written in the transaction of what was applied.
CREATE TABLE ring_cursor (
    gateway  INTEGER NOT NULL,   -- instance id of the gateway's process
    shard    INTEGER NOT NULL,
    position INTEGER NOT NULL,   -- behind the last record applied
    PRIMARY KEY (gateway, shard)
) STRICT, WITHOUT ROWID;

-- Inputs that failed twice: for a person to look at, never applied again.
CREATE TABLE quarantine (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16),   -- the reference that the client was given
    site_id    INTEGER NOT NULL,
    at_us      INTEGER NOT NULL,
    gateway    INTEGER NOT NULL,   -- 0 = HTTP or a timer
    shard      INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    principal  BLOB    NOT NULL,
    error      TEXT    NOT NULL,
    input_json TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- What webhooks and other nodes have to be told, in the order of its ids; committed with the turn that caused it.
CREATE TABLE outbox (
    id           BLOB    PRIMARY KEY CHECK (length(id) = 16),
    site_id      INTEGER NOT NULL,
    at_us        INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    conversation BLOB    NOT NULL,
    payload_json TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
