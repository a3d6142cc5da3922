//! The admin executor: it serves metrics and health on the admin address until the process drains.

use std::cell::Cell;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};

use crate::counters::{Published, prometheus};
use crate::run::{Handle, Metrics};

/// Longest request on the admin address, bytes.
const REQUEST_BYTES_MAX: usize = 4 << 10;
/// A request must be there, and its answer taken, within so long.
const REQUEST_MS_MAX: u64 = 5_000;
/// Requests at once; more are closed unanswered.
const REQUESTS_MAX: usize = 64;

/// What the executor needs.
pub(crate) struct Admin {
    pub listener: Option<OwnedFd>,
    pub woken: OwnedFd,
    pub published: Vec<Arc<Published>>,
    pub metrics: Option<Metrics>,
    pub handle: Handle,
}

/// Runs until the process drains.
pub(crate) async fn serve(admin: Admin) {
    let Admin {
        listener,
        woken,
        published,
        metrics,
        handle,
    } = admin;
    if let Some(listener) = listener {
        let pages = Rc::new(Pages { published, metrics });
        glommio::spawn_local(accept(stream_listener(listener), pages)).detach();
    }
    let mut woken = stream(woken);
    let mut byte = [0; 16];
    while !handle.is_draining() {
        // Each wish is one byte; an error means that nobody can wish any more.
        if !matches!(woken.read(&mut byte).await, Ok(1..)) {
            break;
        }
    }
}

#[expect(unsafe_code, reason = "glommio takes descriptors by number")]
fn stream_listener(listener: OwnedFd) -> TcpListener {
    // SAFETY: the descriptor is a listening socket and is handed over.
    unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) }
}

#[expect(unsafe_code, reason = "glommio takes descriptors by number")]
fn stream(socket: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is a stream socket and is handed over; glommio reads any with recv.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

struct Pages {
    published: Vec<Arc<Published>>,
    metrics: Option<Metrics>,
}

async fn accept(listener: TcpListener, pages: Rc<Pages>) {
    let busy = Rc::new(Cell::new(0_usize));
    loop {
        let Ok(stream) = listener.accept().await else {
            // Out of descriptors: connections wait in the backlog meanwhile.
            glommio::timer::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if busy.get() >= REQUESTS_MAX {
            continue;
        }
        busy.set(busy.get() + 1);
        let (pages, busy) = (Rc::clone(&pages), Rc::clone(&busy));
        glommio::spawn_local(async move {
            let answered = async move {
                answer(stream, &pages).await;
                Ok(())
            };
            let _ =
                glommio::timer::timeout::<_, ()>(Duration::from_millis(REQUEST_MS_MAX), answered)
                    .await;
            busy.set(busy.get() - 1);
        })
        .detach();
    }
}

async fn answer(mut stream: TcpStream, pages: &Pages) {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) if request.len() + count <= REQUEST_BYTES_MAX => {
                request.extend_from_slice(&piece[..count]);
            }
            _ => return,
        }
    }
    let response = pages.response(&request);
    let _ = stream.write_all(&response).await;
    let _ = stream.shutdown(std::net::Shutdown::Write).await;
}

impl Pages {
    fn response(&self, request: &[u8]) -> Vec<u8> {
        let line = request.split(|&byte| byte == b'\r').next().unwrap_or(&[]);
        let mut words = line.split(|&byte| byte == b' ');
        let (method, path) = (words.next().unwrap_or(&[]), words.next().unwrap_or(&[]));
        let (status, body) = match (method, path) {
            (b"GET", b"/metrics") => ("200 OK", self.metrics()),
            (b"GET", b"/healthz") => ("200 OK", "ok\n".to_owned()),
            (b"GET", _) => (
                "404 Not Found",
                "here are /metrics and /healthz\n".to_owned(),
            ),
            _ => ("405 Method Not Allowed", "ask with GET\n".to_owned()),
        };
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    fn metrics(&self) -> String {
        let counts: Vec<_> = self.published.iter().map(|shard| shard.counts()).collect();
        let mut text = String::new();
        prometheus(&counts, &mut text);
        if let Some(metrics) = &self.metrics {
            metrics(&mut text);
        }
        text
    }
}
