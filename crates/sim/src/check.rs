//! What must hold, whatever happens: compared with what devices were told, not with what servers
//! believe.

use crate::disk::{Bytes, CHUNKS, Disk};
use crate::network::{SERVERS, name};
use farm::{FarmView, VersionState, roots_in_use};
use model::{Name, Root, VersionNumber};
use std::collections::BTreeMap;

/// What was broken; the numbers are those of DESIGN section 9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// 9.1: a byte that a device was told is safe is not in the sealed version.
    LostWrite(String),
    /// 9.1: what is in production was not sealed, or is not what was sealed.
    ProductionIsNotSealed(String),
    /// 9.2, 9.4: a root read as other bytes than those it names.
    WrongBytes(String),
    /// 9.3: a copy that the records call complete is not.
    FalseCopy(String),
    /// 9.10: something that is needed was deleted.
    Deleted(String),
    /// When all faults had ended, the servers did not come to have the same contents.
    NotConverged(String),
}

/// What devices were told, and what every root names.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Every write of a version's draft to a chunk in order, and whether it was acknowledged.
    writes: BTreeMap<(VersionNumber, u32), Vec<(u64, bool)>>,
    /// The bytes that each root names.
    named: BTreeMap<Root, Bytes>,
    /// What was sealed.
    sealed: BTreeMap<VersionNumber, Root>,
    /// How many writes were acknowledged.
    pub acknowledged: u64,
}

impl Ledger {
    /// Notes that a device wrote.
    pub fn wrote(&mut self, version: VersionNumber, chunk: u32, value: u64) {
        self.writes.entry((version, chunk)).or_default().push((value, false));
    }

    /// Notes that a device was told that writes are safe.
    pub fn acknowledged(&mut self, version: VersionNumber, writes: &[(u32, u64)]) {
        for (chunk, value) in writes {
            let all = self.writes.entry((version, *chunk)).or_default();
            all.iter_mut().filter(|(of, _)| of == value).for_each(|(_, safe)| *safe = true);
            self.acknowledged += 1;
        }
    }

    /// Notes what a root names; a root names one byte string for ever.
    pub fn names(&mut self, root: Root, bytes: &Bytes) -> Result<(), Broken> {
        let known = self.named.entry(root).or_insert_with(|| bytes.clone());
        let text = || Broken::WrongBytes(format!("root {} names two contents", root.short()));
        if known == bytes { Ok(()) } else { Err(text()) }
    }

    /// The bytes that a root names.
    pub fn bytes(&self, root: Root) -> &Bytes {
        &self.named[&root]
    }

    /// Notes that a version was sealed; every acknowledged byte is in it.
    pub fn sealed(&mut self, version: VersionNumber, root: Root) -> Result<(), Broken> {
        self.sealed.insert(version, root);
        self.holds_all(version, root)
    }

    /// Every byte of a version that was acknowledged is in a content: a clean checkpoint, a seal.
    pub fn holds_all(&self, version: VersionNumber, root: Root) -> Result<(), Broken> {
        match self.lost(version, root) {
            Some(chunk) => Err(Broken::LostWrite(format!(
                "{} became version {version} without what a device was told is safe in chunk {chunk}",
                root.short()
            ))),
            None => Ok(()),
        }
    }

    /// The first chunk of which a content lacks the last acknowledged write.
    fn lost(&self, version: VersionNumber, root: Root) -> Option<u32> {
        let bytes = self.bytes(root);
        (0..CHUNKS).find(|chunk| {
            let Some(writes) = self.writes.get(&(version, *chunk)) else { return false };
            let Some(last) = writes.iter().rposition(|(_, safe)| *safe) else { return false };
            !writes[last..].iter().any(|(value, _)| *value == bytes[*chunk as usize])
        })
    }

    /// What devices boot was sealed, and is what was sealed.
    pub fn production(&self, farm: &FarmView, vdisk: &Name) -> Result<(), Broken> {
        let Some(version) = farm.production_of(vdisk) else { return Ok(()) };
        let (number, root) = (version.number, version.root);
        if version.state == VersionState::Sealed && self.sealed.get(&number) == Some(&root) {
            return Ok(());
        }
        let lost = self.lost(number, root).map_or(String::new(), |chunk| {
            format!(" and lacks what a device was told is safe in chunk {chunk}")
        });
        let what =
            format!("version {number} is in production as {}, which nobody sealed{lost}", root.short());
        Err(Broken::ProductionIsNotSealed(what))
    }

    /// Every content that a record needs is whole on some disk; every copy that a record claims is.
    pub fn copies(&self, farm: &FarmView, disks: [&Disk; SERVERS]) -> Result<(), Broken> {
        for root in roots_in_use(farm) {
            if !disks.iter().any(|disk| disk.is_whole(root)) {
                return Err(Broken::Deleted(format!("no server has all of {} any more", root.short())));
            }
        }
        for (root, server) in farm.copies.keys() {
            let at = (0..SERVERS).find(|at| name(*at) == server.as_str()).expect("one of ours");
            if !disks[at].is_whole(*root) {
                let what = format!("the records say that {server} has all of {}", root.short());
                return Err(Broken::FalseCopy(what));
            }
        }
        Ok(())
    }

    /// What a disk reads as is what the root names.
    pub fn read(&self, server: usize, root: Root, chunk: u32, value: u64) -> Result<(), Broken> {
        if self.bytes(root)[chunk as usize] == value {
            return Ok(());
        }
        let what = format!("chunk {chunk} of {} reads as something else on {}", root.short(), name(server));
        Err(Broken::WrongBytes(what))
    }

    /// All that is called present on a disk is right.
    pub fn disk(&self, server: usize, disk: &Disk) -> Result<(), Broken> {
        for root in disk.roots() {
            for chunk in disk.present(root) {
                let value = disk.read(root, chunk).expect("it is present");
                self.read(server, root, chunk, value)?;
            }
        }
        Ok(())
    }
}
