//! Tests of the whole room. Each file has one concern.

mod build;
mod golden;
mod memory;
mod named;
mod properties;
mod standings;
mod values;
