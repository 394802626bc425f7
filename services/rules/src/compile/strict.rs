//! What Suricata refuses by the form of options alone: words where none are read, numbers out of
//! range, options twice, words that exclude each other. Whoever writes rules learns here, too, that
//! one of them would not load there.
//!
//! Nothing is built here; what is said of a value that passes is said by the rest of `compile`.

use super::{Done, fault};
use crate::syntax::{Item, RawRule};

/// Keywords that take no value.
const BARE: &[&str] = &[
    "base64_data",
    "compress_whitespace",
    "dotprefix",
    "endswith",
    "header_lowercase",
    "noalert",
    "nocase",
    "rawbytes",
    "sameip",
    "startswith",
    "strip_pseudo_headers",
    "strip_whitespace",
    "tls.store",
    "tls_cert_expired",
    "tls_cert_valid",
    "tls_store",
    "to_lowercase",
    "to_md5",
    "to_sha1",
    "to_sha256",
    "to_uppercase",
    "url_decode",
];
/// Keywords that need one.
const VALUED: &[&str] =
    &["classtype", "flags", "fragbits", "metadata", "msg", "pcrexform", "reference", "tcp.flags"];
/// Keywords whose value is in quotes.
const QUOTED: &[&str] =
    &["content", "msg", "pcrexform", "tls.issuerdn", "tls.subject", "uricontent", "xor"];
/// Keywords that may be there once.
const ONCE: &[&str] = &["detection_filter", "msg", "rev", "sid", "threshold"];
/// The greatest number of keywords that compare one.
const GREATEST: &[(&str, u64)] = &[
    ("dns.opcode", 0xff),
    ("dns.rcode", 0xffff),
    ("dsize", 0xffff),
    ("flow.age", 0xffff_ffff),
    ("flow.pkts_toclient", 0xffff_ffff),
    ("flow.pkts_toserver", 0xffff_ffff),
    ("http2.priority", 0xff),
    ("http2.window", 0xffff_ffff),
    ("icmpv6.mtu", 0xffff_ffff),
    ("icode", 0xff),
    ("itype", 0xff),
    ("tcp.mss", 0xffff),
    ("tcp.wscale", 0xff),
    ("tls.cert_chain_len", 0xffff_ffff),
    ("ttl", 0xff),
];
/// Keywords whose numbers have no sign.
const UNSIGNED: &[&str] = &["fragoffset", "icmp_id", "icmp_seq", "id", "priority", "tos", "window"];
/// Farthest places of a content.
const PLACE_MAX: i64 = 0xffff;
const STEP_MAX: i64 = 1 << 20;

/// Refuses what Suricata does.
pub(super) fn check(raw: &RawRule) -> Done {
    let mut before: Vec<&Item> = Vec::new();
    for item in &raw.options {
        let (name, text) = (item.name.as_str(), item.value.as_deref().unwrap_or_default().trim());
        if BARE.contains(&name) && !text.is_empty() {
            return Err(fault(name, "takes no value"));
        }
        if VALUED.contains(&name) && text.is_empty() {
            return Err(fault(name, "needs a value"));
        }
        if QUOTED.contains(&name) {
            let inner = text.strip_prefix('!').unwrap_or(text).trim_start();
            let inner = inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
            let inner = inner.ok_or_else(|| fault(name, "value is not in quotes"))?;
            escapes(name, inner)?;
        }
        if ONCE.contains(&name) && before.iter().any(|known| known.name == name) {
            return Err(fault(name, "twice"));
        }
        number(name, text)?;
        modifier(name, text, &before)?;
        word(name, text, raw, &before)?;
        before.push(item);
    }
    Ok(())
}

