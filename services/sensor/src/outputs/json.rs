//! JSON objects as events are put together: fields in the order in which they were put, names that
//! cost nothing, and a writer for them.
//!
//! An alert has some forty fields. A tree that sorts them and owns every name was a seventh of the
//! processor's time of a replay with alerts; this one is a list. Half of what was left was spent in a
//! serializer that hands out its text in pieces of a few bytes, so it is written here, as serde_json
//! writes it.

use std::{borrow::Cow, fmt};

/// A name or a text: the program's own are borrowed.
pub type Text = Cow<'static, str>;

/// Any JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// Not negative.
    Unsigned(u64),
    /// Any integer.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Text),
    /// Values in order.
    Array(Vec<Value>),
    /// Values by name.
    Object(Object),
}

/// Values by name, each name once, in the order in which they were put.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(Text, Value)>);

impl Object {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty one with room for so many fields.
    #[must_use]
    pub fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// Puts a value; one of the same name gives way.
    pub fn insert(&mut self, name: Text, value: Value) {
        match self.get_mut(&name) {
            Some(before) => *before = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of a name, and if there is none that of `value`.
    pub fn or_insert_with(
        &mut self,
        name: impl Into<Text>,
        value: impl FnOnce() -> Value,
    ) -> &mut Value {
        let name = name.into();
        let at = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((name, value()));
            self.0.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or put there just above")]
        let (_, value) = &mut self.0[at];
        value
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps what `is_kept` says.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&str, &Value) -> bool) {
        self.0.retain(|(name, value)| is_kept(name, value));
    }

    /// Whether there is a value of that name.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// No value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Text>> Extend<(N, Value)> for Object {
    fn extend<I: IntoIterator<Item = (N, Value)>>(&mut self, fields: I) {
        for (name, value) in fields {
            self.insert(name.into(), value);
        }
    }
}

impl<N: Into<Text>> FromIterator<(N, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(fields: I) -> Self {
        let mut out = Self::new();
        out.extend(fields);
        out
    }
}

impl IntoIterator for Object {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Value {
    /// The program's own words, which are borrowed.
    #[must_use]
    pub const fn word(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// An object's fields.
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A list's values.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Self>> {
        match self {
            Self::Array(list) => Some(list),
            _ => None,
        }
    }

    /// Text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a name, in an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.get(name),
            _ => None,
        }
    }

    /// The value of a name, in an object.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.as_object_mut()?.get_mut(name)
    }
}

impl Value {
    /// Adds it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Unsigned(number) => write_number(*number, out),
            Self::Signed(number) => {
                if *number < 0 {
                    out.push(b'-');
                }
                write_number(number.unsigned_abs(), out);
            }
            // What is no number becomes null; a vector takes everything.
            Self::Float(number) => drop(serde_json::to_writer(out, number)),
            Self::Text(text) => write_text(text, out),
            Self::Array(list) => {
                out.push(b'[');
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    value.write(out);
                }
                out.push(b']');
            }
            Self::Object(object) => {
                out.push(b'{');
                for (index, (name, value)) in object.0.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_text(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

/// Bytes that are looked at together: most have nothing that needs more than to be copied.
const BLOCK_BYTES: usize = 16;

fn write_text(text: &str, out: &mut Vec<u8>) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    while !rest.is_empty() {
        let plain_blocks = rest
            .chunks_exact(BLOCK_BYTES)
            .take_while(|block| !block.iter().fold(false, |any, byte| any | is_special(*byte)));
        let plain = plain_blocks.count() * BLOCK_BYTES;
        let (_, tail) = rest.split_at(plain);
        let at = plain + tail.iter().position(|byte| is_special(*byte)).unwrap_or(tail.len());
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { break };
        write_special(*special, out);
        rest = tail;
    }
    out.push(b'"');
}

fn write_special(byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// As it is written.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Signed(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Unsigned(number as u64)
    }
}

macro_rules! unsigned {
    ($($kind:ty)*) => { $(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Unsigned(number.into())
            }
        }
    )* };
}

