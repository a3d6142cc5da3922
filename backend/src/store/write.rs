//! A [`WriteSet`] as statements, in the order of its fields. Each is prepared once and cached; SQLite is told
//! "insert" where a repeat would be a bug, so that a broken promise of the engine fails the commit.

use rusqlite::{Connection, Error, Result, params};

use super::rows::blob;
use crate::engine::write_set::WriteSet;

/// A row with a text of so many bytes would come near the 1,002 that a cell of a page of 4 KiB holds: from here on
/// texts go to `long_text`. Most of what people type has less.
const LONG_TEXT_BYTES_MIN: usize = 640;

/// Runs everything; the caller has begun a transaction and commits it.
pub fn write(connection: &Connection, owner_epoch: u64, set: &WriteSet) -> Result<()> {
    settings(connection, set)?;
    people(connection, set)?;
    conversations(connection, owner_epoch, set)?;
    messages(connection, set)?;
    erasures(connection, set)?;
    removals(connection, set)?;
    delivery(connection, set)?;
    bookkeeping(connection, set)
}

fn settings(connection: &Connection, set: &WriteSet) -> Result<()> {
    if !set.meta.is_empty() {
        let mut statement = connection
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?;
        for row in &set.meta {
            statement.execute(params![row.key, row.value.cast_signed()])?;
        }
    }
    if !set.widgets.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO widget (site_id, id, key, name, greeting, accent, allowed_origins, settings_json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (site_id, id) DO UPDATE SET key = excluded.key, name = excluded.name,
                 greeting = excluded.greeting, accent = excluded.accent,
                 allowed_origins = excluded.allowed_origins, settings_json = excluded.settings_json",
        )?;
        for row in &set.widgets {
            let origins = serde_json::Value::from(row.allowed_origins.as_slice()).to_string();
            statement.execute(params![
                row.site_id,
                row.id,
                row.key,
                row.name,
                row.greeting,
                row.accent,
                origins,
                row.settings_json
            ])?;
        }
    }
    if !set.canned_replies.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO canned_reply (id, site_id, agent, shortcut, text, deleted) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET shortcut = excluded.shortcut, text = excluded.text,
                 deleted = excluded.deleted",
        )?;
        for row in &set.canned_replies {
            statement.execute(params![
                blob(row.id),
                row.site_id,
                row.agent.map(blob),
                row.shortcut,
                row.text,
                row.deleted
            ])?;
        }
    }
    Ok(())
}

fn people(connection: &Connection, set: &WriteSet) -> Result<()> {
    if !set.agents.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO agent (id, site_id, login, name, role, capacity, disabled, password_hash,
                 tokens_valid_from_s, created_at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET login = excluded.login, name = excluded.name, role = excluded.role,
                 capacity = excluded.capacity, disabled = excluded.disabled, password_hash = excluded.password_hash,
                 tokens_valid_from_s = excluded.tokens_valid_from_s",
        )?;
        for row in &set.agents {
            statement.execute(params![
                blob(row.id),
                row.site_id,
                row.login,
                row.name,
                row.role.code(),
                row.capacity,
                row.disabled,
                row.password_hash,
                row.tokens_valid_from_s.cast_signed(),
                row.created_at_us.cast_signed()
            ])?;
        }
    }
    if !set.agent_statuses.is_empty() {
        // Last writer wins by (hlc, node), whatever the order of arrival.
        let mut statement = connection.prepare_cached(
            "INSERT INTO agent_status (agent, site_id, status, hlc, node) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (agent) DO UPDATE SET status = excluded.status, hlc = excluded.hlc, node = excluded.node
             WHERE (excluded.hlc, excluded.node) > (agent_status.hlc, agent_status.node)",
        )?;
        for row in &set.agent_statuses {
            statement.execute(params![
                blob(row.agent),
                row.site_id,
                row.status.code(),
                row.hlc.cast_signed(),
                row.node
            ])?;
        }
    }
    if !set.visitors.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO visitor (id, site_id, widget, name, created_at_us, locale, family)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, locale = excluded.locale, family = excluded.family",
        )?;
        for row in &set.visitors {
            statement.execute(params![
                blob(row.id),
                row.site_id,
                row.widget,
                row.name,
                row.created_at_us.cast_signed(),
                row.locale,
                row.family
            ])?;
        }
    }
    Ok(())
}

