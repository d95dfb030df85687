//! What the tests read instead of a machine.

use std::fs;

use tempfile::TempDir;

/// A folder with these files, laid out like the root of a machine.
pub(crate) fn machine(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    files.iter().for_each(|(path, content)| write(&root, path, content));
    root
}

/// Puts a file there, in the place of the one before.
pub(crate) fn write(root: &TempDir, path: &str, content: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
