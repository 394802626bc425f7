//! The names of content codings (RFC 9110, section 8.4), as Suricata's libhtp reads them.

use super::headers::by_side;
use crate::Direction;
use crate::app::Events;

/// Codings over each other, whatever the configuration says.
const LAYERS_MAX: usize = 16;

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1951, without any header.
    Deflate,
    /// RFC 1950.
    Zlib,
    /// A file of the LZMA SDK's first format.
    Lzma,
    /// RFC 7932.
    Brotli,
}

/// What of it is decoded; see [`crate::app::Config`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Codings of a list.
    pub layers_max: u32,
    /// LZMA among them.
    pub lzma_layers_max: u32,
    /// Dictionary of LZMA.
    pub lzma_bytes_max: u32,
    /// What grows beyond this and beyond a ratio is a bomb.
    pub bomb_bytes_min: u32,
}

/// The codings of a Content-Encoding field, the first applied first, and what is odd about them.
pub(super) fn codings(
    value: &[u8],
    direction: Direction,
    limits: Limits,
    events: &mut Events,
) -> Vec<Coding> {
    match whole(value) {
        Some(found) => found.into_iter().collect(),
        None => list(value, direction, limits, events),
    }
}

/// The coding that a whole field value names, any case, zero bytes left out; `Some(None)` is none.
fn whole(value: &[u8]) -> Option<Option<Coding>> {
    let name: Vec<u8> = value.iter().copied().filter(|byte| *byte != 0).collect();
    match name.to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Some(Some(Coding::Gzip)),
        b"deflate" | b"x-deflate" => Some(Some(Coding::Deflate)),
        b"lzma" => Some(Some(Coding::Lzma)),
        b"br" => Some(Some(Coding::Brotli)),
        b"inflate" | b"none" => Some(None),
        _ => None,
    }
}

/// What one name of a list asks for; whether the name is usual. Case counts here, and brotli is not
/// known here.
fn listed(name: &[u8]) -> (Option<Coding>, bool) {
    let has = |word: &[u8]| super::line::contains(name, word);
    if has(b"gzip") {
        return (Some(Coding::Gzip), matches!(name, b"gzip" | b"x-gzip"));
    }
    if has(b"deflate") {
        return (Some(Coding::Deflate), matches!(name, b"deflate" | b"x-deflate"));
    }
    match name {
        b"lzma" => (Some(Coding::Lzma), true),
        b"identity" | b"none" | b"inflate" => (None, true),
        _ => (None, false),
    }
}

fn list(value: &[u8], direction: Direction, limits: Limits, events: &mut Events) -> Vec<Coding> {
    let names = value.split(|byte| matches!(byte, b',' | b' ')).filter(|name| !name.is_empty());
    let mut codings = Vec::new();
    let mut lzma_layers = 0;
    for (layer, name) in (1_u32..).zip(names) {
        if layer > limits.layers_max || layer as usize > LAYERS_MAX {
            events.add("too_many_encoding_layers");
            break;
        }
        let (found, is_usual) = listed(name);
        if !is_usual {
            events.repeat("abnormal_ce_header");
        }
        if found == Some(Coding::Lzma) {
            // A client's is counted by its place in the list.
            lzma_layers = if direction == Direction::ToServer { layer } else { lzma_layers + 1 };
            if lzma_layers > limits.lzma_layers_max {
                events.add(by_side(
                    direction,
                    "request_too_many_lzma_layers",
                    "response_too_many_lzma_layers",
                ));
                break;
            }
        }
        codings.extend(found);
    }
    codings
}

#[cfg(test)]
mod tests {
    use super::{Coding, Limits, codings};
    use crate::Direction;
    use crate::app::Events;

    fn check(direction: Direction, value: &str, want: &[Coding], told: &[&str]) {
        let limits = Limits {
            layers_max: 2,
            lzma_layers_max: 1,
            lzma_bytes_max: 1 << 20,
            bomb_bytes_min: 1 << 20,
        };
        let mut events = Events::default();
        assert_eq!(codings(value.as_bytes(), direction, limits, &mut events), want, "{value}");
        assert_eq!(events.iter().collect::<Vec<_>>(), told, "{value}");
    }

    #[test]
    fn names_and_what_is_odd_about_them() {
        use Coding::{Brotli, Deflate, Gzip, Lzma};
        let server = |value, want: &[Coding], told: &[&str]| {
            check(Direction::ToClient, value, want, told);
        };
        server("gzip", &[Gzip], &[]);
        server("g\0zip", &[Gzip], &[]);
        server("BR", &[Brotli], &[]);
        server("LZMA", &[Lzma], &[]);
        server("DEFLATE", &[Deflate], &[]);
        server("identity, x-deflate", &[Deflate], &[]);
        server("gzip;q=1", &[Gzip], &["abnormal_ce_header"]);
        server("DEFLATE, gzip", &[Deflate, Gzip], &["abnormal_ce_header"]);
        server("x, y", &[], &["abnormal_ce_header", "abnormal_ce_header"]);
        server("br, gzip", &[Gzip], &["abnormal_ce_header"]);
        server("none,none,gzip", &[], &["too_many_encoding_layers"]);
        server("gzip,lzma", &[Gzip, Lzma], &[]);
        server("lzma,lzma", &[Lzma], &["response_too_many_lzma_layers"]);
        check(Direction::ToServer, "gzip,lzma", &[Gzip], &["request_too_many_lzma_layers"]);
    }
}