fn conversations(connection: &Connection, owner_epoch: u64, set: &WriteSet) -> Result<()> {
    if set.conversations.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO conversation (id, site_id, owner_epoch, widget, visitor, status, close_reason, agent,
             opened_at_us, assigned_at_us, first_assigned_at_us, closed_at_us, queue_order, page, synthetic)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (id) DO UPDATE SET owner_epoch = excluded.owner_epoch, status = excluded.status,
             close_reason = excluded.close_reason, agent = excluded.agent, assigned_at_us = excluded.assigned_at_us,
             first_assigned_at_us = excluded.first_assigned_at_us, closed_at_us = excluded.closed_at_us,
             queue_order = excluded.queue_order, page = excluded.page",
    )?;
    for row in &set.conversations {
        statement.execute(params![
            blob(row.id),
            row.site_id,
            owner_epoch.cast_signed(),
            row.widget,
            blob(row.visitor),
            row.status.code(),
            row.close_reason.code(),
            row.agent.map(blob),
            row.opened_at_us.cast_signed(),
            row.assigned_at_us.cast_signed(),
            row.first_assigned_at_us.cast_signed(),
            row.closed_at_us.cast_signed(),
            row.queue_order,
            row.page,
            row.synthetic
        ])?;
    }
    Ok(())
}

fn messages(connection: &Connection, set: &WriteSet) -> Result<()> {
    if set.messages.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO message (conversation, seq, site_id, at_us, sender_role, sender, session, n, body_hash, content,
             system, close_reason, sender_name, text, long_text)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    for row in &set.messages {
        let text = set.text(row.text);
        let (text, long_text) = if text.len() < LONG_TEXT_BYTES_MIN {
            (text, None)
        } else {
            connection
                .prepare_cached("INSERT INTO long_text (text) VALUES (?1)")?
                .execute([text])?;
            ("", Some(connection.last_insert_rowid()))
        };
        statement.execute(params![
            blob(row.conversation),
            row.seq.cast_signed(),
            row.site_id,
            row.at_us.cast_signed(),
            row.sender_role.code(),
            row.sender.map(blob),
            row.session.cast_signed(),
            row.n.cast_signed(),
            row.body_hash.cast_signed(),
            row.content.code(),
            row.system.code(),
            row.close_reason.code(),
            set.text(row.sender_name),
            text,
            long_text
        ])?;
    }
    Ok(())
}

fn erasures(connection: &Connection, set: &WriteSet) -> Result<()> {
    if set.erasures.is_empty() {
        return Ok(());
    }
    let mut remove_texts = connection.prepare_cached(
        "DELETE FROM long_text WHERE id IN (
             SELECT long_text FROM message WHERE conversation = ?1 AND seq <= ?2 AND long_text IS NOT NULL)",
    )?;
    let mut remove =
        connection.prepare_cached("DELETE FROM message WHERE conversation = ?1 AND seq <= ?2")?;
    let mut keep = connection.prepare_cached(
        "INSERT INTO erased (conversation, site_id, seq, sent_by_sessions, delivered_to_agent, expired_to_agent,
             delivered_to_visitor, expired_to_visitor)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (conversation) DO UPDATE SET seq = excluded.seq,
             sent_by_sessions = sent_by_sessions + excluded.sent_by_sessions,
             delivered_to_agent = delivered_to_agent + excluded.delivered_to_agent,
             expired_to_agent = expired_to_agent + excluded.expired_to_agent,
             delivered_to_visitor = delivered_to_visitor + excluded.delivered_to_visitor,
             expired_to_visitor = expired_to_visitor + excluded.expired_to_visitor",
    )?;
    for row in &set.erasures {
        remove_texts.execute(params![blob(row.conversation), row.seq.cast_signed()])?;
        let removed = remove.execute(params![blob(row.conversation), row.seq.cast_signed()])?;
        if removed as u64 != row.rows {
            // The ledger was moved by what was counted: nothing else may go.
            return Err(Error::StatementChangedRows(removed));
        }
        keep.execute(params![
            blob(row.conversation),
            row.site_id,
            row.seq.cast_signed(),
            row.sent_by_sessions.cast_signed(),
            row.delivered.to_agent.cast_signed(),
            row.expired.to_agent.cast_signed(),
            row.delivered.to_visitor.cast_signed(),
            row.expired.to_visitor.cast_signed()
        ])?;
    }
    Ok(())
}

