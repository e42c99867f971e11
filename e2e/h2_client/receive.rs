//! Receiving: each frame is done as it asks for, and streams keep what they came to.

use std::io::{self, Read as _};

use super::frame::{
    ACK, CONTINUATION, DATA, ENABLE_CONNECT_PROTOCOL, END_HEADERS, END_STREAM, FRAME_BYTES_MAX, Frame,
    GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, PING,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, bad, is_end, number, without_padding,
};
use super::{GoAway, H2Connection, HalfBlock};

impl H2Connection {
    /// Reads one frame and does what it asks for.
    ///
    /// # Errors
    /// Of the connection, its end (`UnexpectedEof`), or what is not HTTP/2.
    pub fn turn(&mut self) -> io::Result<Frame> {
        let frame = self.read_frame()?;
        match frame.kind {
            DATA => self.on_data(&frame)?,
            HEADERS | CONTINUATION => self.on_block(&frame)?,
            RST_STREAM => self.stream_mut(frame.stream).reset = Some(number(&frame.payload)?),
            SETTINGS if frame.flags & ACK == 0 => self.on_settings(&frame.payload)?,
            PING if frame.flags & ACK == 0 => self.react(PING, ACK, 0, &frame.payload)?,
            PING => self.pongs += 1,
            GOAWAY => {
                let code = frame.payload.get(4..).ok_or_else(|| bad("a short GOAWAY"))?;
                let last_stream = number(&frame.payload)? & 0x7fff_ffff;
                self.goaways.push(GoAway { last_stream, code: number(code)? });
            }
            WINDOW_UPDATE => {
                let bytes = i64::from(number(&frame.payload)? & 0x7fff_ffff);
                match frame.stream {
                    0 => self.send_window += bytes,
                    stream => self.stream_mut(stream).send_window += bytes,
                }
            }
            PUSH_PROMISE => return Err(bad("a push that nobody asked for")),
            _ => {}
        }
        Ok(frame)
    }

    fn on_data(&mut self, frame: &Frame) -> io::Result<()> {
        let payload = without_padding(frame)?;
        let ends = frame.flags & END_STREAM != 0;
        let state = self.stream_mut(frame.stream);
        if state.head.is_none() || state.ended {
            return Err(bad("DATA outside of an answer"));
        }
        state.body.extend_from_slice(payload);
        state.ended = ends;
        let bytes = u32::try_from(frame.payload.len()).map_err(|_| bad("a long frame"))?;
        if !self.grants || bytes == 0 {
            return Ok(());
        }
        self.react(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes())?;
        if ends || self.starved.contains(&frame.stream) {
            return Ok(());
        }
        self.react(WINDOW_UPDATE, 0, frame.stream, &bytes.to_be_bytes())
    }

    /// Sends what a frame asks for. A server that has closed meanwhile needs it no more, and what it sent before is
    /// still to be read: the next read tells.
    fn react(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        match self.send_frame(kind, flags, stream, payload) {
            Err(error) if is_end(&error) => Ok(()),
            sent => sent,
        }
    }

    fn on_block(&mut self, frame: &Frame) -> io::Result<()> {
        let mut half = match (frame.kind, self.half.take()) {
            (HEADERS, None) => {
                let mut block = without_padding(frame)?;
                if frame.flags & WITH_PRIORITY != 0 {
                    block = block.get(5..).ok_or_else(|| bad("a short HEADERS"))?;
                }
                let (stream, ends) = (frame.stream, frame.flags & END_STREAM != 0);
                HalfBlock { stream, block: block.to_vec(), ends }
            }
            (CONTINUATION, Some(mut half)) if half.stream == frame.stream => {
                half.block.extend_from_slice(&frame.payload);
                half
            }
            _ => return Err(bad("a header block in disorder")),
        };
        if frame.flags & END_HEADERS == 0 {
            self.half = Some(half);
            return Ok(());
        }
        let mut fields = self.decoder.decode(&std::mem::take(&mut half.block))?;
        let state = self.stream_mut(half.stream);
        if state.ended {
            return Err(bad("HEADERS behind an answer"));
        }
        state.ended = half.ends;
        if state.head.is_some() {
            state.trailers = fields;
            return if half.ends { Ok(()) } else { Err(bad("trailers that do not end the stream")) };
        }
        let status = match fields.first() {
            Some((name, value)) if name == ":status" => value.parse().map_err(|_| bad(value))?,
            _ => return Err(bad(&format!("an answer without a status: {fields:?}"))),
        };
        fields.remove(0);
        match status {
            100..200 => state.interim.push(status),
            _ => state.head = Some((status, fields)),
        }
        Ok(())
    }

    fn on_settings(&mut self, payload: &[u8]) -> io::Result<()> {
        for pair in payload.chunks(6) {
            let [high, low, value @ ..] = pair else { return Err(bad("SETTINGS of a wrong length")) };
            let value = number(value)?;
            match u16::from_be_bytes([*high, *low]) {
                INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.peer.initial_window;
                    self.peer.initial_window = i64::from(value);
                    self.streams.values_mut().for_each(|stream| stream.send_window += change);
                }
                MAX_CONCURRENT_STREAMS => self.peer.streams_max = Some(value),
                MAX_FRAME_SIZE => self.peer.frame_bytes_max = value as usize,
                MAX_HEADER_LIST_SIZE => self.peer.header_list_bytes_max = Some(value),
                ENABLE_CONNECT_PROTOCOL => self.peer.connect_protocol = value == 1,
                _ => {}
            }
        }
        self.settled = true;
        self.react(SETTINGS, ACK, 0, &[])
    }

    fn read_frame(&mut self) -> io::Result<Frame> {
        self.fill_to(9)?;
        let length = usize::from(self.pending[0]) << 16
            | usize::from(self.pending[1]) << 8
            | usize::from(self.pending[2]);
        if length > FRAME_BYTES_MAX {
            return Err(bad(&format!("a frame of {length} bytes: {:?}", &self.pending[..9])));
        }
        self.fill_to(9 + length)?;
        let (kind, flags) = (self.pending[3], self.pending[4]);
        let stream = number(&self.pending[5..9])? & 0x7fff_ffff;
        let payload = self.pending[9..9 + length].to_vec();
        self.pending.drain(..9 + length);
        Ok(Frame { kind, flags, stream, payload })
    }

    fn fill_to(&mut self, length: usize) -> io::Result<()> {
        let mut chunk = [0; 32 * 1024];
        while self.pending.len() < length {
            match self.wire.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.pending.extend_from_slice(&chunk[..count]),
            }
        }
        Ok(())
    }
}