/// Quotes and backslashes within quotes are written with a backslash.
fn escapes(name: &str, inner: &str) -> Done {
    if inner.is_empty() && name != "xor" {
        return Err(fault(name, "is empty"));
    }
    if !matches!(name, "content" | "uricontent") {
        return Ok(());
    }
    let mut is_escaped = false;
    for letter in inner.chars() {
        match letter {
            '\\' | '"' | ';' | ':' | '|' if is_escaped => is_escaped = false,
            _ if is_escaped => return Err(fault(name, "a backslash is written as two")),
            '\\' => is_escaped = true,
            '"' => return Err(fault(name, "a quote within quotes needs a backslash")),
            _ => {}
        }
    }
    Ok(())
}

fn number(name: &str, text: &str) -> Done {
    let known = GREATEST.iter().find(|(known, _)| *known == name);
    if (known.is_some() || UNSIGNED.contains(&name)) && text.starts_with('+') {
        return Err(fault(name, "no number"));
    }
    let Some((_, greatest)) = known else { return Ok(()) };
    let digits = |text: &str| text.trim().parse::<u64>().ok();
    let first = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(text.len());
    let (sign, rest) = text.split_at(first);
    let (low, high) = rest.split_once("<>").or_else(|| rest.split_once('-')).unwrap_or((rest, ""));
    let is_out = digits(low).is_some_and(|low| low > *greatest)
        || digits(high).is_some_and(|high| high > *greatest)
        || matches!((sign.trim(), digits(low)), ("<", Some(0)))
        || matches!((sign.trim(), digits(low)), (">", Some(low)) if low >= *greatest);
    if is_out { Err(fault(name, format!("{text:?} is out of range"))) } else { Ok(()) }
}

/// The modifiers of the last content, and the content's value.
fn last<'a>(before: &[&'a Item]) -> Option<(&'a str, Vec<(&'a str, &'a str)>)> {
    let at = before.iter().rposition(|item| matches!(item.name.as_str(), "content" | "uricontent"));
    let (content, rest) = before.get(at?..)?.split_first()?;
    let rest = rest
        .iter()
        .map(|item| (item.name.as_str(), item.value.as_deref().unwrap_or_default().trim()));
    Some((content.value.as_deref().unwrap_or_default(), rest.collect()))
}

fn modifier(name: &str, text: &str, before: &[&Item]) -> Done {
    let is_place = matches!(name, "depth" | "offset" | "distance" | "within");
    if !is_place && !matches!(name, "startswith" | "nocase" | "rawbytes" | "fast_pattern") {
        return Ok(());
    }
    let Some((content, own)) = last(before) else {
        return if name == "rawbytes" { Err(fault(name, "no content before it")) } else { Ok(()) };
    };
    let has = |wanted: &str| own.iter().any(|(known, _)| *known == wanted);
    let is_only = own.contains(&("fast_pattern", "only"));
    if is_place {
        let max = if matches!(name, "depth" | "offset") { PLACE_MAX } else { STEP_MAX };
        if text.parse::<i64>().is_ok_and(|number| number.abs() > max) {
            return Err(fault(name, format!("{text} is out of range")));
        }
        if is_only {
            return Err(fault(name, "not with fast_pattern:only"));
        }
        let is_relative = matches!(name, "distance" | "within");
        if has("startswith") {
            return Err(fault(name, "not with startswith"));
        }
        let is_absolute = has("depth") || has("offset");
        let is_mixed = if is_relative { is_absolute } else { has("distance") || has("within") };
        if is_mixed {
            return Err(fault(name, "a place is absolute or relative"));
        }
    }
    let is_twice = matches!(name, "nocase" | "rawbytes" | "fast_pattern") || is_place;
    if is_twice && has(name) {
        return Err(fault(name, "twice for one content"));
    }
    if name == "fast_pattern" && text == "only" {
        let is_placed = ["depth", "offset", "distance", "within"].iter().any(|name| has(name));
        if content.trim_start().starts_with('!') || is_placed {
            return Err(fault(name, "only: not for what is negated or has a place"));
        }
    }
    Ok(())
}

