//! Identity of a rule, limits on its alerts, bits and numbers that it reads and writes.

use super::{Builder, Done, RuleError, fault};
use crate::{
    rule::{IntCompare, IntTest, IntValue, Owner, Post, Target, Test},
    syntax,
    tags::Tag,
    threshold::{Distinct, Kind, Limit, Track},
};

impl Builder<'_, '_> {
    pub(super) fn meta_option(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<bool, RuleError> {
        let text = value.unwrap_or_default().trim();
        let number = || text.trim_matches('"').parse::<u32>().map_err(|_| fault(name, "no number"));
        match name {
            "msg" => self.message = syntax::unescape(syntax::quoted(text).1),
            "sid" => self.sid = number()?,
            "rev" => self.rev = number()?,
            "gid" => self.gid = number()?,
            "priority" => {
                let value = number()?;
                self.priority = Some(u8::try_from(value).map_err(|_| fault(name, "above 255"))?);
            }
            "classtype" => self.class(text),
            "reference" => self.reference(text),
            "metadata" => {
                for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                    let (key, value) = part.split_once(' ').unwrap_or((part, ""));
                    self.metadata.push((key.to_owned(), value.trim().to_owned()));
                }
            }
            "target" => {
                self.target = Some(match text {
                    "src_ip" => Target::Source,
                    "dest_ip" => Target::Destination,
                    _ => return Err(fault(name, "neither src_ip nor dest_ip")),
                });
            }
            "noalert" => self.is_silent = true,
            "alert" => self.is_silent = false,
            "bypass" => self.post.push(Post::Bypass),
            "nfq_set_mark" => {}
            "tag" => {
                let tag = Tag::parse(text).ok_or_else(|| fault(name, "needs what, count, unit"))?;
                self.post.push(Post::Tag(tag));
            }
            "requires" => requires(text, self.context.config.is_ja4_off)?,
            "flowbits" => self.flowbits(name, text)?,
            "xbits" => self.xbits(name, text)?,
            "hostbits" => self.hostbits(name, text)?,
            "flowint" => self.flowint(name, text)?,
            "flowvar" => {
                let (variable, value) =
                    text.split_once(',').ok_or_else(|| fault(name, "needs name, value"))?;
                let value = syntax::pattern(syntax::quoted(value.trim()).1)
                    .ok_or_else(|| fault(name, "no value"))?;
                self.tests.push(Test::FlowVar { name: variable.trim().to_owned(), value });
            }
            "threshold" => self.limit = Some(limit(name, text)?),
            "detection_filter" => self.filter = Some(filter(name, text)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn class(&mut self, text: &str) {
        if let Some((description, priority)) = self.context.config.classes.get(text) {
            self.category = self.context.groups.text(description);
            self.class_priority = Some(*priority);
        }
    }

    fn reference(&mut self, text: &str) {
        let (system, id) = text.split_once(',').unwrap_or((text, ""));
        let prefix = self.context.config.references.get(system.trim());
        self.references.push(match prefix {
            Some(prefix) => format!("{prefix}{}", id.trim()),
            None => format!("{},{}", system.trim(), id.trim()),
        });
    }

    fn flowbits(&mut self, name: &str, text: &str) -> Done {
        let (command, names) = text.split_once(',').unwrap_or((text, ""));
        let names: Vec<&str> = names.split('|').map(str::trim).filter(|n| !n.is_empty()).collect();
        if command.trim() == "noalert" {
            self.is_silent = true;
            return Ok(());
        }
        if names.is_empty() {
            return Err(fault(name, "needs a name"));
        }
        let bits = self.bits(Owner::Flow, "flowbits", &names, 0);
        self.bit_command(name, command.trim(), bits)
    }

    fn bit_command(&mut self, name: &str, command: &str, bits: crate::rule::Bits) -> Done {
        match command {
            "isset" => self.tests.push(Test::Bits { bits, is_set: true }),
            "isnotset" => self.tests.push(Test::Bits { bits, is_set: false }),
            "set" => self.post.push(Post::Set(bits)),
            "unset" => self.post.push(Post::Unset(bits)),
            "toggle" => self.post.push(Post::Toggle(bits)),
            _ => return Err(fault(name, format!("{command:?} is unknown"))),
        }
        Ok(())
    }

    fn xbits(&mut self, name: &str, text: &str) -> Done {
        let mut parts = text.split(',').map(str::trim);
        let command = parts.next().unwrap_or_default();
        if command == "noalert" {
            self.is_silent = true;
            return Ok(());
        }
        let bit = parts.next().unwrap_or_default();
        let (mut owner, mut expire_s) = (None, 30);
        for word in parts {
            let (key, value) = word.split_once(' ').unwrap_or((word, ""));
            match (key, value.trim()) {
                ("track", "ip_src") => owner = Some(Owner::Source),
                ("track", "ip_dst") => owner = Some(Owner::Destination),
                ("track", "ip_pair") => owner = Some(Owner::Pair),
                ("track", "tx") => owner = Some(Owner::Tx),
                ("expire", value) => {
                    expire_s = value.parse().map_err(|_| fault(name, "no time"))?;
                }
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        let owner = owner.ok_or_else(|| fault(name, "needs track"))?;
        let bits = crate::rule::Bits {
            is_written_last: true,
            ..self.bits(owner, "xbits", &[bit], expire_s)
        };
        self.bit_command(name, command, bits)
    }

    fn hostbits(&mut self, name: &str, text: &str) -> Done {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (command, bit, side) = match parts.as_slice() {
            [command, bit] => (*command, *bit, "src"),
            [command, bit, side] => (*command, *bit, *side),
            ["noalert"] => {
                self.is_silent = true;
                return Ok(());
            }
            _ => return Err(fault(name, "needs command, name")),
        };
        let owner = match side {
            "src" => Owner::Source,
            "dst" => Owner::Destination,
            "both" => return Err(fault(name, "both is not supported")),
            _ => return Err(fault(name, format!("{side:?} is unknown"))),
        };
        let bits = self.bits(owner, "xbits", &[bit], 0);
        self.bit_command(name, command, bits)
    }

    fn flowint(&mut self, name: &str, text: &str) -> Done {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [variable, operator, rest @ ..] = parts.as_slice() else {
            return Err(fault(name, "needs name, operator"));
        };
        let number = self.context.names.number("flowint", variable);
        match *operator {
            "isset" => self.tests.push(Test::FlowInt { name: number, test: IntTest::IsSet }),
            "notset" | "isnotset" => {
                self.tests.push(Test::FlowInt { name: number, test: IntTest::IsNotSet });
            }
            _ => {
                let operand = rest.first().ok_or_else(|| fault(name, "needs a value"))?;
                let value = match operand.parse() {
                    Ok(value) => IntValue::Number(value),
                    Err(_) => IntValue::Variable(self.context.names.number("flowint", operand)),
                };
                let compare = match *operator {
                    "<" => IntCompare::Less,
                    "<=" => IntCompare::LessEqual,
                    "==" => IntCompare::Equal,
                    "!=" => IntCompare::NotEqual,
                    ">=" => IntCompare::GreaterEqual,
                    ">" => IntCompare::Greater,
                    "=" => {
                        self.post.push(Post::IntSet(number, value));
                        return Ok(());
                    }
                    "+" => {
                        self.post.push(Post::IntAdd(number, value));
                        return Ok(());
                    }
                    "-" => {
                        self.post.push(Post::IntSubtract(number, value));
                        return Ok(());
                    }
                    other => return Err(fault(name, format!("operator {other:?} is unknown"))),
                };
                let test = IntTest::Compare(compare, value);
                self.tests.push(Test::FlowInt { name: number, test });
            }
        }
        Ok(())
    }
}

fn requires(text: &str, is_ja4_off: bool) -> Result<(), RuleError> {
    for part in text.split(',').map(str::trim) {
        let (key, value) = part.split_once(' ').unwrap_or((part, ""));
        let is_met = match key {
            "version" => version_fits(value.trim()),
            "keyword" => super::super::keywords::is_known(value.trim()),
            // JA3 and JA4 are features of Suricata's build; here they are always there.
            "feature" => match value.trim() {
                "ja3" => true,
                "ja4" => !is_ja4_off,
                _ => false,
            },
            _ => false,
        };
        if !is_met {
            return Err(RuleError::Requires(part.to_owned()));
        }
    }
    Ok(())
}

/// Which Suricata the language is that of.
const VERSION: [u32; 3] = [8, 0, 6];

fn version_fits(text: &str) -> bool {
    text.split('|').any(|all| {
        all.split_whitespace().all(|one| {
            let (sign, number) =
                one.split_at(one.find(|letter: char| letter.is_ascii_digit()).unwrap_or(one.len()));
            let mut wanted = [0; 3];
            for (slot, part) in wanted.iter_mut().zip(number.split('.')) {
                *slot = part.parse().unwrap_or(u32::MAX);
            }
            match sign {
                ">=" => VERSION >= wanted,
                ">" => VERSION > wanted,
                "<" => VERSION < wanted,
                "<=" => VERSION <= wanted,
                "=" | "" => VERSION == wanted,
                _ => true,
            }
        })
    })
}

/// `type`, `track`, `count`, `seconds`, ... of `threshold` and `event_filter`.
pub(crate) fn limit(keyword: &str, text: &str) -> Result<Limit, RuleError> {
    let mut kind = None;
    let mut limit = Limit {
        kind: Kind::Limit,
        track: Track::Rule,
        count: 0,
        seconds: 0,
        action: None,
        timeout_s: 0,
        distinct: None,
    };
    let mut multiplier = 10;
    let mut has_track = false;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        let value = value.trim();
        let number = || value.parse::<u32>().map_err(|_| fault(keyword, format!("{part:?}")));
        match key {
            "type" => {
                kind = Some(match value {
                    "limit" => Kind::Limit,
                    "threshold" => Kind::Threshold,
                    "both" => Kind::Both,
                    "backoff" => Kind::Backoff(0),
                    other => return Err(fault(keyword, format!("type {other:?} is unknown"))),
                });
            }
            "track" => {
                has_track = true;
                limit.track = track(keyword, value)?;
            }
            "count" => limit.count = number()?,
            "seconds" => limit.seconds = number()?,
            "multiplier" => multiplier = number()?,
            "timeout" => limit.timeout_s = number()?,
            "unique_on" => {
                limit.distinct = Some(match value {
                    "src_port" => Distinct::SourcePort,
                    "dst_port" => Distinct::DestinationPort,
                    other => return Err(fault(keyword, format!("{other:?} is unknown"))),
                });
            }
            "new_action" | "gen_id" | "sig_id" => {}
            _ => return Err(fault(keyword, format!("{part:?} is unknown"))),
        }
    }
    if limit.count == 0 || !has_track {
        return Err(fault(keyword, "needs track and count"));
    }
    limit.kind = match kind {
        Some(Kind::Backoff(_)) => Kind::Backoff(multiplier),
        Some(kind) => kind,
        None => Kind::Limit,
    };
    Ok(limit)
}

fn filter(keyword: &str, text: &str) -> Result<Limit, RuleError> {
    let limit = limit(keyword, text)?;
    Ok(Limit { kind: Kind::Filter, ..limit })
}

pub(crate) fn track(keyword: &str, text: &str) -> Result<Track, RuleError> {
    Ok(match text {
        "by_src" => Track::Source,
        "by_dst" => Track::Destination,
        "by_both" => Track::Pair,
        "by_rule" => Track::Rule,
        "by_flow" => Track::Flow,
        _ => return Err(fault(keyword, format!("track {text:?} is unknown"))),
    })
}
