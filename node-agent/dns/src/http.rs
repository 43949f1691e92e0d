//! Health, readiness and figures, for this machine.

use crate::handler::Handler;
use crate::view::Source;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(30);

fn page(path: &str, handler: &Handler) -> (StatusCode, String) {
    let source = match handler.view.source() {
        Source::Nothing => "nothing",
        Source::Snapshot => "snapshot",
        Source::Api => "api",
    };
    match path {
        "/healthz" | "/livez" => (StatusCode::OK, "ok".to_owned()),
        "/readyz" if source == "nothing" => {
            let why = "names of Services are not known yet: the API server has not answered";
            (StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
        }
        "/readyz" => (StatusCode::OK, "ok".to_owned()),
        "/metrics" => (StatusCode::OK, handler.metrics.render(source, handler.forwarder.kept())),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    }
}

/// Serves, for as long as the process lives.
pub(crate) async fn serve(listener: TcpListener, handler: Arc<Handler>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: Request<Incoming>| {
                let (status, text) = page(request.uri().path(), &handler);
                let mut answer = Response::new(Full::new(Bytes::from(text)));
                *answer.status_mut() = status;
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = timeout(PATIENCE, connection).await;
        });
    }
}
