//! The rules of Prometheus as the resource that its operator reads.

use std::path::Path;
use std::{fs, io};

/// A `PrometheusRule` with all groups of `deploy/prometheus/rules`; nothing where there are no rules.
pub(crate) fn prometheus_rule(root: &Path) -> io::Result<Option<String>> {
    let folder = root.join("deploy/prometheus/rules");
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    let mut page = format!(
        "# Written by `{}` from deploy/prometheus/rules; do not edit.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: barograph\nspec:\n  groups:\n",
        super::COMMAND
    );
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(file)?;
        let groups = indented(&text).ok_or_else(|| {
            io::Error::other(format!(
                "deploy/prometheus/rules/{name}: has `groups:` and a list below it, \
                nothing else"
            ))
        })?;
        page += &format!("    # {name}\n{groups}");
    }
    Ok((!files.is_empty()).then_some(page))
}

/// The list of groups, four columns from the left. Before `groups:` there are only comments.
fn indented(text: &str) -> Option<String> {
    let (head, groups) = text.split_once("groups:\n")?;
    let is_comment = |line: &str| line.is_empty() || line.starts_with('#') || line == "---";
    if !head.lines().all(is_comment) {
        return None;
    }
    let first = groups.lines().find(|line| line.trim_start().starts_with("- "))?;
    let indent = first.len() - first.trim_start().len();
    let mut list = String::new();
    for line in groups.lines() {
        match line.get(indent..) {
            Some(rest) if !line.trim().is_empty() => {
                // Another key beside `groups`.
                if !line[..indent].trim().is_empty() || rest.starts_with(|c: char| c.is_alphabetic()) {
                    return None;
                }
                list += &format!("    {rest}\n");
            }
            _ if line.trim().is_empty() || line.starts_with('#') => list += &format!("{line}\n"),
            _ => return None,
        }
    }
    Some(list)
}