fn delivery(connection: &Connection, set: &WriteSet) -> Result<()> {
    if !set.sessions.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO session (principal, session, site_id, last_n, last_hash, last_conversation, last_seq,
                 last_at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (principal, session) DO UPDATE SET last_n = excluded.last_n, last_hash = excluded.last_hash,
                 last_conversation = excluded.last_conversation, last_seq = excluded.last_seq,
                 last_at_us = excluded.last_at_us
             WHERE excluded.last_n > session.last_n",
        )?;
        for row in &set.sessions {
            let changed = statement.execute(params![
                blob(row.principal),
                row.session.cast_signed(),
                row.site_id,
                row.last_n.cast_signed(),
                row.last_hash.cast_signed(),
                blob(row.last_conversation),
                row.last_seq.cast_signed(),
                row.last_at_us.cast_signed()
            ])?;
            if changed != 1 {
                // `last` only grows: an n accepted twice ends here, whatever the engine believed.
                return Err(Error::StatementChangedRows(changed));
            }
        }
    }
    if !set.keys_gone.is_empty() {
        let mut statement = connection
            .prepare_cached("DELETE FROM idempotency_key WHERE principal = ?1 AND key_hash = ?2")?;
        for (principal, key_hash) in &set.keys_gone {
            statement.execute(params![blob(*principal), key_hash.to_be_bytes()])?;
        }
    }
    if !set.idempotency_keys.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO idempotency_key (principal, key_hash, site_id, body_hash, conversation, seq, at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for row in &set.idempotency_keys {
            statement.execute(params![
                blob(row.principal),
                row.key_hash.to_be_bytes(),
                row.site_id,
                row.body_hash.cast_signed(),
                blob(row.conversation),
                row.seq.cast_signed(),
                row.at_us.cast_signed()
            ])?;
        }
    }
    if !set.marks.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO marks (conversation, site_id, visitor_delivered, visitor_read, agent_delivered, agent_read)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (conversation) DO UPDATE SET
                 visitor_delivered = max(visitor_delivered, excluded.visitor_delivered),
                 visitor_read = max(visitor_read, excluded.visitor_read),
                 agent_delivered = max(agent_delivered, excluded.agent_delivered),
                 agent_read = max(agent_read, excluded.agent_read)",
        )?;
        for row in &set.marks {
            statement.execute(params![
                blob(row.conversation),
                row.site_id,
                row.visitor_delivered.cast_signed(),
                row.visitor_read.cast_signed(),
                row.agent_delivered.cast_signed(),
                row.agent_read.cast_signed()
            ])?;
        }
    }
    if let Some(row) = &set.ledger {
        let (to_agent, to_visitor) = (&row.ledger.to_agent, &row.ledger.to_visitor);
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO ledger (site_id, at_us,
                     accepted_to_agent, delivered_to_agent, pending_to_agent, expired_to_agent,
                     accepted_to_visitor, delivered_to_visitor, pending_to_visitor, expired_to_visitor)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                row.site_id,
                row.at_us.cast_signed(),
                to_agent.accepted.cast_signed(),
                to_agent.delivered.cast_signed(),
                to_agent.pending.cast_signed(),
                to_agent.expired.cast_signed(),
                to_visitor.accepted.cast_signed(),
                to_visitor.delivered.cast_signed(),
                to_visitor.pending.cast_signed(),
                to_visitor.expired.cast_signed()
            ])?;
    }
    Ok(())
}

/// Whole rows of the load generator's people.
fn removals(connection: &Connection, set: &WriteSet) -> Result<()> {
    let remove = |sql: &str, ids: &[tidegate_protocol::Id]| {
        if ids.is_empty() {
            return Ok(());
        }
        let mut statement = connection.prepare_cached(sql)?;
        for id in ids {
            statement.execute([blob(*id)])?;
        }
        Ok(())
    };
    remove(
        "DELETE FROM marks WHERE conversation = ?1",
        &set.conversations_gone,
    )?;
    remove(
        "DELETE FROM conversation WHERE id = ?1",
        &set.conversations_gone,
    )?;
    remove("DELETE FROM visitor WHERE id = ?1", &set.visitors_gone)?;
    remove(
        "DELETE FROM agent_status WHERE agent = ?1",
        &set.agents_gone,
    )?;
    remove("DELETE FROM agent WHERE id = ?1", &set.agents_gone)
}

fn bookkeeping(connection: &Connection, set: &WriteSet) -> Result<()> {
    if !set.outbox.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO outbox (id, site_id, at_us, kind, conversation, payload_json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for row in &set.outbox {
            statement.execute(params![
                blob(row.id),
                row.site_id,
                row.at_us.cast_signed(),
                row.kind,
                blob(row.conversation),
                row.payload_json
            ])?;
        }
    }
    if !set.quarantine.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT OR REPLACE INTO quarantine (id, site_id, at_us, gateway, shard, position, principal, error,
                 input_json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for row in &set.quarantine {
            statement.execute(params![
                blob(row.id),
                row.site_id,
                row.at_us.cast_signed(),
                row.gateway.cast_signed(),
                row.shard,
                row.position.cast_signed(),
                blob(row.principal),
                row.error,
                row.input_json
            ])?;
        }
    }
    if !set.ring_cursors.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT OR REPLACE INTO ring_cursor (gateway, shard, position) VALUES (?1, ?2, ?3)",
        )?;
        for row in &set.ring_cursors {
            statement.execute(params![
                row.gateway.cast_signed(),
                row.shard,
                row.position.cast_signed()
            ])?;
        }
    }
    if !set.gateways_gone.is_empty() {
        let mut statement =
            connection.prepare_cached("DELETE FROM ring_cursor WHERE gateway = ?1")?;
        for gateway in &set.gateways_gone {
            statement.execute([gateway.cast_signed()])?;
        }
    }
    Ok(())
}
