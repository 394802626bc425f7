//! Rules for the detection benchmark: those of the test data with numbers of their own, and
//! generated ones in the mix of kinds that published rule sets have.

use std::{collections::BTreeSet, fs, path::Path};

use crate::error::{Result, at};

/// First number of the rules of the test data.
const SAME_SID: u32 = 3_000_000;
/// First number of generated rules.
const MADE_SID: u32 = 4_000_000;
/// Keywords that read files beside their rules, or write them: they say nothing about speed.
const LEFT_OUT: [&str; 6] = ["dataset", "datarep", "filestore", "lua:", "include:", "filemd5"];

/// Every rule of the test data that stands for itself, renumbered, without doubles.
pub(super) fn same(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort();
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for file in &files {
        let bytes = fs::read(file).map_err(at(file))?;
        let text = String::from_utf8_lossy(&bytes).replace("\\\n", " ");
        for line in text.lines().map(str::trim) {
            let Some((bare, _)) = without_sid(line) else { continue };
            if !line.starts_with("alert ") || LEFT_OUT.iter().any(|word| line.contains(word)) {
                continue;
            }
            if seen.insert(bare) {
                let number = SAME_SID + u32::try_from(rules.len()).unwrap_or(0);
                rules.extend(renumbered(line, number));
            }
        }
    }
    Ok(rules)
}

fn find(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rules") {
            files.push(path);
        }
    }
    Ok(())
}

/// Number of a rule.
pub(super) fn sid(line: &str) -> Option<u64> {
    let (_, (start, end)) = without_sid(line)?;
    line.get(start + 4..end - 1)?.trim().parse().ok()
}

/// The rule with its `sid` cut out, and where it was.
fn without_sid(line: &str) -> Option<(String, (usize, usize))> {
    let start = line.find("sid:")?;
    let end = start + line.get(start..)?.find(';')? + 1;
    let bare = format!("{}{}", line.get(..start)?, line.get(end..)?);
    Some((bare, (start, end)))
}

fn renumbered(line: &str, sid: u32) -> Option<String> {
    let (_, (start, end)) = without_sid(line)?;
    Some(format!("{}sid:{sid};{}", line.get(..start)?, line.get(end..)?))
}

/// `count` rules: deterministic, with contents that ordinary traffic does not have.
pub(super) fn made(count: u32) -> Vec<String> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    (0..count).map(|index| rule(&mut dice, MADE_SID + index)).collect()
}

fn rule(dice: &mut Dice, sid: u32) -> String {
    let (one, two) = (dice.word(8), dice.word(5));
    let (head, body) = match dice.below(20) {
        0..=5 => (
            "http $HOME_NET any -> $EXTERNAL_NET any",
            format!(
                "flow:established,to_server; http.uri; content:\"/{one}/\"; \
                 content:\"{two}.php?\"; distance:0;"
            ),
        ),
        6..=7 => (
            "http $HOME_NET any -> $EXTERNAL_NET any",
            format!(
                "flow:established,to_server; http.user_agent; content:\"{one}\"; startswith; \
                 nocase;"
            ),
        ),
        8..=10 => (
            "dns $HOME_NET any -> any any",
            format!("dns.query; content:\"{one}.{two}.example\"; nocase; endswith;"),
        ),
        11..=13 => (
            "tls $HOME_NET any -> $EXTERNAL_NET any",
            format!("flow:established,to_server; tls.sni; content:\"{one}.example\"; endswith;"),
        ),
        14..=16 => (
            "tcp $EXTERNAL_NET any -> $HOME_NET any",
            format!(
                "flow:established; content:\"{one}|00 01|\"; content:\"{two}\"; \
                 distance:4; within:64;"
            ),
        ),
        17 => (
            "tcp $HOME_NET any -> $EXTERNAL_NET [80,443,8080]",
            format!(
                "flow:established,to_server; content:\"{one}\"; depth:64; pcre:\"/{one}[0-9]{{2,4}}{two}/i\";"
            ),
        ),
        18 => (
            "udp $HOME_NET any -> $EXTERNAL_NET !53",
            format!("content:\"|de ad|{one}\"; depth:32; dsize:>20;"),
        ),
        _ => (
            "http $EXTERNAL_NET any -> $HOME_NET any",
            format!("flow:established,to_client; http.response_body; content:\"{one}{two}\";"),
        ),
    };
    format!(
        "alert {head} (msg:\"made {sid}\"; {body} classtype:trojan-activity; sid:{sid}; rev:1;)"
    )
}

/// xorshift64*: the same rules on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn word(&mut self, letters: u64) -> String {
        let length = letters + self.below(4);
        (0..length).map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap_or(0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_rules_are_the_same_every_time_and_differ_from_each_other() {
        let rules = made(500);
        assert_eq!(rules, made(500));
        assert_eq!(rules.iter().collect::<BTreeSet<_>>().len(), 500);
        assert!(rules.iter().all(|rule| rule.ends_with("rev:1;)") && rule.is_ascii()));
    }

    #[test]
    fn the_number_alone_changes() {
        let line = "alert ip any any -> any any (msg:\"x\"; sid:7; rev:2;)";
        let expect = "alert ip any any -> any any (msg:\"x\"; sid:9; rev:2;)";
        assert_eq!(renumbered(line, 9).as_deref(), Some(expect));
        assert_eq!(renumbered("# nothing", 9), None);
        assert_eq!((sid(line), sid("# nothing")), (Some(7), None));
    }
}
