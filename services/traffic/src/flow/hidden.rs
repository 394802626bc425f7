//! What an encrypted flow shows: one byte, as every flow has it.

use crate::Direction;

const PAYLOAD: u8 = 1;
const ENDING: u8 = 2;
/// Shifted by the direction.
const OFF: u8 = 4;

/// What of a flow says nothing any more because it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hidden(u8);

impl Hidden {
    /// Payload of packets.
    pub(crate) const fn has_payload(self) -> bool {
        self.0 & PAYLOAD != 0
    }

    /// Payload is hidden from now on; `with_stream`: what came of the streams is shown once more,
    /// then nothing.
    pub(crate) const fn begin(&mut self, with_stream: bool) {
        self.0 |= PAYLOAD | if with_stream { ENDING } else { 0 };
    }

    /// A packet of `direction` was shown.
    pub(crate) const fn shown(&mut self, direction: Direction) {
        if self.0 & ENDING != 0 {
            self.0 |= OFF << direction.index();
        }
    }

    /// The stream of `direction`.
    pub(crate) const fn has_stream(self, direction: Direction) -> bool {
        self.0 & (OFF << direction.index()) != 0
    }

    /// Client and server were taken for each other.
    pub(crate) const fn swap(&mut self) {
        let off = self.0 / OFF;
        self.0 = (self.0 % OFF) | ((off >> 1 | (off & 1) << 1) * OFF);
    }
}

#[cfg(test)]
mod tests {
    use super::Hidden;
    use crate::Direction::{ToClient, ToServer};

    #[test]
    fn a_stream_is_shown_once_more() {
        let mut hidden = Hidden::default();
        hidden.shown(ToServer);
        assert!(!hidden.has_payload() && !hidden.has_stream(ToServer));
        hidden.begin(true);
        assert!(hidden.has_payload() && !hidden.has_stream(ToServer));
        hidden.shown(ToServer);
        assert!(hidden.has_stream(ToServer) && !hidden.has_stream(ToClient));
        hidden.swap();
        assert!(hidden.has_stream(ToClient) && !hidden.has_stream(ToServer));
        assert!(hidden.has_payload());
    }

    #[test]
    fn payload_alone_leaves_the_stream() {
        let mut hidden = Hidden::default();
        hidden.begin(false);
        hidden.shown(ToClient);
        assert!(hidden.has_payload() && !hidden.has_stream(ToClient));
    }
}
