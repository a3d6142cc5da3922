-- Canned replies: what an agent gets by typing `/` and a shortcut.

CREATE TABLE canned_reply (
    id       BLOB    PRIMARY KEY CHECK (length(id) = 16),
    site_id  INTEGER NOT NULL,
    agent    BLOB    CHECK (agent IS NULL OR length(agent) = 16),   -- NULL = everybody's
    shortcut TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    deleted  INTEGER NOT NULL   -- 1 = removed; the row stays, so that a merge of two sites does not bring it back
) STRICT, WITHOUT ROWID;
