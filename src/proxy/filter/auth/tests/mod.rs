//! Tests of the stage with real keys and real signatures. The names of `attacks` follow the catalogue of attacks.

mod api_key;
mod attacks;
mod authorization;
mod basic;
mod caching;
mod external;
mod forwarding;
mod identities;
mod keys;
mod remote;
mod secrecy;
mod signing;
mod support;
mod timing;
mod validity;
