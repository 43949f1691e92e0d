//! Keeps room in the table of connections, and tells sockets whose endpoint is gone.

use crate::board::{Board, Subject};
use crate::plane::Plane;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Takes out, for as long as the agent lives, what has had its time.
pub(crate) async fn sweep(plane: Plane, board: Board) {
    loop {
        let p = plane.clone();
        let swept = tokio::task::spawn_blocking(move || p.0.sweep_connections()).await;
        let pause = match swept.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
            Ok(swept) => {
                if swept.removed > 0 {
                    tracing::debug!(?swept, "connections had their time");
                }
                board.note(Subject::Connections, vec![]);
                swept.pause
            }
            Err(error) => {
                tracing::warn!(error, "the table of connections is not swept");
                board.note(
                    Subject::Connections,
                    vec![format!("the table of connections is not swept: {error}")],
                );
                Duration::from_secs(10)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Between two looks for sockets: endpoints often go a few at a time, and a socket may have been on its way to one.
const PAUSE: Duration = Duration::from_millis(100);
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Tells sockets whose endpoint is gone, whenever the tables have changed.
pub(crate) async fn tell_orphans(plane: Plane, board: Board, changed: Arc<Notify>) {
    let mut warned = false;
    loop {
        changed.notified().await;
        loop {
            let p = plane.clone();
            let told = tokio::task::spawn_blocking(move || p.0.tell_orphans()).await;
            let (again, problem) = match told
                .map_err(|e| e.to_string())
                .and_then(|r| r.map_err(|e| e.to_string()))
            {
                Ok(told) => {
                    if told.told > 0 {
                        tracing::info!(sockets = told.told, "sockets were told that their endpoint is gone");
                    }
                    let lacks = "the kernel cannot end sockets (CONFIG_INET_DIAG_DESTROY): those that are connected to \
                                     an endpoint that goes are not told";
                    (told.again, (!told.supported).then(|| lacks.to_owned()))
                }
                Err(error) => (true, Some(format!("sockets whose endpoint is gone are not told: {error}"))),
            };
            if let (Some(problem), false) = (&problem, warned) {
                tracing::warn!("{problem}");
            }
            warned = problem.is_some();
            board.note(Subject::Sockets, problem.into_iter().collect());
            if !again {
                break;
            }
            tokio::select! {
                () = changed.notified() => tokio::time::sleep(PAUSE).await,
                () = tokio::time::sleep(SECOND_LOOK) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
