-- Long texts stand apart from their rows. A row of `message` that does not fit into a page's cell spills into overflow
-- pages, and SQLite reads the whole of it whenever a search compares with it: every message that is written and every
-- conversation that is looked up paid for its neighbours' texts.

-- In the order in which they came, so that neighbours in time share pages. The id is this file's own affair: nobody
-- outside the store ever sees it.
CREATE TABLE long_text (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

-- NULL: the text stands in `text`, as all did before. Otherwise it stands there, and `text` is empty.
ALTER TABLE message ADD COLUMN long_text INTEGER;

-- Messages with their texts, wherever they stand.
CREATE VIEW whole_message AS
    SELECT conversation, seq, site_id, at_us, sender_role, sender, session, n, body_hash, content, system, close_reason,
        sender_name,
        coalesce((SELECT long_text.text FROM long_text WHERE long_text.id = message.long_text), message.text) AS text
    FROM message;
