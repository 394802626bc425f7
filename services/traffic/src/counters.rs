//! What the engine saw and what it lost, exported each second. Every limit that makes it drop or
//! ignore something has its own number here.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the engine was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Names and values, in the order above.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames handed in.
    frames,
    /// Their captured bytes.
    frame_bytes,
    /// Packets decoded: frames, tunnelled and rebuilt ones.
    packets,
    /// Packets whose headers do not hold together.
    packets_invalid,
    /// Packets in tunnels.
    packets_tunnelled,
    /// Packets deeper in tunnels than is followed; lost.
    packets_too_deep,
    /// Fragments.
    fragments,
    /// Packets rebuilt from fragments.
    rebuilt,
    /// Packets given up because their fragments did not come in time.
    defrag_timeouts,
    /// Packets given up to make room for others.
    defrag_evicted,
    /// Fragments not taken: too many, too large or no memory.
    defrag_dropped,
    /// Flows made.
    flows,
    /// Flows given up before their time because the table was full.
    flows_evicted,
    /// Flows whose transactions and streams were given up because all of them held too much.
    flows_given_up,
    /// TCP segments with a wrong checksum, ignored.
    checksum_wrong,
    /// Packets with a wrong checksum, taken because one end leaves checksums to its network card.
    checksum_offloaded,
    /// Segments that the stream engine refused: out of window, wrong state.
    stream_refused,
    /// Packets of a TCP flow that has no session (no handshake, midstream off).
    stream_no_session,
    /// Sessions followed without a handshake.
    stream_midstream,
    /// Gaps that were skipped.
    gaps,
    /// Bytes in them.
    gap_bytes,
    /// Segments not stored: memory of all streams.
    reassembly_memory,
    /// Segments not stored: memory or number of one direction.
    reassembly_limit,
    /// Segments not stored: beyond the depth.
    reassembly_depth,
    /// Bytes cut off by limits of application parsers.
    app_cut_bytes,
    /// Transactions, names and pieces that application parsers gave up to stay within their limits.
    app_dropped,
    /// Histories of connections that were cut.
    history_cut,
}
