//! Filters: which events they mean, and how many there must be.

use hookprobe_rules::yaml::Node;
use serde_json::Value;

/// Whether `event` fits all of `wanted`.
pub(super) fn fits(event: &Value, wanted: &Node) -> bool {
    wanted.entries().iter().all(|(key, expected)| match key.as_str() {
        "has-key" => keys(expected).all(|path| at(event, path).is_some()),
        "not-has-key" => keys(expected).all(|path| at(event, path).is_none()),
        _ => {
            let (path, operator) = key.rsplit_once("__").unwrap_or((key, ""));
            at(event, path).is_some_and(|found| holds(found, operator, expected))
        }
    })
}

/// One key, or a list of them.
fn keys(node: &Node) -> impl Iterator<Item = &str> {
    node.items().iter().filter_map(Node::text)
}

fn holds(found: &Value, operator: &str, expected: &Node) -> bool {
    let text = || found.as_str().unwrap_or_default();
    let wanted = expected.text().unwrap_or_default();
    match operator {
        "" => equal(found, expected),
        "len" => {
            let length = found.as_array().map_or_else(|| text().len(), Vec::len);
            wanted.parse() == Ok(length)
        }
        "contains" => {
            text().contains(wanted)
                || found
                    .as_array()
                    .is_some_and(|items| items.iter().any(|item| equal(item, expected)))
        }
        "find" => text().contains(wanted),
        "startswith" => text().starts_with(wanted),
        "endswith" => text().ends_with(wanted),
        _ => false,
    }
}

/// The value at `a.b[0].c`.
fn at<'v>(event: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = event;
    for part in path.split('.') {
        let (key, indexes) = match part.find('[') {
            Some(open) => part.split_at(open),
            None => (part, ""),
        };
        value = value.get(key)?;
        for index in indexes.split(['[', ']']).filter(|index| !index.is_empty()) {
            value = value.get(index.parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

fn equal(found: &Value, expected: &Node) -> bool {
    match (found, expected) {
        (Value::Array(items), Node::List(wanted)) => {
            items.len() == wanted.len()
                && items.iter().zip(wanted).all(|(item, wanted)| equal(item, wanted))
        }
        (Value::Object(_), Node::Map(entries)) => entries
            .iter()
            .all(|(key, wanted)| found.get(key).is_some_and(|found| equal(found, wanted))),
        (Value::String(text), Node::Text(wanted, _)) => text == wanted,
        (Value::Number(number), Node::Text(wanted, false)) => {
            number.to_string() == *wanted
                || wanted
                    .strip_prefix("0x")
                    .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                    .is_some_and(|value| number.as_u64() == Some(value))
        }
        (Value::Bool(value), Node::Text(wanted, false)) => {
            matches!(
                (value, wanted.to_ascii_lowercase().as_str()),
                (true, "true" | "yes" | "on") | (false, "false" | "no" | "off")
            )
        }
        (Value::Null, Node::Null) => true,
        _ => false,
    }
}
