//! A stream as a tunnel of bytes in both directions.

use std::io::{self, Read, Write};

use super::H2Connection;

/// What an answer of 200 to CONNECT is (RFC 9113 §8.5).
#[derive(Debug)]
pub struct Tunnel {
    pub connection: H2Connection,
    pub stream: u32,
}

impl Read for Tunnel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let state = self.connection.stream_mut(self.stream);
            if !state.body.is_empty() {
                let count = state.body.len().min(buffer.len());
                buffer[..count].copy_from_slice(&state.body[..count]);
                state.body.drain(..count);
                return Ok(count);
            }
            if state.ended {
                return Ok(0);
            }
            if let Some(code) = state.reset {
                let text = format!("stream {} was reset with {code}", self.stream);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
            }
            self.connection.turn()?;
        }
    }
}

impl Write for Tunnel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.send_data(self.stream, bytes, false)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
