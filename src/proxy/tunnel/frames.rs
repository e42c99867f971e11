//! Where the frames of a WebSocket end in a stream of bytes (RFC 6455 §5.2). Reads headers only, checks nothing and
//! keeps no payload: what passes is the business of the two ends.

/// Follows one direction of a WebSocket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    at: At,
    /// The frame that is passing is a Close.
    is_close: bool,
    closed: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first byte of a frame: FIN and opcode.
    Boundary,
    /// The mask bit and the short length.
    Length,
    /// So many bytes of the long length; the ones before it are `length`.
    LongLength { left: u8, length: u64, mask_bytes: u64 },
    /// So many bytes of mask and payload; never 0.
    Payload(u64),
}

const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;
const MASK_BYTES: u64 = 4;

impl Frames {
    pub(super) const fn new() -> Self {
        Self { at: At::Boundary, is_close: false, closed: false }
    }

    /// Whether a frame may be put in here.
    pub(super) fn at_boundary(&self) -> bool {
        self.at == At::Boundary
    }

    /// Whether a whole Close frame has passed: nothing may be sent after it (RFC 6455 §5.5.1).
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// How many of these bytes belong to the frame that is passing; 0 between frames.
    pub(super) fn until_boundary(&self, bytes: &[u8]) -> usize {
        let mut ahead = *self;
        if ahead.at_boundary() { 0 } else { ahead.pass_one(bytes) }
    }

    /// These bytes have passed.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.pass_one(bytes);
            bytes = bytes.get(passed..).unwrap_or_default();
        }
    }

    /// Goes to the end of a frame or of the bytes, whichever comes first, and says how far that is.
    fn pass_one(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while let Some(&byte) = bytes.get(passed) {
            if let At::Payload(left) = self.at {
                let here = u64::try_from(bytes.len() - passed).unwrap_or(u64::MAX).min(left);
                passed += usize::try_from(here).unwrap_or(usize::MAX);
                self.payload(left - here);
            } else {
                passed += 1;
                self.header(byte);
            }
            if self.at_boundary() {
                break;
            }
        }
        passed
    }

    fn header(&mut self, byte: u8) {
        match self.at {
            At::Boundary => {
                self.is_close = byte & OPCODE == CLOSE;
                self.at = At::Length;
            }
            At::Length => {
                let mask_bytes = if byte & MASKED == 0 { 0 } else { MASK_BYTES };
                match byte & !MASKED {
                    126 => self.at = At::LongLength { left: 2, length: 0, mask_bytes },
                    127 => self.at = At::LongLength { left: 8, length: 0, mask_bytes },
                    length => self.payload(u64::from(length) + mask_bytes),
                }
            }
            At::LongLength { left, length, mask_bytes } => {
                let length = (length << 8) | u64::from(byte);
                match left - 1 {
                    0 => self.payload(length.saturating_add(mask_bytes)),
                    left => self.at = At::LongLength { left, length, mask_bytes },
                }
            }
            At::Payload(_) => {}
        }
    }

    fn payload(&mut self, left: u64) {
        if left > 0 {
            self.at = At::Payload(left);
        } else {
            self.at = At::Boundary;
            self.closed |= self.is_close;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a payload of zeros.
    fn frame(first: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask_bit = if masked { MASKED } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(mask_bit | u8::try_from(length).unwrap()),
            126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + length + if masked { 4 } else { 0 }, 0);
        bytes
    }

    fn stream(masked: bool) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for (first, length) in
            [(0x81, 0), (0x02, 1), (0x00, 125), (0x89, 4), (0x80, 126), (0xc2, 300), (0x8a, 0), (0x82, 3)]
        {
            bytes.extend_from_slice(&frame(first, masked, length));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn boundaries_are_the_same_however_the_stream_is_cut() {
        for masked in [false, true] {
            let (bytes, ends) = stream(masked);
            for cut in 0..=bytes.len() {
                let (left, right) = bytes.split_at(cut);
                let mut frames = Frames::new();
                frames.pass(left);
                assert_eq!(frames.at_boundary(), ends.contains(&cut), "masked {masked}, cut at {cut}");
                let next = ends.iter().find(|&&end| end >= cut).unwrap();
                assert_eq!(frames.until_boundary(right), next - cut, "masked {masked}, cut at {cut}");
                frames.pass(right);
                assert!(frames.at_boundary() && !frames.closed());
            }
        }
    }

    #[test]
    fn every_byte_alone_gives_the_same_boundaries() {
        for masked in [false, true] {
            let (bytes, ends) = stream(masked);
            let mut frames = Frames::new();
            for (at, byte) in bytes.iter().enumerate() {
                frames.pass(&[*byte]);
                assert_eq!(frames.at_boundary(), ends.contains(&(at + 1)), "masked {masked}, byte {at}");
            }
        }
    }

    #[test]
    fn a_close_counts_when_it_is_whole() {
        for (masked, length) in [(false, 2), (true, 2), (false, 0), (true, 0), (false, 125)] {
            let close = frame(0x88, masked, length);
            let mut frames = Frames::new();
            frames.pass(&frame(0x81, masked, 5));
            let (last, before) = close.split_last().unwrap();
            frames.pass(before);
            assert!(!frames.closed(), "{masked} {length}");
            frames.pass(&[*last]);
            assert!(frames.closed() && frames.at_boundary(), "{masked} {length}");
        }
    }

    #[test]
    fn a_frame_of_any_length_is_counted_and_never_kept() {
        let mut frames = Frames::new();
        frames.pass(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(frames.at, At::Payload(u64::MAX));
        frames.pass(&[0; 1000]);
        assert_eq!(frames.until_boundary(&[0; 1000]), 1000);
        let mut masked = Frames::new();
        masked.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(masked.at, At::Payload(u64::MAX), "saturated");
        let mut large = Frames::new();
        large.pass(&frame(0x82, false, 70_000));
        assert!(large.at_boundary());
    }
}