unsigned!(u8 u16 u32 u64);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned().into())
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(text: Cow<'_, str>) -> Self {
        Self::Text(text.into_owned().into())
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl<T: Clone + Into<Self>> From<&T> for Value {
    fn from(value: &T) -> Self {
        value.clone().into()
    }
}

impl<T: Clone + Into<Self>> From<&[T]> for Value {
    fn from(list: &[T]) -> Self {
        list.iter().cloned().collect()
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        list.into_iter().collect()
    }
}

impl<T: Into<Self>, const N: usize> From<[T; N]> for Value {
    fn from(list: [T; N]) -> Self {
        list.into_iter().collect()
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(list: I) -> Self {
        Self::Array(list.into_iter().map(Into::into).collect())
    }
}

/// What somebody else wrote.
impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Theirs;
        match value {
            Theirs::Null => Self::Null,
            Theirs::Bool(value) => Self::Bool(value),
            Theirs::Number(number) => number
                .as_u64()
                .map(Self::Unsigned)
                .or_else(|| number.as_i64().map(Self::Signed))
                .unwrap_or_else(|| Self::Float(number.as_f64().unwrap_or(0.0))),
            Theirs::String(text) => text.into(),
            Theirs::Array(list) => list.into_iter().collect(),
            Theirs::Object(fields) => {
                let fields = fields.into_iter();
                Self::Object(fields.map(|(name, value)| (name, value.into())).collect())
            }
        }
    }
}

/// A [`Value`] as it would stand in a program that is written in JSON.
macro_rules! json {
    ({ $($name:literal : $value:expr),* $(,)? }) => {
        $crate::outputs::json::Value::Object($crate::outputs::json::Object::from_iter([
            $(($name, $crate::outputs::json::json!($value))),*
        ]))
    };
    ([]) => { $crate::outputs::json::Value::Array(::std::vec::Vec::new()) };
    ($value:expr) => { $crate::outputs::json::Value::from($value) };
}

pub(crate) use json;

#[cfg(test)]
impl Value {
    /// As a reader has it.
    pub(crate) fn parsed(&self) -> serde_json::Value {
        serde_json::from_str(&self.to_string()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{Object, Value};

    #[test]
    fn fields_keep_their_order_and_their_names_are_there_once() {
        let mut object = Object::new();
        object.insert("z".into(), json!(1_u8));
        object.insert("a".into(), json!(["x", "y"]));
        object.insert("z".into(), json!({ "none": None::<u8>, "less": -1, "half": 0.5 }));
        object.extend([(String::from("own"), json!(true))]);
        assert_eq!(*object.or_insert_with("own", || json!(false)), json!(true));
        assert_eq!(
            Value::from(&object).to_string(),
            r#"{"z":{"none":null,"less":-1,"half":0.5},"a":["x","y"],"own":true}"#
        );
        assert_eq!(object.remove("a").and_then(|list| list.get("x").cloned()), None);
        object.retain(|name, _| name != "own");
        assert!(object.contains_key("z") && !object.contains_key("own") && !object.is_empty());
    }

    #[test]
    fn what_others_wrote_is_written_as_it_was() {
        let text = r#"{"a":[1,-2,0.25,null,true,{},[]],"b":{"c":"\"\u0001\n\u00fc"}}"#;
        let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::from(theirs.clone()).to_string(), theirs.to_string());
        use serde_json::json as json_of;
        let numbers = [json_of!(u64::MAX), json_of!(i64::MIN), json_of!(f64::NAN), json_of!(1e300)];
        for theirs in numbers {
            assert_eq!(Value::from(theirs.clone()).to_string(), theirs.to_string());
        }
        // Every character that is special, on both sides of where blocks end.
        for length in [0, 1, 15, 16, 17, 40] {
            for special in (0..=0x80).chain([0xfc, 0x20ac, 0x1f600]).filter_map(char::from_u32) {
                let text = format!("{}{special}{}{special}", "a".repeat(length), "b".repeat(16));
                let theirs = serde_json::Value::from(text);
                assert_eq!(Value::from(theirs.clone()).to_string(), theirs.to_string());
            }
        }
    }
}
