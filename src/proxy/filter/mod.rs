//! Filters: what a route asks of requests beside where they go.

pub(crate) mod affinity;
pub(crate) mod auth;
pub(crate) mod balance;
pub(crate) mod client_cert;
pub(crate) mod error_page;
pub(crate) mod extras;
pub(crate) mod grpc;
pub(crate) mod grpc_web;
pub(crate) mod https;
pub(crate) mod limit;
pub(crate) mod mirror;
pub(crate) mod upgrade;
pub(crate) mod websocket;
