//! The map of the tree in README is the tree.

use crate::Tree;

/// Top folders that README does not name; `None` while there is no README.
#[must_use]
pub fn unmapped_folders(tree: &Tree) -> Option<Vec<String>> {
    let readme = &tree.file("README.md")?.text;
    Some(
        tree.top_folders
            .iter()
            .filter(|folder| !readme.contains(&format!("{folder}/")))
            .map(|folder| format!("README.md: {folder}/ is not in the map of the tree"))
            .collect(),
    )
}
