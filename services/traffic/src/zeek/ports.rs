//! Ports that Zeek takes for those of servers (`likely_server_ports` of its standard scripts): they
//! tell the responder where no SYN does.

/// TCP.
pub(super) const fn is_tcp(port: u16) -> bool {
    matches!(
        port,
        21 | 22
            | 25
            | 53
            | 80
            | 81
            | 88
            | 135
            | 139
            | 143
            | 389
            | 443
            | 445
            | 465
            | 502
            | 513
            | 514
            | 563
            | 585
            | 587
            | 614
            | 631
            | 636
            | 989
            | 990
            | 992
            | 993
            | 995
            | 1080
            | 1434
            | 1812
            | 1883
            | 2811
            | 3128
            | 3268
            | 3306
            | 3389
            | 5060
            | 5061
            | 5072
            | 5222
            | 5223
            | 5269
            | 5432
            | 6666
            | 6667
            | 6668
            | 6669
            | 6379
            | 8000
            | 8080
            | 8443
            | 8888
            | 20000
    )
}

/// UDP.
pub(super) const fn is_udp(port: u16) -> bool {
    matches!(
        port,
        53 | 67
            | 68
            | 88
            | 123
            | 137
            | 161
            | 162
            | 389
            | 443
            | 514
            | 1812
            | 2152
            | 2123
            | 3389
            | 3544
            | 4789
            | 5060
            | 5072
            | 5353
            | 5355
            | 6081
            | 20000
            | 4011
    )
}
