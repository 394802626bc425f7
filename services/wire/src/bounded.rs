//! Lists with a bound, for `#[cbor(decode_with)]`.
//!
//! A frame bounds a body in bytes, not in memory: an empty string is one byte on the wire and 24
//! in a `Vec<String>`, a named number three and 32. Every list of a message therefore has a most,
//! which stands beside its type, and the list that is longer is refused before it is held. Used by
//! the message types of this crate alone; [`minicbor`]'s own `Vec` never allocates by a claimed
//! length either, but it goes on for as long as the frame does.

use minicbor::{Decode, Decoder, decode::Error};

/// Decodes a list of at most `MAX` elements.
///
/// # Errors
/// Those of the elements; a message when there are more.
pub(crate) fn list<'b, Ctx, T, const MAX: usize>(
    decoder: &mut Decoder<'b>,
    context: &mut Ctx,
) -> Result<Vec<T>, Error>
where
    T: Decode<'b, Ctx>,
{
    let at = decoder.position();
    let mut out = Vec::new();
    for element in decoder.array_iter_with(context)? {
        if out.len() == MAX {
            return Err(Error::message("a list is longer than its message allows").at(at));
        }
        out.push(element?);
    }
    Ok(out)
}
