//! The rows of the tables as bytes, both ways.
//!
//! ```text
//! block    CBOR(Block)              payload  salt(16) || payload
//! state    CBOR(State)              epoch    node(32) || first seq, u64 LE
//!                                   mark     counter, u64 LE || boot id(16)
//! ```
//!
//! Pure. What is read is hostile until it was checked here: a row that does not decode, or not to
//! the bytes it came from, is damage, never a guess. Called by [`super::database`], and by the fuzz
//! targets because the bytes come from a disk that others may have written.

use hookprobe_wire::{Block, NodeId, Seq, block::SALT_BYTES, frame::decode_body, ledger::Payload};
use minicbor::{Decode, Encode};

use super::{FORMAT, State, StoreError};
use crate::{
    chain::Epoch,
    epoch::{BootId, Mark},
};

/// Bytes of an epoch's row.
pub const EPOCH_BYTES: usize = 40;
/// Bytes of a mark's row.
pub const MARK_BYTES: usize = 24;

/// A block as it is kept.
#[must_use]
pub fn from_block(block: &Block) -> Vec<u8> {
    to_cbor(block)
}

/// A block from its row.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn block(row: &[u8]) -> Result<Block, StoreError> {
    exact(row, "block")
}

/// A payload as it is kept.
#[must_use]
pub fn from_payload(payload: &Payload) -> Vec<u8> {
    [payload.salt.as_slice(), payload.bytes.as_slice()].concat()
}

/// A payload from its row. Its commitment is checked by [`crate::verify`].
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn payload(row: &[u8]) -> Result<Payload, StoreError> {
    let (salt, bytes) = row
        .split_first_chunk::<SALT_BYTES>()
        .ok_or_else(|| StoreError::Damaged(format!("payload: {} bytes", row.len())))?;
    Ok(Payload { salt: (*salt).into(), bytes: bytes.to_vec().into() })
}

/// The state as it is kept.
#[must_use]
pub fn from_state(state: &State) -> Vec<u8> {
    to_cbor(state)
}

/// The state from its row.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Damaged`].
pub fn state(row: &[u8]) -> Result<State, StoreError> {
    // The first field of any version is its number.
    let mut decoder = minicbor::Decoder::new(row);
    match decoder.array().and_then(|_| decoder.u64()) {
        Ok(FORMAT) => exact(row, "state"),
        Ok(newer) if newer > FORMAT => Err(StoreError::Newer(newer)),
        Ok(_) | Err(_) => Err(StoreError::Damaged("state: no format".into())),
    }
}

/// An epoch as it is kept; its number is the key.
#[must_use]
pub fn from_epoch(epoch: &Epoch) -> [u8; EPOCH_BYTES] {
    let mut row = [0; EPOCH_BYTES];
    let (node, first) = row.split_at_mut(32);
    node.copy_from_slice(epoch.node.as_bytes());
    first.copy_from_slice(&epoch.first.0.to_le_bytes());
    row
}

/// An epoch from its key and row.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn epoch(number: u64, row: &[u8; EPOCH_BYTES]) -> Result<Epoch, StoreError> {
    let (node, first) = row.split_at(32);
    Ok(Epoch {
        number,
        node: NodeId::new(array(node)?),
        first: Seq(u64::from_le_bytes(array(first)?)),
    })
}

/// A mark as it is kept; the number of its epoch is the key.
#[must_use]
pub fn from_mark(mark: &Mark) -> [u8; MARK_BYTES] {
    let mut row = [0; MARK_BYTES];
    let (counter, boot_id) = row.split_at_mut(8);
    counter.copy_from_slice(&mark.counter.to_le_bytes());
    boot_id.copy_from_slice(&mark.boot_id.0);
    row
}

/// A mark from its row.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn mark(row: &[u8; MARK_BYTES]) -> Result<Mark, StoreError> {
    let (counter, boot_id) = row.split_at(8);
    Ok(Mark { counter: u64::from_le_bytes(array(counter)?), boot_id: BootId(array(boot_id)?) })
}

fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Into a Vec with infallible field encoders: there is no error to have.
    let _ = minicbor::encode(value, &mut out);
    out
}

/// Decodes a value that must encode to the same bytes again.
fn exact<T>(bytes: &[u8], what: &str) -> Result<T, StoreError>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    let value: T = decode_body(bytes)
        .map_err(|error| StoreError::Damaged(format!("{what}: does not decode: {error}")))?;
    if to_cbor(&value) == bytes {
        Ok(value)
    } else {
        Err(StoreError::Damaged(format!("{what}: not in its own encoding")))
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], StoreError> {
    bytes
        .try_into()
        .map_err(|_| StoreError::Damaged(format!("{} bytes, expected {N}", bytes.len())))
}

#[cfg(test)]
mod tests {
    use hookprobe_wire::Hash;

    use super::*;

    fn sample() -> State {
        State {
            format: FORMAT,
            epoch: 2,
            node: NodeId::new([3; 32]),
            first: Seq(4),
            length: 5,
            hash: Hash::new([6; 32]),
            timestamp_ns: 7,
            peaks: vec![Hash::new([8; 32]), Hash::new([9; 32])],
        }
    }

    #[test]
    fn golden_rows() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hash = |byte: &str| format!("5820{}", byte.repeat(32));
        let row = from_state(&sample());
        assert_eq!(
            hex(&row),
            format!("880102{}0405{}0782{}{}", hash("03"), hash("06"), hash("08"), hash("09"))
        );
        assert_eq!(state(&row), Ok(sample()));
        let one = Epoch { number: 2, node: NodeId::new([3; 32]), first: Seq(0x0102) };
        let row = from_epoch(&one);
        assert_eq!(hex(&row), format!("{}0201000000000000", "03".repeat(32)));
        assert_eq!(epoch(2, &row), Ok(one));
        let when = Mark { counter: 0x0102, boot_id: BootId([5; 16]) };
        let row = from_mark(&when);
        assert_eq!(hex(&row), format!("0201000000000000{}", "05".repeat(16)));
        assert_eq!(mark(&row), Ok(when));
        let kept = Payload { salt: [7; SALT_BYTES].into(), bytes: vec![1, 2].into() };
        let row = from_payload(&kept);
        assert_eq!(hex(&row), format!("{}0102", "07".repeat(16)));
        assert_eq!(payload(&row), Ok(kept));
    }

    #[test]
    fn another_encoding_of_the_same_value_is_damage() {
        let row = from_state(&sample());
        let mut longer = row.clone();
        // Epoch 2 in two bytes.
        longer.splice(2..3, [0x18, 2]);
        assert!(matches!(state(&longer), Err(StoreError::Damaged(why)) if why.contains("own")));
        let mut newer = row;
        newer[1] = 2;
        assert_eq!(state(&newer), Err(StoreError::Newer(2)));
        assert!(matches!(payload(&[0; 15]), Err(StoreError::Damaged(_))));
        assert!(matches!(block(&[]), Err(StoreError::Damaged(_))));
    }
}
