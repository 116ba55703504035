//! Drafts: their heads and logs can be read, their files are there, what they stand on is.

use super::{Check, CheckError, entries};
use crate::draft::{DraftName, Head, LogName, data_path, log_path, read_head, replay};
use crate::record::VersionRecord;
use model::Root;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The longest log that is read: 128 million records, more than a disk of 1 TiB has chunks.
const MAX_LOG_BYTES: u64 = 4 << 30;

impl Check<'_> {
    pub(super) fn drafts(&mut self, records: &BTreeMap<Root, VersionRecord>) -> Result<(), CheckError> {
        for (name, path) in entries(&self.path.join("drafts"))? {
            if DraftName::new(&name).is_err() || !path.is_dir() {
                self.report.warn(format!("drafts/{name} is no draft"));
                continue;
            }
            self.report.drafts += 1;
            match read_head(&path) {
                Ok(head) => self.draft(&name, &path, &head, records)?,
                Err(reason) => self.report.error(format!("draft {name}: {reason}")),
            }
        }
        Ok(())
    }

    fn draft(
        &mut self,
        name: &str,
        path: &Path,
        head: &Head,
        records: &BTreeMap<Root, VersionRecord>,
    ) -> Result<(), CheckError> {
        match records.get(&head.parent) {
            None => {
                self.report.error(format!("draft {name}: the version {} below it is missing", head.parent))
            }
            Some(record) if record.manifest.size() != head.size => {
                self.report
                    .error(format!("draft {name}: its disk is not as large as that of the version below"));
            }
            Some(_) => {}
        }
        let mut known = vec!["head".to_owned()];
        for number in [Some(head.active), head.frozen].into_iter().flatten() {
            known.extend([format!("{number}.data"), format!("{number}.log")]);
            if let Err(reason) = generation(path, LogName { size: head.size, generation: number }) {
                self.report.error(format!("draft {name}: generation {number}: {reason}"));
            }
        }
        for (file, _) in entries(path)? {
            if !known.contains(&file) {
                self.report.warn(format!("drafts/{name}/{file} is left over from a checkpoint"));
            }
        }
        Ok(())
    }
}

fn generation(directory: &Path, name: LogName) -> Result<(), String> {
    let log = log_path(directory, name.generation);
    let len = fs::metadata(&log).map_err(|error| format!("its log: {error}"))?.len();
    if len > MAX_LOG_BYTES {
        return Err(format!("its log has {len} bytes"));
    }
    let bytes = fs::read(&log).map_err(|error| format!("its log: {error}"))?;
    replay(name, &bytes)?;
    let data = fs::metadata(data_path(directory, name.generation));
    data.map(drop).map_err(|error| format!("its data: {error}"))
}
