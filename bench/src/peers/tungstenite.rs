//! tokio-tungstenite with a read buffer of 4 KB: with its default of 128 KB it clears and copies far more than it reads.

use std::net::TcpListener;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const READ_BUFFER_BYTES: usize = 4 << 10;

pub(super) fn run(listener: TcpListener) -> Result<()> {
    super::on_one_thread(listener, |listener| async move {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A client that went away ends its own connection only.
                let _ = reflect(stream).await;
            });
        }
    })
}

async fn reflect(stream: TcpStream) -> Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
