//! Keeps room in the table of connections.

use crate::plane::Plane;
use std::time::Duration;

/// Takes out, for as long as the agent lives, what has had its time.
pub(crate) async fn sweep(plane: Plane) {
    loop {
        let p = plane.clone();
        let swept = tokio::task::spawn_blocking(move || p.0.sweep_connections()).await;
        let pause = match swept.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
            Ok(swept) => {
                if swept.removed > 0 {
                    tracing::debug!(?swept, "connections had their time");
                }
                swept.pause
            }
            Err(error) => {
                tracing::warn!(error, "the table of connections is not swept");
                Duration::from_secs(10)
            }
        };
        tokio::time::sleep(pause).await;
    }
}
