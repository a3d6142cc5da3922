//! fastwebsockets on tokio, its handshake by hyper, as its own documentation shows it.

use std::net::TcpListener;

use anyhow::Result;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

pub(super) fn run(listener: TcpListener) -> Result<()> {
    super::on_one_thread(listener, |listener| async move {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .with_upgrades();
                // A client that went away ends its own connection only.
                let _ = connection.await;
            });
        }
    })
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    // Without tokio's budget per task: its authors measure it so.
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = reflect(upgraded).await;
    }));
    Ok(response)
}

async fn reflect(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
