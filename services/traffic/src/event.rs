//! What is wrong with a packet or with its place in a TCP stream, by the names that Suricata's rules
//! use (`decode-event`, `stream-event`, `app-layer-event` of protocol detection).
//!
//! The list is data: a name and a bit. Nothing here decides; the decoder, the defragmenter and the
//! stream engine set bits, rules and `weird` logs read them.

macro_rules! events {
    ($($variant:ident $name:literal)*) => {
        /// One anomaly. Its documentation is its name, see [`Event::name`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Event {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Event {
            /// All of them, in the order of their bits.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The full name, with `decoder.`, `stream.` or `applayer_` in front.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

events! {
    Ipv4PktTooSmall "decoder.ipv4.pkt_too_small"
    Ipv4HlenTooSmall "decoder.ipv4.hlen_too_small"
    Ipv4IplenSmallerThanHlen "decoder.ipv4.iplen_smaller_than_hlen"
    Ipv4TruncPkt "decoder.ipv4.trunc_pkt"
    Ipv4OptInvalid "decoder.ipv4.opt_invalid"
    Ipv4OptInvalidLen "decoder.ipv4.opt_invalid_len"
    Ipv4OptMalformed "decoder.ipv4.opt_malformed"
    Ipv4OptPadRequired "decoder.ipv4.opt_pad_required"
    Ipv4OptEolRequired "decoder.ipv4.opt_eol_required"
    Ipv4OptDuplicate "decoder.ipv4.opt_duplicate"
    Ipv4OptUnknown "decoder.ipv4.opt_unknown"
    Ipv4WrongIpVersion "decoder.ipv4.wrong_ip_version"
    Ipv4Icmpv6 "decoder.ipv4.icmpv6"
    Ipv4UnknownProtocol "decoder.ipv4.unknown_protocol"
    Icmpv4PktTooSmall "decoder.icmpv4.pkt_too_small"
    Icmpv4UnknownType "decoder.icmpv4.unknown_type"
    Icmpv4UnknownCode "decoder.icmpv4.unknown_code"
    Icmpv4Ipv4TruncPkt "decoder.icmpv4.ipv4_trunc_pkt"
    Icmpv4Ipv4UnknownVer "decoder.icmpv4.ipv4_unknown_ver"
    Icmpv6UnknownType "decoder.icmpv6.unknown_type"
    Icmpv6UnknownCode "decoder.icmpv6.unknown_code"
    Icmpv6PktTooSmall "decoder.icmpv6.pkt_too_small"
    Icmpv6Ipv6UnknownVersion "decoder.icmpv6.ipv6_unknown_version"
    Icmpv6Ipv6TruncPkt "decoder.icmpv6.ipv6_trunc_pkt"
    Icmpv6MldMessageWithInvalidHl "decoder.icmpv6.mld_message_with_invalid_hl"
    Icmpv6UnassignedType "decoder.icmpv6.unassigned_type"
    Icmpv6ExperimentationType "decoder.icmpv6.experimentation_type"
    Ipv6PktTooSmall "decoder.ipv6.pkt_too_small"
    Ipv6TruncPkt "decoder.ipv6.trunc_pkt"
    Ipv6TruncExthdr "decoder.ipv6.trunc_exthdr"
    Ipv6ExthdrDuplFh "decoder.ipv6.exthdr_dupl_fh"
    Ipv6ExthdrUselessFh "decoder.ipv6.exthdr_useless_fh"
    Ipv6ExthdrDuplRh "decoder.ipv6.exthdr_dupl_rh"
    Ipv6ExthdrDuplHh "decoder.ipv6.exthdr_dupl_hh"
    Ipv6ExthdrDuplDh "decoder.ipv6.exthdr_dupl_dh"
    Ipv6ExthdrDuplAh "decoder.ipv6.exthdr_dupl_ah"
    Ipv6ExthdrDuplEh "decoder.ipv6.exthdr_dupl_eh"
    Ipv6ExthdrInvalidOptlen "decoder.ipv6.exthdr_invalid_optlen"
    Ipv6WrongIpVersion "decoder.ipv6.wrong_ip_version"
    Ipv6ExthdrAhResNotNull "decoder.ipv6.exthdr_ah_res_not_null"
    Ipv6HopoptsUnknownOpt "decoder.ipv6.hopopts_unknown_opt"
    Ipv6HopoptsOnlyPadding "decoder.ipv6.hopopts_only_padding"
    Ipv6DstoptsUnknownOpt "decoder.ipv6.dstopts_unknown_opt"
    Ipv6DstoptsOnlyPadding "decoder.ipv6.dstopts_only_padding"
    Ipv6RhType0 "decoder.ipv6.rh_type_0"
    Ipv6ZeroLenPadn "decoder.ipv6.zero_len_padn"
    Ipv6FhNonZeroReservedField "decoder.ipv6.fh_non_zero_reserved_field"
    Ipv6DataAfterNoneHeader "decoder.ipv6.data_after_none_header"
    Ipv6UnknownNextHeader "decoder.ipv6.unknown_next_header"
    Ipv6Icmpv4 "decoder.ipv6.icmpv4"
    TcpPktTooSmall "decoder.tcp.pkt_too_small"
    TcpHlenTooSmall "decoder.tcp.hlen_too_small"
    TcpInvalidOptlen "decoder.tcp.invalid_optlen"
    TcpOptInvalidLen "decoder.tcp.opt_invalid_len"
    TcpOptDuplicate "decoder.tcp.opt_duplicate"
    TcpOptWscaleOverMax "decoder.tcp.opt_wscale_over_max"
    UdpPktTooSmall "decoder.udp.pkt_too_small"
    UdpHlenTooSmall "decoder.udp.hlen_too_small"
    UdpHlenInvalid "decoder.udp.hlen_invalid"
    UdpLenInvalid "decoder.udp.len_invalid"
    SllPktTooSmall "decoder.sll.pkt_too_small"
    Sll2PktTooSmall "decoder.sll2.pkt_too_small"
    EthernetPktTooSmall "decoder.ethernet.pkt_too_small"
    EthernetUnknownEthertype "decoder.ethernet.unknown_ethertype"
    PppPktTooSmall "decoder.ppp.pkt_too_small"
    PppVjuPktTooSmall "decoder.ppp.vju_pkt_too_small"
    PppIp4PktTooSmall "decoder.ppp.ip4_pkt_too_small"
    PppIp6PktTooSmall "decoder.ppp.ip6_pkt_too_small"
    PppWrongType "decoder.ppp.wrong_type"
    PppUnsupProto "decoder.ppp.unsup_proto"
    PppoePktTooSmall "decoder.pppoe.pkt_too_small"
    PppoeWrongCode "decoder.pppoe.wrong_code"
    PppoeMalformedTags "decoder.pppoe.malformed_tags"
    GrePktTooSmall "decoder.gre.pkt_too_small"
    GreWrongVersion "decoder.gre.wrong_version"
    GreVersion0Recur "decoder.gre.version0_recur"
    GreVersion0Flags "decoder.gre.version0_flags"
    GreVersion0HdrTooBig "decoder.gre.version0_hdr_too_big"
    GreVersion0MalformedSreHdr "decoder.gre.version0_malformed_sre_hdr"
    GreVersion1Chksum "decoder.gre.version1_chksum"
    GreVersion1Route "decoder.gre.version1_route"
    GreVersion1Ssr "decoder.gre.version1_ssr"
    GreVersion1Recur "decoder.gre.version1_recur"
    GreVersion1Flags "decoder.gre.version1_flags"
    GreVersion1NoKey "decoder.gre.version1_no_key"
    GreVersion1WrongProtocol "decoder.gre.version1_wrong_protocol"
    GreVersion1MalformedSreHdr "decoder.gre.version1_malformed_sre_hdr"
    GreVersion1HdrTooBig "decoder.gre.version1_hdr_too_big"
    VlanHeaderTooSmall "decoder.vlan.header_too_small"
    VlanUnknownType "decoder.vlan.unknown_type"
    VlanTooManyLayers "decoder.vlan.too_many_layers"
    Ieee8021ahHeaderTooSmall "decoder.ieee8021ah.header_too_small"
    VntagHeaderTooSmall "decoder.vntag.header_too_small"
    VntagUnknownType "decoder.vntag.unknown_type"
    EtagHeaderTooSmall "decoder.etag.header_too_small"
    EtagUnknownType "decoder.etag.unknown_type"
    IprawInvalidIpVersion "decoder.ipraw.invalid_ip_version"
    LtnullPktTooSmall "decoder.ltnull.pkt_too_small"
    LtnullUnsupportedType "decoder.ltnull.unsupported_type"
    SctpPktTooSmall "decoder.sctp.pkt_too_small"
    SctpChunkTooSmall "decoder.sctp.chunk_too_small"
    SctpChunkLenInvalid "decoder.sctp.chunk_len_invalid"
    SctpInitChunkBundled "decoder.sctp.init_chunk_bundled"
    SctpInitWithNonZeroVtag "decoder.sctp.init_with_non_zero_vtag"
    SctpDataWithZeroVtag "decoder.sctp.data_with_zero_vtag"
    SctpTooManyChunks "decoder.sctp.too_many_chunks"
    SctpTooManyDataChunks "decoder.sctp.too_many_data_chunks"
    EspPktTooSmall "decoder.esp.pkt_too_small"
    Ipv4FragPktTooLarge "decoder.ipv4.frag_pkt_too_large"
    Ipv6FragPktTooLarge "decoder.ipv6.frag_pkt_too_large"
    Ipv4FragOverlap "decoder.ipv4.frag_overlap"
    Ipv6FragOverlap "decoder.ipv6.frag_overlap"
    Ipv6FragInvalidLength "decoder.ipv6.frag_invalid_length"
    Ipv4FragIgnored "decoder.ipv4.frag_ignored"
    Ipv6FragIgnored "decoder.ipv6.frag_ignored"
    Ipv6Ipv4InIpv6TooSmall "decoder.ipv6.ipv4_in_ipv6_too_small"
    Ipv6Ipv4InIpv6WrongVersion "decoder.ipv6.ipv4_in_ipv6_wrong_version"
    Ipv6Ipv6InIpv6TooSmall "decoder.ipv6.ipv6_in_ipv6_too_small"
    Ipv6Ipv6InIpv6WrongVersion "decoder.ipv6.ipv6_in_ipv6_wrong_version"
    MplsHeaderTooSmall "decoder.mpls.header_too_small"
    MplsPktTooSmall "decoder.mpls.pkt_too_small"
    MplsBadLabelRouterAlert "decoder.mpls.bad_label_router_alert"
    MplsBadLabelImplicitNull "decoder.mpls.bad_label_implicit_null"
    MplsBadLabelReserved "decoder.mpls.bad_label_reserved"
    MplsUnknownPayloadType "decoder.mpls.unknown_payload_type"
    VxlanUnknownPayloadType "decoder.vxlan.unknown_payload_type"
    GeneveUnknownPayloadType "decoder.geneve.unknown_payload_type"
    ErspanHeaderTooSmall "decoder.erspan.header_too_small"
    ErspanUnsupportedVersion "decoder.erspan.unsupported_version"
    ErspanTooManyVlanLayers "decoder.erspan.too_many_vlan_layers"
    DcePktTooSmall "decoder.dce.pkt_too_small"
    ChdlcPktTooSmall "decoder.chdlc.pkt_too_small"
    NshHeaderTooSmall "decoder.nsh.header_too_small"
    NshUnsupportedVersion "decoder.nsh.unsupported_version"
    NshBadHeaderLength "decoder.nsh.bad_header_length"
    NshReservedType "decoder.nsh.reserved_type"
    NshUnsupportedType "decoder.nsh.unsupported_type"
    NshUnknownPayload "decoder.nsh.unknown_payload"
    IgmpPktTooSmall "decoder.igmp.pkt_too_small"
    IgmpV3PktTooSmall "decoder.igmp.v3_pkt_too_small"
    IgmpMalformed "decoder.igmp.malformed"
    TooManyLayers "decoder.too_many_layers"
    Stream3whsAckInWrongDir "stream.3whs_ack_in_wrong_dir"
    Stream3whsAsyncWrongSeq "stream.3whs_async_wrong_seq"
    Stream3whsRightSeqWrongAckEvasion "stream.3whs_right_seq_wrong_ack_evasion"
    Stream3whsSynackInWrongDirection "stream.3whs_synack_in_wrong_direction"
    Stream3whsSynackResendWithDiffAck "stream.3whs_synack_resend_with_diff_ack"
    Stream3whsSynackResendWithDiffSeq "stream.3whs_synack_resend_with_diff_seq"
    Stream3whsSynackToserverOnSynRecv "stream.3whs_synack_toserver_on_syn_recv"
    Stream3whsSynackWithWrongAck "stream.3whs_synack_with_wrong_ack"
    Stream3whsSynackFlood "stream.3whs_synack_flood"
    Stream3whsSynackTfoDataIgnored "stream.3whs_synack_tfo_data_ignored"
    Stream3whsSynResendDiffSeqOnSynRecv "stream.3whs_syn_resend_diff_seq_on_syn_recv"
    Stream3whsSynToclientOnSynRecv "stream.3whs_syn_toclient_on_syn_recv"
    Stream3whsSynFlood "stream.3whs_syn_flood"
    Stream3whsWrongSeqWrongAck "stream.3whs_wrong_seq_wrong_ack"
    Stream3whsAckDataInject "stream.3whs_ack_data_inject"
    Stream4whsSynackWithWrongAck "stream.4whs_synack_with_wrong_ack"
    Stream4whsSynackWithWrongSyn "stream.4whs_synack_with_wrong_syn"
    Stream4whsWrongSeq "stream.4whs_wrong_seq"
    Stream4whsInvalidAck "stream.4whs_invalid_ack"
    StreamClosewaitAckOutOfWindow "stream.closewait_ack_out_of_window"
    StreamClosewaitFinOutOfWindow "stream.closewait_fin_out_of_window"
    StreamClosewaitPktBeforeLastAck "stream.closewait_pkt_before_last_ack"
    StreamClosewaitInvalidAck "stream.closewait_invalid_ack"
    StreamClosingAckWrongSeq "stream.closing_ack_wrong_seq"
    StreamClosingInvalidAck "stream.closing_invalid_ack"
    StreamEstPacketOutOfWindow "stream.est_packet_out_of_window"
    StreamEstPktBeforeLastAck "stream.est_pkt_before_last_ack"
    StreamEstSynackResend "stream.est_synack_resend"
    StreamEstSynackResendWithDiffAck "stream.est_synack_resend_with_diff_ack"
    StreamEstSynackResendWithDiffSeq "stream.est_synack_resend_with_diff_seq"
    StreamEstSynackToserver "stream.est_synack_toserver"
    StreamEstSynResend "stream.est_syn_resend"
    StreamEstSynResendDiffSeq "stream.est_syn_resend_diff_seq"
    StreamEstSynToclient "stream.est_syn_toclient"
    StreamEstInvalidAck "stream.est_invalid_ack"
    StreamEstAckZwpData "stream.est_ack_zwp_data"
    StreamFinInvalidAck "stream.fin_invalid_ack"
    StreamFin1AckWrongSeq "stream.fin1_ack_wrong_seq"
    StreamFin1FinWrongSeq "stream.fin1_fin_wrong_seq"
    StreamFin1InvalidAck "stream.fin1_invalid_ack"
    StreamFin2AckWrongSeq "stream.fin2_ack_wrong_seq"
    StreamFin2FinWrongSeq "stream.fin2_fin_wrong_seq"
    StreamFin2InvalidAck "stream.fin2_invalid_ack"
    StreamFinButNoSession "stream.fin_but_no_session"
    StreamFinOutOfWindow "stream.fin_out_of_window"
    StreamFinSyn "stream.fin_syn"
    StreamLastackAckWrongSeq "stream.lastack_ack_wrong_seq"
    StreamLastackInvalidAck "stream.lastack_invalid_ack"
    StreamRstButNoSession "stream.rst_but_no_session"
    StreamTimewaitAckWrongSeq "stream.timewait_ack_wrong_seq"
    StreamTimewaitInvalidAck "stream.timewait_invalid_ack"
    StreamShutdownSynResend "stream.shutdown_syn_resend"
    StreamPktInvalidTimestamp "stream.pkt_invalid_timestamp"
    StreamPktInvalidAck "stream.pkt_invalid_ack"
    StreamPktBrokenAck "stream.pkt_broken_ack"
    StreamRstInvalidAck "stream.rst_invalid_ack"
    StreamRstWithData "stream.rst_with_data"
    StreamPktRetransmission "stream.pkt_retransmission"
    StreamPktSpuriousRetransmission "stream.pkt_spurious_retransmission"
    StreamPktBadWindowUpdate "stream.pkt_bad_window_update"
    StreamSuspectedRstInject "stream.suspected_rst_inject"
    StreamWrongThread "stream.wrong_thread"
    StreamReassemblySegmentBeforeBaseSeq "stream.reassembly_segment_before_base_seq"
    StreamReassemblyNoSegment "stream.reassembly_no_segment"
    StreamReassemblySeqGap "stream.reassembly_seq_gap"
    StreamReassemblyOverlapDifferentData "stream.reassembly_overlap_different_data"
    StreamReassemblyDepthReached "stream.reassembly_depth_reached"
    StreamReassemblyInsertMemcap "stream.reassembly_insert_memcap"
    StreamReassemblyInsertLimit "stream.reassembly_insert_limit"
    StreamReassemblyInsertInvalid "stream.reassembly_insert_invalid"
    StreamReassemblyUrgentOobLimitReached "stream.reassembly_urgent_oob_limit_reached"
    ArpPktTooSmall "decoder.arp.pkt_too_small"
    ArpUnsupportedHardware "decoder.arp.unsupported_hardware"
    ArpUnsupportedProtocol "decoder.arp.unsupported_protocol"
    ArpInvalidPkt "decoder.arp.invalid_pkt"
    ArpInvalidHardwareSize "decoder.arp.invalid_hardware_size"
    ArpInvalidProtocolSize "decoder.arp.invalid_protocol_size"
    ArpUnsupportedOpcode "decoder.arp.unsupported_opcode"
    ApplayerMismatchProtocolBothDirections "applayer_mismatch_protocol_both_directions"
    ApplayerWrongDirectionFirstData "applayer_wrong_direction_first_data"
    ApplayerDetectProtocolOnlyOneDirection "applayer_detect_protocol_only_one_direction"
    ApplayerProtoDetectionSkipped "applayer_proto_detection_skipped"
    ApplayerNoTlsAfterStarttls "applayer_no_tls_after_starttls"
    ApplayerUnexpectedProtocol "applayer_unexpected_protocol"
}

impl Event {
    /// By its full name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.name() == name)
    }
}

/// A set of [`Event`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events([u64; WORDS]);

/// 64 events each.
const WORDS: usize = 4;
const _: () = assert!(Event::ALL.len() <= WORDS * 64);

impl Events {
    /// Adds `event`.
    pub const fn set(&mut self, event: Event) {
        let bit = event as usize;
        // The bit is below 256 by the assertion above.
        #[expect(clippy::indexing_slicing, reason = "WORDS covers every event")]
        {
            self.0[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether `event` is in the set.
    #[must_use]
    pub fn has(&self, event: Event) -> bool {
        let bit = event as usize;
        self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }

    /// Those that are set.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        Event::ALL.iter().copied().filter(|event| self.has(*event))
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Events};

    #[test]
    fn every_event_has_its_own_bit_and_name() {
        for event in Event::ALL {
            let mut events = Events::default();
            events.set(*event);
            assert_eq!(events.iter().collect::<Vec<_>>(), [*event]);
            assert_eq!(Event::from_name(event.name()), Some(*event));
        }
    }
}
