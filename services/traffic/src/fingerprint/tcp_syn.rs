//! TCP SYN fingerprint in p0f's notation: `ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass`.

/// A TCP option as far as the layout needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// End of options, with so many bytes of padding behind it.
    Eol(u8),
    /// No operation.
    Nop,
    /// Maximum segment size.
    Mss(u16),
    /// Window scale.
    WindowScale(u8),
    /// Selective acknowledgement permitted.
    SackPermitted,
    /// Selective acknowledgement.
    Sack,
    /// Timestamps: own, echoed.
    Timestamps(u32, u32),
    /// Any other kind.
    Other(u8),
}

/// Oddities of headers, p0f's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// `df`: don't fragment is set (IPv4).
    pub has_df: bool,
    /// The IPv4 id is not zero (`id+` with `df`, `id-` if zero without).
    pub has_nonzero_id: bool,
    /// `ecn`: ECN bits or flags are used.
    pub has_ecn: bool,
    /// `0+`: the must-be-zero bit of IPv4 is set.
    pub has_reserved: bool,
    /// `flow`: IPv6 flow label is not zero.
    pub has_flow_label: bool,
    /// `seq-`: sequence number is zero.
    pub has_zero_seq: bool,
    /// `ack+`: acknowledgement number is not zero though the flag is not set.
    pub has_stray_ack: bool,
    /// `uptr+`: urgent pointer is not zero though the flag is not set.
    pub has_stray_urgent: bool,
    /// `urgf+`: urgent flag.
    pub has_urgent: bool,
    /// `pushf+`: push flag.
    pub has_push: bool,
    /// `bad`: options do not parse.
    pub has_bad_options: bool,
}

/// What the fingerprint is made of.
#[derive(Clone, Copy, Debug)]
pub struct SynFields<'a> {
    /// 4 or 6.
    pub ip_version: u8,
    /// TTL or hop limit as seen.
    pub ttl: u8,
    /// Bytes of IPv4 options or IPv6 extension headers.
    pub ip_options_bytes: u8,
    /// Window as in the header.
    pub window: u16,
    /// Options in order.
    pub options: &'a [TcpOption],
    /// Oddities.
    pub quirks: Quirks,
    /// Payload with the SYN.
    pub has_payload: bool,
}

/// The fingerprint of a SYN, e.g. `4:64+0:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0`.
#[must_use]
pub fn tcp_syn(fields: SynFields<'_>) -> String {
    let mss = fields.options.iter().find_map(|option| match option {
        TcpOption::Mss(mss) => Some(*mss),
        _ => None,
    });
    let scale = fields.options.iter().find_map(|option| match option {
        TcpOption::WindowScale(scale) => Some(*scale),
        _ => None,
    });
    let initial = initial_ttl(fields.ttl);
    let mss_text = mss.map_or_else(|| "*".to_owned(), |mss| mss.to_string());
    let scale_text = scale.map_or_else(|| "*".to_owned(), |scale| scale.to_string());
    format!(
        "{}:{}+{}:{}:{mss_text}:{},{scale_text}:{}:{}:{}",
        fields.ip_version,
        fields.ttl,
        initial - fields.ttl,
        fields.ip_options_bytes,
        window(fields.window, mss),
        layout(fields.options),
        quirks(fields),
        if fields.has_payload { '+' } else { '0' },
    )
}

/// The usual initial value at or above a TTL as seen.
const fn initial_ttl(ttl: u8) -> u8 {
    match ttl {
        0..=32 => 32,
        33..=64 => 64,
        65..=128 => 128,
        _ => 255,
    }
}

/// `mss*N` where the window is a multiple of the segment size, else the number.
fn window(window: u16, mss: Option<u16>) -> String {
    match mss {
        Some(mss) if mss >= 100 && window > 0 && window.is_multiple_of(mss) => {
            format!("mss*{}", window / mss)
        }
        _ => window.to_string(),
    }
}

fn layout(options: &[TcpOption]) -> String {
    let names = options.iter().map(|option| match option {
        TcpOption::Eol(padding) => format!("eol+{padding}"),
        TcpOption::Nop => "nop".to_owned(),
        TcpOption::Mss(_) => "mss".to_owned(),
        TcpOption::WindowScale(_) => "ws".to_owned(),
        TcpOption::SackPermitted => "sok".to_owned(),
        TcpOption::Sack => "sack".to_owned(),
        TcpOption::Timestamps(..) => "ts".to_owned(),
        TcpOption::Other(kind) => format!("?{kind}"),
    });
    names.collect::<Vec<_>>().join(",")
}

fn quirks(fields: SynFields<'_>) -> String {
    let quirks = fields.quirks;
    let is_v4 = fields.ip_version == 4;
    let (mut zero_own, mut nonzero_echo, mut large_scale) = (false, false, false);
    for option in fields.options {
        match option {
            TcpOption::Timestamps(own, echoed) => {
                zero_own |= *own == 0;
                nonzero_echo |= *echoed != 0;
            }
            TcpOption::WindowScale(scale) => large_scale |= *scale > 14,
            _ => {}
        }
    }
    let named = [
        (is_v4 && quirks.has_df, "df"),
        (is_v4 && quirks.has_df && quirks.has_nonzero_id, "id+"),
        (is_v4 && !quirks.has_df && !quirks.has_nonzero_id, "id-"),
        (quirks.has_ecn, "ecn"),
        (quirks.has_reserved, "0+"),
        (quirks.has_flow_label, "flow"),
        (quirks.has_zero_seq, "seq-"),
        (quirks.has_stray_ack, "ack+"),
        (quirks.has_stray_urgent, "uptr+"),
        (quirks.has_urgent, "urgf+"),
        (quirks.has_push, "pushf+"),
        (zero_own, "ts1-"),
        (nonzero_echo, "ts2+"),
        (large_scale, "exws"),
        (quirks.has_bad_options, "bad"),
    ];
    let present: Vec<&str> =
        named.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
    present.join(",")
}

#[cfg(test)]
mod tests {
    use super::{Quirks, SynFields, TcpOption, tcp_syn};

    #[test]
    fn a_linux_syn_reads_as_p0f_writes_it() {
        let options = [
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps(77, 0),
            TcpOption::Nop,
            TcpOption::WindowScale(7),
        ];
        let fields = SynFields {
            ip_version: 4,
            ttl: 61,
            ip_options_bytes: 0,
            window: 64_240,
            options: &options,
            quirks: Quirks { has_df: true, has_nonzero_id: true, ..Quirks::default() },
            has_payload: false,
        };
        assert_eq!(tcp_syn(fields), "4:61+3:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0");
    }

    #[test]
    fn odd_ones_show() {
        let fields = SynFields {
            ip_version: 6,
            ttl: 255,
            ip_options_bytes: 8,
            window: 0,
            options: &[TcpOption::Other(254), TcpOption::Eol(2)],
            quirks: Quirks { has_zero_seq: true, has_push: true, ..Quirks::default() },
            has_payload: true,
        };
        assert_eq!(tcp_syn(fields), "6:255+0:8:*:0,*:?254,eol+2:seq-,pushf+:+");
    }
}
