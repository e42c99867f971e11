//! What a stream came to, and what the other side said of itself. Plain data.

use crate::client::Response;

/// What a stream came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answer(Response),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, and the stream is not among those that will be served.
    GoneAway(u32),
    /// The connection ended.
    Closed,
}

impl Outcome {
    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(response) => Some(response.status),
            Self::Reset(_) | Self::GoneAway(_) | Self::Closed => None,
        }
    }

    /// The code of an error, where one was said.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Reset(code) | Self::GoneAway(code) => Some(*code),
            Self::Answer(_) | Self::Closed => None,
        }
    }
}

/// A GOAWAY (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub last_stream: u32,
    pub code: u32,
}

/// What the server's SETTINGS say.
#[derive(Clone, Copy, Debug)]
pub struct PeerSettings {
    pub initial_window: i64,
    pub frame_bytes_max: usize,
    pub streams_max: Option<u32>,
    pub header_list_bytes_max: Option<u32>,
    pub connect_protocol: bool,
}