fn word(name: &str, text: &str, raw: &RawRule, before: &[&Item]) -> Done {
    let words = || text.split(',').map(str::trim);
    match name {
        "flow" => flow(name, text),
        "flowint" => {
            let variable = words().next().unwrap_or_default();
            let is_name =
                variable.len() > 1 && variable.starts_with(|c: char| c.is_ascii_alphabetic());
            if is_name { Ok(()) } else { Err(fault(name, "a name has two letters or more")) }
        }
        "flowbits" => {
            let bit = text.split_once(',').map_or("", |(_, bit)| bit.trim());
            let has_blank = bit.split(['|', '&']).any(|bit| bit.trim().contains(' '));
            if has_blank || bit.len() > 255 { Err(fault(name, "no name")) } else { Ok(()) }
        }
        "xbits" => {
            let expire = words().find_map(|word| {
                word.strip_prefix("expire").filter(|rest| rest.starts_with(char::is_whitespace))
            });
            let expire = expire.map(|expire| expire.trim().parse::<u32>().unwrap_or(0));
            if expire == Some(0) { Err(fault(name, "expires at once")) } else { Ok(()) }
        }
        "isdataat" => {
            let mut words = words();
            let number = words.next().unwrap_or_default().trim_start_matches('!').trim();
            let is_far = number.parse::<i64>().is_ok_and(|number| number > PLACE_MAX);
            // `rawbytes` comes behind `relative`.
            let is_odd = words.next() == Some("rawbytes");
            if is_far || is_odd { Err(fault(name, format!("{text:?}"))) } else { Ok(()) }
        }
        "ip_proto"
            if !matches!(
                raw.protocol.as_str(),
                "ip" | "ipv4" | "ipv6" | "ip4" | "ip6" | "pkthdr"
            ) =>
        {
            Err(fault(name, "only under ip"))
        }
        "ip_proto" if text.contains("=") => Err(fault(name, "no comparison")),
        "threshold" => {
            let has = |key: &str, value: &str| {
                words().any(|word| {
                    let mut parts = word.split_whitespace();
                    (parts.next(), parts.next()) == (Some(key), Some(value))
                })
            };
            if !has("type", "backoff") {
                return Ok(());
            }
            let is_small = has("multiplier", "0") || has("multiplier", "1");
            if is_small || !has("track", "by_flow") {
                return Err(fault(name, "backoff is by flow and grows"));
            }
            Ok(())
        }
        "detection_filter" => {
            let is_wrong = words().any(|word| {
                let mut parts = word.split_whitespace();
                matches!(
                    (parts.next(), parts.next()),
                    (Some("track"), Some("by_both" | "by_rule")) | (Some("seconds"), Some("0"))
                )
            });
            if is_wrong {
                Err(fault(name, "by_src, by_dst or by_flow, and some seconds"))
            } else {
                Ok(())
            }
        }
        "target"
            if before
                .iter()
                .any(|item| item.name == "target" && item.value.as_deref() != Some(text)) =>
        {
            Err(fault(name, "both ends"))
        }
        "reference" if !text.contains(',') => Err(fault(name, "needs system, id")),
        "prefilter" if before.is_empty() => Err(fault(name, "nothing before it")),
        "tls.version" if text.contains(['"', '!', ',']) => Err(fault(name, "one version")),
        "ssl_version" => {
            let known: Vec<&str> = words().collect();
            let negated = known.iter().filter(|word| word.starts_with('!')).count();
            let is_twice = known
                .iter()
                .enumerate()
                .any(|(at, word)| known.iter().skip(at + 1).any(|own| own == word));
            if is_twice || negated > 1 || (negated == 1 && !text.starts_with('!')) {
                return Err(fault(name, "no list of versions"));
            }
            Ok(())
        }
        "app-layer-protocol" => app_protocol(name, text, before),
        "base64_data" if !before.iter().any(|item| item.name == "base64_decode") => {
            Err(fault(name, "no base64_decode before it"))
        }
        "base64_decode" => {
            let is_late = words().skip(1).any(|word| word.starts_with("bytes"));
            let is_far = words().any(|word| {
                let number = word.strip_prefix("bytes").unwrap_or_default().trim();
                number.parse::<i64>().is_ok_and(|number| number > PLACE_MAX)
            });
            if is_far || is_late { Err(fault(name, "bytes first")) } else { Ok(()) }
        }
        "byte_test" | "byte_jump" | "byte_extract" | "byte_math" => bytes(name, text),
        "pcre" => {
            let flags = text.rsplit('/').next().unwrap_or_default();
            let buffers = flags.split(',').next().unwrap_or_default();
            let count = buffers.chars().filter(|letter| "UIPQHDMCSYVWZ".contains(*letter)).count();
            if count > 1 { Err(fault(name, "more than one buffer")) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn flow(name: &str, text: &str) -> Done {
    let mut groups = [0_u8; 5];
    for (count, word) in text.split(',').map(str::trim).enumerate() {
        let word = word.to_ascii_lowercase();
        let group = match word.as_str() {
            "to_server" | "from_client" | "to_client" | "from_server" => 0,
            "established" | "not_established" | "stateless" => 1,
            "only_stream" | "no_stream" => 2,
            "only_frag" | "no_frag" => 3,
            _ => 4,
        };
        if let Some(seen) = groups.get_mut(group) {
            *seen += 1;
        }
        if count > 2 || (group < 4 && groups.get(group).is_some_and(|seen| *seen > 1)) {
            return Err(fault(name, format!("{word:?} does not go with what is before it")));
        }
    }
    Ok(())
}

fn app_protocol(name: &str, text: &str, before: &[&Item]) -> Done {
    let is_negated = text.starts_with('!');
    let proto = text.trim_start_matches('!').split(',').next().unwrap_or_default().trim();
    if is_negated && proto == "unknown" {
        return Err(fault(name, "what is unknown can't be excluded"));
    }
    let mut others = before.iter().filter(|item| item.name == name);
    let is_mixed = others.any(|item| {
        !is_negated || !item.value.as_deref().unwrap_or_default().trim().starts_with('!')
    });
    if is_mixed { Err(fault(name, "another one excludes it")) } else { Ok(()) }
}

fn bytes(name: &str, text: &str) -> Done {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let has = |wanted: &str| words.contains(&wanted);
    let is_based = has("hex") || has("dec") || has("oct");
    let far = |word: Option<&&str>, max: i64| {
        word.is_some_and(|word| word.parse::<i64>().is_ok_and(|number| number.abs() > max))
    };
    let number = |key: &str| {
        words.iter().find_map(|word| word.strip_prefix(key)?.trim().parse::<i64>().ok())
    };
    let is_wrong = match name {
        "byte_test" => {
            let operator = words.get(1).map(|word| word.trim_start_matches('!').trim());
            let mask = words.iter().find_map(|word| word.strip_prefix("bitmask"));
            is_based && !has("string")
                || operator == Some("==")
                || mask.is_some_and(|mask| !mask.trim().to_ascii_lowercase().starts_with("0x"))
        }
        "byte_jump" => {
            is_based && !has("string")
                || far(words.get(1), PLACE_MAX)
                || number("post_offset").is_some_and(|number| number.abs() > PLACE_MAX)
                || number("multiplier").is_some_and(|number| !(1..=PLACE_MAX).contains(&number))
                || has("from_beginning") && has("from_end")
                || words
                    .iter()
                    .any(|word| word.starts_with("align ") || word.starts_with("bitmask"))
        }
        "byte_extract" => {
            let digits = words.first().and_then(|word| word.parse::<i64>().ok());
            words.iter().any(|word| word.starts_with("bitmask"))
                || far(words.get(1), PLACE_MAX - 1)
                || has("string") && digits.is_some_and(|count| count > 20)
        }
        _ => {
            number("bytes") == Some(0)
                || number("offset").is_some_and(|number| number.abs() > PLACE_MAX)
                || number("rvalue").is_some_and(|number| number < 0)
        }
    };
    if is_wrong { Err(fault(name, format!("{text:?}"))) } else { Ok(()) }
}
