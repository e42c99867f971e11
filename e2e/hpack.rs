//! HPACK (RFC 7541) for the HTTP/2 client of the tests: an encoder that writes whatever names and values it is given,
//! as literals, and a decoder for what servers answer. The encoder checks nothing: malformed fields are what it is for.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::LazyLock;

/// A name and a value, any bytes.
pub type Field = (Vec<u8>, Vec<u8>);

/// What a decoder's dynamic table may take unless SETTINGS say otherwise (RFC 9113 §6.5.2), in bytes.
const TABLE_BYTES_MAX: usize = 4096;

/// A block of literals without indexing and without Huffman codes (RFC 7541 §6.2.2).
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut block, text.len(), 7);
            block.extend_from_slice(text);
        }
    }
    block
}

/// RFC 7541 §5.1, with the bits above the prefix zero.
fn integer(block: &mut Vec<u8>, value: usize, prefix_bits: u32) {
    let most = (1 << prefix_bits) - 1;
    if value < most {
        block.push(value as u8);
        return;
    }
    block.push(most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Reads the blocks of one connection in their order.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The newest entry first.
    table: VecDeque<Field>,
    bytes: usize,
    bytes_max: Option<usize>,
}

impl Decoder {
    /// # Errors
    /// When the block is no HPACK.
    pub fn decode(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        let mut input = Input { rest: block };
        let mut fields = Vec::new();
        while let Some(&first) = input.rest.first() {
            let field = match first.leading_zeros() {
                0 => {
                    let index = input.integer(7)?;
                    self.entry(index)?
                }
                1 => {
                    let field = self.literal(&mut input, 6)?;
                    self.insert(field.clone());
                    field
                }
                2 => {
                    let bytes_max = input.integer(5)?;
                    if bytes_max > TABLE_BYTES_MAX {
                        return Err(bad("a table larger than the settings allow"));
                    }
                    self.bytes_max = Some(bytes_max);
                    self.evict();
                    continue;
                }
                _ => self.literal(&mut input, 4)?,
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push((text(&field.0), text(&field.1)));
        }
        Ok(fields)
    }

    fn literal(&self, input: &mut Input<'_>, prefix_bits: u32) -> io::Result<Field> {
        let name = match input.integer(prefix_bits)? {
            0 => input.text()?,
            index => self.entry(index)?.0,
        };
        Ok((name, input.text()?))
    }

    fn entry(&self, index: usize) -> io::Result<Field> {
        let number = index.checked_sub(1).ok_or_else(|| bad("index 0"))?;
        if let Some((name, value)) = STATIC.get(number) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.table.get(number - STATIC.len()).cloned().ok_or_else(|| bad(&format!("index {index}")))
    }

    fn insert(&mut self, field: Field) {
        self.bytes += size(&field);
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max.unwrap_or(TABLE_BYTES_MAX) {
            let Some(oldest) = self.table.pop_back() else { return };
            self.bytes -= size(&oldest);
        }
    }
}

/// RFC 7541 §4.1.
fn size(field: &Field) -> usize {
    field.0.len() + field.1.len() + 32
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> io::Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| bad("a block that ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    fn integer(&mut self, prefix_bits: u32) -> io::Result<usize> {
        let most = (1 << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(bad("an integer that is too long"))
    }

    fn text(&mut self) -> io::Result<Vec<u8>> {
        let coded = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| bad("a text that ends too early"))?;
        self.rest = rest;
        if coded { huffman(text) } else { Ok(text.to_vec()) }
    }
}

/// Which symbol a code of this length stands for. The code is canonical, so that the lengths alone say which there are.
static CODES: LazyLock<HashMap<(u8, u32), usize>> = LazyLock::new(|| {
    let mut symbols: Vec<usize> = (0..LENGTHS.len()).collect();
    symbols.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let (mut code, mut length) = (0u32, 0);
    symbols
        .into_iter()
        .map(|symbol| {
            code <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            code += 1;
            ((length, code - 1), symbol)
        })
        .collect()
});

/// RFC 7541 §5.2.
fn huffman(coded: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0u32, 0u8);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(symbol) = CODES.get(&(length, code)) {
            text.push(u8::try_from(*symbol).map_err(|_| bad("an end of string in a text"))?);
            (code, length) = (0, 0);
        } else if length >= 30 {
            return Err(bad("no Huffman code"));
        }
    }
    // What is left is the beginning of the end of string: ones, less than a byte.
    if length > 7 || code + 1 != 1 << length {
        return Err(bad("padding that is none"));
    }
    Ok(text)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HPACK: {what}"))
}

/// RFC 7541 appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// RFC 7541 appendix B: how many bits each byte takes, and last the end of string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_the_rfc_are_read() {
        // RFC 7541 appendix C.6.1 and C.6.2: Huffman codes, a table of its own, an entry used again.
        let first = [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9",
            "ae82ae43d3",
        ];
        let second = "4883640effc1c0bf";
        let mut decoder = Decoder::default();
        let location = ("location".to_owned(), "https://www.example.com".to_owned());
        let fields = decoder.decode(&bytes(&first.concat())).unwrap();
        assert_eq!(fields[0], (":status".to_owned(), "302".to_owned()));
        assert_eq!(fields[2].1, "Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(fields[3], location);
        let fields = decoder.decode(&bytes(second)).unwrap();
        assert_eq!(fields[0], (":status".to_owned(), "307".to_owned()));
        assert_eq!((fields.len(), &fields[3]), (4, &location));
    }

    #[test]
    fn what_is_encoded_is_read_back_whatever_it_is() {
        let long = "x".repeat(70_000);
        let fields = [("X-Upper", "a\r\nb"), ("", ""), ("long", long.as_str())];
        let decoded = Decoder::default().decode(&encode(fields)).unwrap();
        let want: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(decoded, want);
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
