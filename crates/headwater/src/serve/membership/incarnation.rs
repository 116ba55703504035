//! How often this server has started, and the random mark of each start, in a file that rises with
//! the record (`farm::rules::membership::started`).
//!
//! The file has the new mark, synced, before the record does, and forgets the marks before it once
//! the record is known to have it. So the record has one of the file's marks after any crash, unless
//! one of the two was restored from an older copy.

use anyhow::{Context, Result, bail};
use farm::rules::membership::{OlderFarm, Start};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const FILE: &str = "incarnation";
/// What an admin makes to say that the farm's database was restored on purpose.
const ACCEPT_FILE: &str = "accept-restored";
/// The first line.
const HEAD: &str = "headwater starts, revision 1";
/// The most starts whose transactions were not answered; each is one that ended in an error.
const MAX_MARKS: usize = 64;

/// Whether an admin has said so.
pub(super) fn accepts_older(directory: &Path) -> bool {
    directory.join(ACCEPT_FILE).exists()
}

/// That is done.
pub(super) fn has_accepted(directory: &Path) {
    // A file that stays holds the records once more, which `headwater farm accept` ends.
    let _ = fs::remove_file(directory.join(ACCEPT_FILE));
}

/// The file, with this start counted.
#[derive(Debug)]
pub(super) struct Starts {
    path: PathBuf,
    /// The number of this start.
    pub(super) number: u64,
    /// Its mark.
    pub(super) mark: String,
    /// The marks of which the record has one; none before the first start.
    pub(super) before: Vec<String>,
}

impl Starts {
    /// What this start will be, without counting it.
    pub(super) fn look(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let (number, before) = match fs::read_to_string(&path) {
            Ok(text) => read(&text).with_context(|| {
                format!("{} makes no sense\nhint: remove this server and join it again", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, Vec::new()),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if before.len() >= MAX_MARKS {
            bail!(
                "{} starts of this server in a row were not written down by the farm's database\n\
                 hint: remove this server and join it again",
                before.len()
            );
        }
        Ok(Self { path, number: number + 1, mark: random_mark(), before })
    }

    /// Counts a start, durably, before anybody hears of it.
    pub(super) fn count(directory: &Path) -> Result<Self> {
        let starts = Self::look(directory)?;
        starts.may_be_recorded()?;
        Ok(starts)
    }

    /// This start, for the rules.
    pub(super) fn start(&self, address: String, boot: String) -> Start {
        let older_farm = match self.accept_file().exists() {
            true => OlderFarm::Accepted,
            false => OlderFarm::Refused,
        };
        let (incarnation, mark, before) = (self.number, self.mark.clone(), self.before.clone());
        Start { incarnation, mark, before, older_farm, address, boot }
    }

    /// The record may have this start's mark from now on: before each try to write it.
    pub(super) fn may_be_recorded(&self) -> Result<()> {
        self.write(&self.before.iter().chain([&self.mark]).collect::<Vec<_>>())
    }

    /// The record has this start's mark.
    pub(super) fn is_recorded(&self) -> Result<()> {
        self.write(&[&self.mark])
    }

    /// The record certainly has not: the transaction was never sent.
    pub(super) fn was_not_sent(&self) -> Result<()> {
        self.write(&self.before.iter().collect::<Vec<_>>())
    }

    /// That an older database is right was said once, and is done.
    pub(super) fn has_accepted(&self) {
        has_accepted(self.path.parent().expect("a file in a directory"));
    }

    fn accept_file(&self) -> PathBuf {
        self.path.with_file_name(ACCEPT_FILE)
    }

    fn write(&self, marks: &[&String]) -> Result<()> {
        let mut text = format!("{HEAD}\n{}\n", self.number);
        marks.iter().for_each(|mark| text += &format!("{mark}\n"));
        write(&self.path, &text).with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

fn read(text: &str) -> Result<(u64, Vec<String>)> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        bail!("the first line is not {HEAD:?}");
    }
    let number = lines.next().context("there is no number")?.parse()?;
    let marks: Vec<String> = lines.map(str::to_owned).collect();
    let is_mark = |mark: &String| mark.len() == 32 && mark.bytes().all(|c| c.is_ascii_hexdigit());
    if marks.len() > MAX_MARKS || !marks.iter().all(is_mark) {
        bail!("a mark is not 32 hexadecimal digits");
    }
    Ok((number, marks))
}

fn random_mark() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system's randomness is available");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(path.parent().expect("a file in a directory"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_counted_and_rubbish_is_no_number() {
        let directory = tempfile::tempdir().unwrap();
        let first = Starts::count(directory.path()).unwrap();
        assert_eq!((first.number, first.before.len()), (1, 0));
        first.is_recorded().unwrap();
        let second = Starts::count(directory.path()).unwrap();
        assert_eq!((second.number, &second.before), (2, &vec![first.mark.clone()]));
        for rubbish in
            ["many", "7", "headwater starts, revision 1\nmany", "headwater starts, revision 1\n1\nmark"]
        {
            fs::write(directory.path().join(FILE), rubbish).unwrap();
            assert!(Starts::count(directory.path()).unwrap_err().to_string().contains("hint: "));
        }
    }

    #[test]
    fn a_start_without_an_answer_may_be_in_the_record_and_one_that_was_not_sent_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let first = Starts::count(directory.path()).unwrap();
        first.is_recorded().unwrap();
        let unanswered = Starts::count(directory.path()).unwrap();
        let third = Starts::count(directory.path()).unwrap();
        assert_eq!(third.before, [first.mark.clone(), unanswered.mark.clone()]);
        third.was_not_sent().unwrap();
        let fourth = Starts::count(directory.path()).unwrap();
        assert_eq!((fourth.number, &fourth.before), (4, &third.before));
        let word = || fourth.start(String::new(), String::new()).older_farm;
        assert_eq!(word(), OlderFarm::Refused);
        fs::write(directory.path().join(ACCEPT_FILE), "").unwrap();
        assert_eq!(word(), OlderFarm::Accepted);
        fourth.has_accepted();
        assert_eq!(word(), OlderFarm::Refused);
    }

    #[test]
    fn the_file_is_as_documented() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), include_str!("../../../golden/incarnation-1")).unwrap();
        let starts = Starts::count(directory.path()).unwrap();
        assert_eq!((starts.number, &starts.before[..]), (5, &["5a".repeat(16)][..]));
        let fixed = Starts { mark: "6b".repeat(16), number: 4, ..starts };
        fixed.write(&[&"5a".repeat(16)]).unwrap();
        let written = fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(written, include_str!("../../../golden/incarnation-1"));
    }
}
