//! Names of application protocols.

/// A protocol that detection can name; parsers exist for some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// HTTP/1.
    Http1,
    /// HTTP/2 in the clear (prior knowledge or upgrade).
    Http2,
    /// HTTP/2 that carries DNS.
    Doh2,
    /// DNS.
    Dns,
    /// Multicast DNS.
    Mdns,
    /// SSL and TLS.
    Tls,
    /// SSH.
    Ssh,
    /// SMTP.
    Smtp,
    /// QUIC.
    Quic,
    /// DHCP.
    Dhcp,
    /// SMB.
    Smb,
    /// DCE/RPC over TCP.
    Dcerpc,
    /// FTP, control connection.
    Ftp,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// RDP.
    Rdp,
    /// NTP.
    Ntp,
    /// TFTP.
    Tftp,
    /// SIP.
    Sip,
    /// SNMP.
    Snmp,
    /// Kerberos.
    Krb5,
    /// IKE.
    Ike,
    /// MQTT.
    Mqtt,
    /// PostgreSQL.
    Pgsql,
    /// RFB (VNC).
    Rfb,
    /// NFS.
    Nfs,
    /// LDAP.
    Ldap,
    /// Modbus.
    Modbus,
    /// EtherNet/IP.
    Enip,
    /// DNP3.
    Dnp3,
    /// BitTorrent's DHT.
    BittorrentDht,
    /// `WebSocket` after its upgrade.
    Websocket,
    /// Telnet.
    Telnet,
    /// SOCKS.
    Socks,
    /// XMPP.
    Xmpp,
    /// None: what the bytes of one direction are while those of the other one are known.
    Failed,
}

/// Every protocol with the name that Suricata's rules and EVE use.
const NAMES: &[(Proto, &str)] = &[
    (Proto::Http1, "http"),
    (Proto::Http2, "http2"),
    (Proto::Doh2, "doh2"),
    (Proto::Dns, "dns"),
    (Proto::Mdns, "mdns"),
    (Proto::Tls, "tls"),
    (Proto::Ssh, "ssh"),
    (Proto::Smtp, "smtp"),
    (Proto::Quic, "quic"),
    (Proto::Dhcp, "dhcp"),
    (Proto::Smb, "smb"),
    (Proto::Dcerpc, "dcerpc"),
    (Proto::Ftp, "ftp"),
    (Proto::Imap, "imap"),
    (Proto::Pop3, "pop3"),
    (Proto::Rdp, "rdp"),
    (Proto::Ntp, "ntp"),
    (Proto::Tftp, "tftp"),
    (Proto::Sip, "sip"),
    (Proto::Snmp, "snmp"),
    (Proto::Krb5, "krb5"),
    (Proto::Ike, "ike"),
    (Proto::Mqtt, "mqtt"),
    (Proto::Pgsql, "pgsql"),
    (Proto::Rfb, "rfb"),
    (Proto::Nfs, "nfs"),
    (Proto::Ldap, "ldap"),
    (Proto::Modbus, "modbus"),
    (Proto::Enip, "enip"),
    (Proto::Dnp3, "dnp3"),
    (Proto::BittorrentDht, "bittorrent-dht"),
    (Proto::Websocket, "websocket"),
    (Proto::Telnet, "telnet"),
    (Proto::Socks, "socks"),
    (Proto::Xmpp, "xmpp"),
];

impl Proto {
    /// Suricata's name in EVE (`http` for HTTP/1).
    #[must_use]
    pub fn name(self) -> &'static str {
        if self == Self::Failed {
            return "failed";
        }
        NAMES.iter().find(|(proto, _)| *proto == self).map_or("unknown", |(_, name)| name)
    }

    /// From the name in a rule (`http1`, `ikev2` included).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "http1" => Some(Self::Http1),
            "ssl" => Some(Self::Tls),
            "ikev2" => Some(Self::Ike),
            _ => NAMES.iter().find(|(_, known)| *known == name).map(|(proto, _)| *proto),
        }
    }
}
