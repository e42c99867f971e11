//! Sending: whole requests, single frames, any bytes. Reads only where a window is used up.

use std::io::{self, Write as _};

use super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_BYTES_MAX, HEADERS, PING, RST_STREAM, WINDOW_UPDATE,
    frame,
};
use super::{H2Connection, H2Request, Stream};
use crate::hpack::{self, Field};

impl H2Connection {
    /// Any bytes.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// Any frame.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.send_raw(&frame(kind, flags, stream, payload))
    }

    /// Sends a whole request and returns its stream. Reads meanwhile where a window is used up; what the server refuses
    /// in the middle is not sent to its end.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, request: &H2Request) -> io::Result<u32> {
        let ends = request.body.is_empty() && request.trailers.is_empty();
        let stream = self.open(request, ends)?;
        if !request.body.is_empty() {
            self.send_data(stream, &request.body, request.trailers.is_empty())?;
        }
        if !request.trailers.is_empty() {
            self.send_block(stream, &hpack::encode(pairs(&request.trailers)), true)?;
        }
        Ok(stream)
    }

    /// Sends only the head of a request.
    ///
    /// # Errors
    /// Of the connection.
    pub fn open(&mut self, request: &H2Request, ends: bool) -> io::Result<u32> {
        let mut fields = request.fields.clone();
        if !request.own_scheme && self.secure {
            let schemes = fields.iter_mut().filter(|(name, _)| name == b":scheme");
            schemes.for_each(|(_, value)| *value = b"https".to_vec());
        }
        let stream = self.new_stream();
        self.send_block(stream, &hpack::encode(pairs(&fields)), ends)?;
        Ok(stream)
    }

    /// Streams below this number, which is odd, are left out or opened by hand: the next request has this one.
    ///
    /// # Panics
    /// When it has been used.
    pub fn go_on_with(&mut self, stream: u32) {
        assert!(stream >= self.next_stream && stream % 2 == 1, "{stream} after {}", self.next_stream);
        self.next_stream = stream;
    }

    /// The number of the next stream, which counts as opened.
    pub fn new_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let state = Stream { send_window: self.peer.initial_window, ..Stream::default() };
        self.streams.insert(stream, state);
        stream
    }

    /// A header block in as many frames as it needs.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_block(&mut self, stream: u32, block: &[u8], ends: bool) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(block.len() + 64);
        let pieces: Vec<&[u8]> = block.chunks(FRAME_BYTES_MAX).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let last = if number + 1 == pieces.len() { END_HEADERS } else { 0 };
            let (kind, flags) = match number {
                0 => (HEADERS, last | if ends { END_STREAM } else { 0 }),
                _ => (CONTINUATION, last),
            };
            bytes.extend(frame(kind, flags, stream, piece));
        }
        self.send_raw(&bytes)
    }

    /// Trailers, which end the stream.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_trailers(&mut self, stream: u32, trailers: &[(&str, &str)]) -> io::Result<()> {
        self.send_block(stream, &hpack::encode(trailers.iter().copied()), true)
    }

    /// Sends within the windows; reads where they are used up. Gives up where the stream has ended.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_data(&mut self, stream: u32, bytes: &[u8], ends: bool) -> io::Result<()> {
        let mut rest = bytes;
        loop {
            let state = self.stream(stream);
            if state.reset.is_some() {
                return Ok(());
            }
            let window = state.send_window.min(self.send_window).max(0);
            let room = usize::try_from(window).unwrap_or(0).min(self.peer.frame_bytes_max);
            if room == 0 && !rest.is_empty() {
                self.turn()?;
                continue;
            }
            let (piece, tail) = rest.split_at(room.min(rest.len()));
            rest = tail;
            let flags = if ends && rest.is_empty() { END_STREAM } else { 0 };
            self.send_frame(DATA, flags, stream, piece)?;
            let sent = i64::try_from(piece.len()).unwrap_or(i64::MAX);
            self.send_window -= sent;
            self.stream_mut(stream).send_window -= sent;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// # Errors
    /// Of the connection.
    pub fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send_frame(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    /// Grants bytes: to the connection with stream 0.
    ///
    /// # Errors
    /// Of the connection.
    pub fn grant(&mut self, stream: u32, bytes: u32) -> io::Result<()> {
        self.send_frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
    }

    /// Waits until the server has answered a PING: it has then read all that was sent before.
    ///
    /// # Errors
    /// Of the connection.
    pub fn ping(&mut self) -> io::Result<()> {
        let before = self.pongs;
        self.send_frame(PING, 0, 0, b"are you?")?;
        self.wait_for("an answer to PING", |connection| (connection.pongs > before).then_some(()))
    }
}

fn pairs(fields: &[Field]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
}
