//! Tests of the binary's command line.

#[cfg(test)]
mod commands;
