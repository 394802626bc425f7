//! JSON objects as events are put together: fields in the order in which they were put, names that
//! cost nothing. Writing is serde_json's.
//!
//! An alert has some forty fields. A tree that sorts them and owns every name was a seventh of the
//! processor's time of a replay with alerts; this one is a list.

use std::{borrow::Cow, fmt};

use serde::ser::{Serialize, SerializeMap as _, Serializer};

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

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Unsigned(number) => to.serialize_u64(*number),
            Self::Signed(number) => to.serialize_i64(*number),
            Self::Float(number) => to.serialize_f64(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::Array(list) => list.serialize(to),
            Self::Object(object) => object.serialize(to),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name.as_ref(), value)?;
        }
        map.end()
    }
}

/// As it is written.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
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
        let text = r#"{"a":[1,-2,0.25,null,true],"b":{"c":"\"\u0001\n\u00fc"}}"#;
        let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::from(theirs.clone()).to_string(), theirs.to_string());
    }
}
