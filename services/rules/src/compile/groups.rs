//! What many rules say alike: groups of addresses and ports, texts of classes. Each is kept once.
//!
//! Lives while rules are compiled; what it gave out lives with the rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::address::{Addresses, GroupError, Ports, Variables};

/// Everything that was read so far, by its text. The variables must be the same for all calls.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    addresses: BTreeMap<String, Arc<Addresses>>,
    ports: BTreeMap<String, Arc<Ports>>,
    texts: BTreeSet<Arc<str>>,
}

impl Groups {
    /// See [`Addresses::parse`].
    pub(super) fn addresses(
        &mut self,
        text: &str,
        variables: &Variables,
    ) -> Result<Arc<Addresses>, GroupError> {
        once(&mut self.addresses, text, || Addresses::parse(text, variables))
    }

    /// See [`Ports::parse`].
    pub(super) fn ports(
        &mut self,
        text: &str,
        variables: &Variables,
    ) -> Result<Arc<Ports>, GroupError> {
        once(&mut self.ports, text, || Ports::parse(text, variables))
    }

    /// The same text.
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }
}

fn once<T>(
    known: &mut BTreeMap<String, Arc<T>>,
    text: &str,
    read: impl FnOnce() -> Result<T, GroupError>,
) -> Result<Arc<T>, GroupError> {
    if let Some(found) = known.get(text) {
        return Ok(Arc::clone(found));
    }
    let new = Arc::new(read()?);
    known.insert(text.to_owned(), Arc::clone(&new));
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::Groups;
    use crate::address::Variables;
    use std::sync::Arc;

    #[test]
    fn the_same_group_is_kept_once() {
        let (mut groups, variables) = (Groups::default(), Variables::new());
        let [one, same, other] = ["10.0.0.0/8", "10.0.0.0/8", "any"]
            .map(|text| groups.addresses(text, &variables).unwrap());
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        assert!(groups.ports("x", &variables).is_err());
        assert!(Arc::ptr_eq(
            &groups.ports("80", &variables).unwrap(),
            &groups.ports("80", &variables).unwrap()
        ));
        assert!(Arc::ptr_eq(&groups.text("a"), &groups.text("a")));
    }
}
