//! Logs as messages of a WebSocket, for clients that ask for one: an empty message first, then what is logged as it comes.

use crate::hooks::{Body, full};
use base64::Engine;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use skep_api::{Reason, Status};
use skep_streams::upgrade::{is_websocket, offered};
use skep_streams::websocket::{self, Handshake, Message, Socket};
use std::borrow::Cow;

/// Sub-protocols, and whether their messages are base64 text.
const PROTOCOLS: [(&str, bool); 2] = [("binary.k8s.io", false), ("base64.binary.k8s.io", true)];

/// The answer as the client asks for it.
pub(super) fn answer(mut request: Request<Body>, log: Response<Body>) -> Result<Response<Body>, Status> {
    if !is_websocket(request.headers()) {
        return Ok(log);
    }
    let offers = offered(request.headers());
    let chosen = PROTOCOLS.into_iter().find(|(name, _)| offers.contains(name));
    if chosen.is_none() && !offers.is_empty() {
        let why = format!("requested protocol(s) are not supported: {}", offers.join(", "));
        return Err(Status::new(Reason::Forbidden, why));
    }
    let handshake = Handshake::new(&mut request, chosen.map(|(name, _)| name))
        .ok_or_else(|| Status::bad_request("the WebSocket handshake is not whole"))?;
    let mut switching = Response::new(full(Bytes::new()));
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    switching.headers_mut().clone_from(handshake.headers());
    let text = chosen.is_some_and(|(_, text)| text);
    tokio::spawn(async move {
        match handshake.socket().await {
            Ok(socket) => send(socket, log.into_body(), text).await,
            Err(why) => tracing::debug!(%why, "an upgrade failed"),
        }
    });
    Ok(switching)
}

/// Sends a body until its end, or until the client has gone.
async fn send(socket: Socket, mut log: Body, text: bool) {
    let message = |bytes: Bytes| {
        if text {
            Message::text(base64::engine::general_purpose::STANDARD.encode(&bytes))
        } else {
            Message::Binary(bytes)
        }
    };
    let (mut sink, mut source) = socket.split();
    let there = async {
        sink.send(message(Bytes::new())).await.map_err(|why| Cow::Owned(why.to_string()))?;
        while let Some(frame) = log.frame().await {
            let frame = frame.map_err(|why| Cow::Owned(why.to_string()))?;
            let Ok(bytes) = frame.into_data() else { continue };
            sink.send(message(bytes)).await.map_err(|why| Cow::Owned(why.to_string()))?;
        }
        Ok::<(), Cow<'_, str>>(())
    };
    let gone = async { while let Some(Ok(_)) = source.next().await {} };
    let ended = tokio::select! {
        ended = there => ended,
        () = gone => Err(Cow::Borrowed("the client has gone")),
    };
    if let Err(why) = ended {
        tracing::debug!(%why, "a log was not sent to its end");
    }
    if let Ok(socket) = sink.reunite(source) {
        websocket::end(socket).await;
    }
}
