-- The loss ledger: what became of every accepted text, per message and recipient.

-- The figures as of the commit that wrote the row last; every commit that moves them writes it. `tidegate ledger
-- --recount` derives the same from the rows of the other tables, in one read transaction.
CREATE TABLE ledger (
    site_id              INTEGER PRIMARY KEY,
    at_us                INTEGER NOT NULL,   -- the turn that wrote it
    accepted_to_agent    INTEGER NOT NULL,   -- texts that visitors wrote
    delivered_to_agent   INTEGER NOT NULL,
    pending_to_agent     INTEGER NOT NULL,
    expired_to_agent     INTEGER NOT NULL,
    accepted_to_visitor  INTEGER NOT NULL,   -- texts that agents wrote
    delivered_to_visitor INTEGER NOT NULL,
    pending_to_visitor   INTEGER NOT NULL,
    expired_to_visitor   INTEGER NOT NULL
) STRICT;

-- What retention removed of a conversation, so that the ledger stays closed, seqs go on, and readers are told where
-- history begins. Written in the transaction that removes the messages.
CREATE TABLE erased (
    conversation         BLOB    PRIMARY KEY CHECK (length(conversation) = 16),
    site_id              INTEGER NOT NULL,
    seq                  INTEGER NOT NULL,   -- messages up to here are gone
    sent_by_sessions     INTEGER NOT NULL,   -- texts among them whose id was (session, n); the others came over REST
    delivered_to_agent   INTEGER NOT NULL,   -- texts among them at or below the agent side's delivered mark
    expired_to_agent     INTEGER NOT NULL,   -- texts to the agent's side above it
    delivered_to_visitor INTEGER NOT NULL,
    expired_to_visitor   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
