//! Connections as the API server and the agents of nodes both meet them: bytes between two upgraded connections
//! ([`splice`]), the server's side of WebSocket ([`websocket`]), the client's side of SPDY/3.1 ([`spdy`]), and TLS to servers
//! that nobody can vouch for ([`tls`]).
//!
//! How a command's streams travel: the API server sends an upgrade on to the agent as it is, and the agent to the runtime's
//! streaming server, bytes alone between them; the runtime speaks SPDY and the older WebSocket protocols itself. What it does
//! not speak, the agent translates to SPDY: `v5.channel.k8s.io`, and SPDY within WebSocket (KEP-4006).

pub mod spdy;
pub mod splice;
pub mod tls;
pub mod upgrade;
pub mod websocket;
