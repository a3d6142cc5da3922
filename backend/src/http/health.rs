//! `/healthz`, `/readyz`, `/metrics`, `/api/openapi.json`.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{HttpState, json};
use crate::admission::AdmissionView;
use crate::engine::kinds::Reason;
use crate::turn::tally::WorkerView;
use crate::turn::timing::Quantiles;

/// The description of every route, by hand: a test holds it against the router.
pub const OPENAPI: &str = include_str!("openapi.json");

/// `GET /healthz`: this process answers.
pub async fn healthz() -> Response {
    "ok\n".into_response()
}

/// `GET /readyz`: the turn takes commands and the store commits.
pub async fn readyz(State(state): State<Arc<HttpState>>) -> Result<Response, Problem> {
    if state.turn.live().ready {
        Ok("ready\n".into_response())
    } else {
        Err(Problem::busy(
            "the turn is starting, stopping, or cannot commit",
            1_000,
        ))
    }
}

/// `GET /api/openapi.json`.
pub async fn openapi() -> Response {
    json::bytes_response(OPENAPI.as_bytes().to_vec(), "application/json")
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(
            self.0,
            "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "tidegate_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn quantiles(&mut self, name: &str, help: &str, of: &Quantiles) {
        self.family(name, "summary", help);
        for (quantile, value) in [
            ("0.5", of.p50_us),
            ("0.99", of.p99_us),
            ("0.999", of.p999_us),
            ("0.9999", of.p9999_us),
            ("1", of.max_us),
        ] {
            self.sample(name, &format!("{{quantile=\"{quantile}\"}}"), value);
        }
        self.sample(&format!("{name}_count"), "", of.count);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }
}

/// `GET /metrics`: Prometheus text.
pub async fn metrics(State(state): State<Arc<HttpState>>) -> Response {
    let mut text = Text(String::with_capacity(8 * 1024));
    live(&mut text, &state);
    process(&mut text, &state);
    json::bytes_response(
        text.0.into_bytes(),
        "text/plain; version=0.0.4; charset=utf-8",
    )
}

fn live(text: &mut Text, state: &HttpState) {
    let live = state.turn.live();
    text.gauge(
        "ready",
        "1 while the turn takes commands",
        u8::from(live.ready),
    );
    text.gauge(
        "agents_online",
        "agents who are given conversations",
        live.agents_online,
    );
    text.gauge(
        "conversations_waiting",
        "conversations in the queue",
        live.waiting,
    );
    text.gauge(
        "conversations_chatting",
        "conversations that an agent has",
        live.chatting,
    );
    text.gauge(
        "queue_longest_wait_ms",
        "how long the head of the queue has waited",
        live.longest_wait_ms,
    );
    text.gauge(
        "answer_ms",
        "median time to an agent's first answer",
        live.answer_ms,
    );
    text.family("connections", "gauge", "live connections by role");
    text.sample("connections", "{role=\"visitor\"}", live.visitors_connected);
    text.sample("connections", "{role=\"agent\"}", live.agents_connected);
    text.gauge("gateways", "gateways attached", live.gateways);
    admission(text, &live.admission);
    let ledger = &live.ledger;
    text.family(
        "ledger_messages",
        "gauge",
        "texts by recipient, as of the last commit: accepted = delivered + pending + expired",
    );
    for (to, account) in [("agent", &ledger.to_agent), ("visitor", &ledger.to_visitor)] {
        for (state, value) in [
            ("accepted", account.accepted),
            ("delivered", account.delivered),
            ("pending", account.pending),
            ("expired", account.expired),
        ] {
            let labels = format!("{{to=\"{to}\",state=\"{state}\"}}");
            text.sample("ledger_messages", &labels, value);
        }
    }
    let times = &live.times;
    for (name, help, of) in [
        (
            "turn_us",
            "turns, take to release, since the start",
            times.turn,
        ),
        (
            "chat_us",
            "accepted texts, from the beginning of their turn until they were published, since the start",
            times.chat,
        ),
    ] {
        text.quantiles(name, help, &of);
    }
    workers(text, &live.workers);
    let counters = serde_json::to_value(&live.counters).unwrap_or_default();
    for (name, value) in counters.as_object().into_iter().flatten() {
        let name = format!("{name}_total");
        text.family(&name, "counter", "since the process started");
        match value {
            serde_json::Value::Object(by_label) => {
                for (label, value) in by_label {
                    text.sample(&name, &format!("{{reason=\"{label}\"}}"), value);
                }
            }
            value => text.sample(&name, "", value),
        }
    }
}

fn workers(text: &mut Text, workers: &[WorkerView]) {
    type Figure = fn(&WorkerView) -> u64;
    let figures: [(&str, &str, &str, Figure); 5] = [
        (
            "worker_present",
            "gauge",
            "1 while a worker of this kind has its seat",
            |worker| u64::from(worker.present),
        ),
        (
            "worker_asked_total",
            "counter",
            "questions asked since the process started",
            |worker| worker.tally.asked,
        ),
        (
            "worker_answered_total",
            "counter",
            "of these, answered in time",
            |worker| worker.tally.answered,
        ),
        (
            "worker_defaulted_total",
            "counter",
            "what got the default: not answered in time, or nobody could be asked",
            |worker| worker.tally.defaulted,
        ),
        (
            "worker_late_total",
            "counter",
            "answers that came too late or to no question",
            |worker| worker.tally.late,
        ),
    ];
    if workers.is_empty() {
        return;
    }
    for (name, kind, help, figure) in figures {
        text.family(name, kind, help);
        for worker in workers {
            let labels = format!("{{worker=\"{}\"}}", worker.name);
            text.sample(name, &labels, figure(worker));
        }
    }
}

fn admission(text: &mut Text, admission: &AdmissionView) {
    text.gauge(
        "admission_waiting",
        "tickets past the frontier: visitors in the gateways' waiting rooms, and those of them who left",
        admission.waiting,
    );
    text.gauge(
        "admission_per_1000_s",
        "visitors let in, a thousand seconds, as of the last seconds",
        admission.per_1000_s,
    );
    text.gauge(
        "admission_pace_percent",
        "what the backend's lag leaves of the operator's rate",
        admission.pace_percent,
    );
    text.counter(
        "admission_tickets_total",
        "admission tickets given out on this bus",
        admission.tickets,
    );
    text.counter(
        "admitted_total",
        "new visitors let in since the process started",
        admission.admitted,
    );
    text.counter(
        "admission_passed_over_total",
        "tickets that nobody came with, since the process started",
        admission.passed_over,
    );
}

fn process(text: &mut Text, state: &HttpState) {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let readers = state.readers.counters();
    text.counter("reads_total", "reads beside the turn", load(&readers.reads));
    text.counter(
        "reads_refused_total",
        "reads refused because too many waited",
        load(&readers.refused),
    );
    text.counter(
        "reads_failed_total",
        "reads that failed",
        load(&readers.failed),
    );
    text.gauge(
        "database_memory_bytes",
        "memory of the database library: its caches fill up to their bounds",
        crate::store::open::library_bytes(),
    );
    if let Some(checkpoints) = &state.checkpoints {
        text.gauge(
            "wal_bytes",
            "bytes in the write-ahead log at the last look",
            load(&checkpoints.wal_bytes),
        );
        text.counter(
            "checkpoints_total",
            "checkpoints",
            load(&checkpoints.checkpoints),
        );
        text.counter(
            "wal_emptied_total",
            "times that the log was at its bound",
            load(&checkpoints.emptied),
        );
        text.counter(
            "wal_emptied_us_total",
            "microseconds for which commits had to wait for that, at most",
            load(&checkpoints.emptied_us),
        );
        text.counter(
            "wal_held_total",
            "times that a reader that stays (a backup) kept the log at its bound",
            load(&checkpoints.held),
        );
        text.counter(
            "checkpoints_failed_total",
            "checkpoints that failed",
            load(&checkpoints.failed),
        );
    }
    let http = &state.counters;
    text.family(
        "http_responses_total",
        "counter",
        "responses by class of status",
    );
    for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"]
        .iter()
        .zip(&http.responses)
    {
        text.sample(
            "http_responses_total",
            &format!("{{class=\"{class}\"}}"),
            load(counter),
        );
    }
    text.family(
        "http_refused_total",
        "counter",
        "problems answered, by reason; those of the engine are in refused_total too",
    );
    for reason in Reason::ALL {
        let count = load(&http.refused[usize::from(reason.code())]);
        if count > 0 {
            let labels = format!("{{reason=\"{}\"}}", reason.name());
            text.sample("http_refused_total", &labels, count);
        }
    }
    text.gauge(
        "http_connections",
        "HTTP connections now",
        load(&http.connections),
    );
    text.counter(
        "http_timeouts_total",
        "requests that took too long",
        load(&http.timeouts),
    );
    text.counter(
        "http_rate_limited_total",
        "requests refused for coming too often",
        load(&http.rate_limited),
    );
    text.counter(
        "logins_refused_total",
        "logins with a wrong user or password",
        load(&http.logins_refused),
    );
}
