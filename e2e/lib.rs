//! What the tests over real sockets stand on: processes, ports, folders, a client and backends with control over
//! every byte, and load. Knows the gateway only from outside: its binary, its sockets, its files.

pub mod backend;
pub mod certificate;
pub mod client;
pub mod cluster_api;
pub mod cluster_load;
pub mod cluster_pod;
pub mod cluster_release;
pub mod cluster_report;
pub mod cluster_scene;
pub mod cluster_tools;
pub mod echo;
pub mod folder;
pub mod gateway;
pub mod h2_backend;
pub mod h2_client;
pub mod hpack;
pub mod jwt;
pub mod load;
pub mod port;
pub mod process;
pub mod sockets;
pub mod tls_backend;
pub mod tls_client;
pub mod until;
pub mod websocket;
