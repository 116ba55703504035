//! The trap, in every order: create, boot, write, checkpoint, seal, promote, crash, give up - either
//! production sees what was acknowledged, or the promotion was refused.
//!
//! Three servers, of which two may think at once that they hold the draft; what they hold in memory
//! is lost in a crash, what they acknowledged lies in their files. The model check
//! (`crates/farm/tests/model`) takes every order of single transactions; this test takes long random
//! ones, with the records as they are stored.

use super::*;
use crate::rules::draft::SinceCheckpoint::Clean;
use crate::rules::orphan::{self, Discard};
use crate::rules::version::{CopyRule, Promote, PromoteTo, Seen, When, promote};
use model::AccessMode;
use proptest::prelude::*;

const SERVERS: [&str; 3] = ["hw1", "hw2", "hw3"];
const DEVICES: [&str; 2] = ["m-07", "m-08"];

#[derive(Clone, Debug)]
enum Step {
    Create,
    Boot { server: usize, device: usize },
    Write { server: usize },
    Checkpoint { server: usize },
    Detach { server: usize },
    Crash { server: usize },
    Seal { server: usize },
    Hydrate { server: usize },
    Look,
    Promote,
    Release,
    Discard,
}

fn step() -> impl Strategy<Value = Step> {
    let server = || 0..SERVERS.len();
    prop_oneof![
        2 => Just(Step::Create),
        6 => (server(), 0..DEVICES.len()).prop_map(|(server, device)| Step::Boot { server, device }),
        8 => server().prop_map(|server| Step::Write { server }),
        4 => server().prop_map(|server| Step::Checkpoint { server }),
        4 => server().prop_map(|server| Step::Detach { server }),
        2 => server().prop_map(|server| Step::Crash { server }),
        4 => server().prop_map(|server| Step::Seal { server }),
        4 => server().prop_map(|server| Step::Hydrate { server }),
        3 => Just(Step::Look),
        4 => Just(Step::Promote),
        1 => Just(Step::Release),
        1 => Just(Step::Discard),
    ]
}

/// The writes that a content has, by their numbers.
type Bytes = BTreeSet<u32>;

#[derive(Clone, Default)]
struct Server {
    lease: Option<Lease>,
    /// Whether the lease's epoch is noted as dirty: writes go without asking the database then.
    marked: bool,
    /// The draft's files, which a crash leaves alone.
    files: Bytes,
}

/// A write that the device was told is safe.
struct Acknowledged {
    write: u32,
    lease: Lease,
}

struct World {
    memory: Memory,
    servers: [Server; 3],
    contents: BTreeMap<Root, Bytes>,
    acknowledged: Vec<Acknowledged>,
    discarded: Vec<Discard>,
    /// The promotion that an admin has on the screen, maybe for a long time.
    screen: Option<Promote>,
    writes: u32,
}

impl World {
    fn new() -> Self {
        let memory = Memory::of_three();
        let contents = BTreeMap::from([(content(1).root, Bytes::new())]);
        let (acknowledged, discarded) = (Vec::new(), Vec::new());
        Self {
            memory,
            servers: Default::default(),
            contents,
            acknowledged,
            discarded,
            screen: None,
            writes: 0,
        }
    }

    /// The newest version that is not in production, which everybody works on.
    fn newest(&self) -> VersionNumber {
        self.memory.view.versions_of(&name("office")).next_back().expect("version 1 is there").number
    }

    fn content_of(&mut self, bytes: Bytes) -> Content {
        let known = self.contents.iter().find(|(_, known)| **known == bytes).map(|(root, _)| *root);
        let root = known.unwrap_or_else(|| {
            let count = u32::try_from(self.contents.len()).unwrap() + 1;
            let mut root = [0; 32];
            root[..4].copy_from_slice(&count.to_le_bytes());
            Root::from_bytes(root)
        });
        self.contents.insert(root, bytes);
        Content { root, ..content(1) }
    }

    fn commit(&mut self, change: Result<Change, Refusal>) -> bool {
        change.is_ok_and(|change| self.memory.commit(change))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Create if !self.memory.view.drafts.is_empty() => (),
            Step::Create => {
                let change = version::create(&self.memory.view, create(None), &admin(2));
                self.commit(change);
            }
            Step::Boot { server, device } => drop(self.attach(server, Some(DEVICES[device]))),
            Step::Write { server } => self.write(server),
            Step::Checkpoint { server } => drop(self.checkpoint(server)),
            Step::Detach { server } => self.detach(server),
            Step::Crash { server } => {
                let files = std::mem::take(&mut self.servers[server].files);
                self.servers[server] = Server { files, ..Server::default() };
            }
            Step::Seal { server } => self.seal(server),
            Step::Hydrate { server } => {
                let root = self.memory.version(self.newest().0).root;
                let server = name(SERVERS[server]);
                let has = self.memory.view.copies.keys().filter(|(_, of)| *of == server);
                let has: BTreeSet<Root> = has.map(|(root, _)| *root).chain([root]).collect();
                let change = copy::report(&self.memory.view, &server, &has, at(4));
                self.commit(Ok(change));
            }
            Step::Look => self.look(),
            Step::Promote => {
                if self.screen.is_none() {
                    self.look();
                }
                let command = self.screen.take().expect("the admin has looked");
                let change = promote(&self.memory.view, &command, &admin(5));
                self.commit(change);
            }
            Step::Release => {
                let change = draft::release(&self.memory.view, &name("office"), self.newest(), &admin(5));
                self.commit(change);
            }
            Step::Discard => self.discard(),
        }
    }

    fn attach(&mut self, server: usize, device: Option<&str>) -> Option<Lease> {
        let number = self.newest().0;
        let before = self.memory.view.draft(&name("office"), VersionNumber(number))?.record.clone();
        let lease = self.memory.attach_on(SERVERS[server], number, device).ok()?;
        if !draft::resumes(&before, &lease.server) {
            self.servers[server].files = self.contents[&before.checkpoint].clone();
        }
        (self.servers[server].marked, self.servers[server].lease) = (false, Some(lease.clone()));
        Some(lease)
    }

    fn write(&mut self, server: usize) {
        let Some(lease) = self.servers[server].lease.clone() else { return };
        if !self.servers[server].marked {
            let change = draft::mark_dirty(&self.memory.view, &lease, at(5));
            if !self.commit(change) {
                return self.servers[server].lease = None;
            }
        }
        self.writes += 1;
        self.servers[server].marked = true;
        self.servers[server].files.insert(self.writes);
        self.acknowledged.push(Acknowledged { write: self.writes, lease });
    }

    fn checkpoint(&mut self, server: usize) -> Option<()> {
        let lease = self.servers[server].lease.clone()?;
        let content = self.content_of(self.servers[server].files.clone());
        let change = draft::checkpoint(&self.memory.view, &lease, content, Clean, at(6));
        if !self.commit(change) {
            self.servers[server].lease = None;
        }
        self.servers[server].marked = false;
        Some(())
    }

    fn detach(&mut self, server: usize) {
        let Some(lease) = self.servers[server].lease.take() else { return };
        let change = draft::detach(&self.memory.view, &lease);
        self.commit(change);
    }

    fn seal(&mut self, server: usize) {
        let Some(lease) = self.attach(server, None) else { return };
        let content = self.content_of(self.servers[server].files.clone());
        let change = draft::seal(&self.memory.view, &lease, content, &admin(6));
        assert!(self.commit(change), "nobody gets in between here");
        self.servers[server].lease = None;
    }

    fn look(&mut self) {
        let (vdisk, number) = (name("office"), self.newest());
        let (root, production) =
            (self.memory.version(number.0).root, self.memory.view.vdisks[&vdisk].production);
        let to = PromoteTo::Production(When::Now(CopyRule::AtLeast(1)));
        self.screen = Some(Promote { vdisk, number, to, seen: Seen { root, production } });
    }

    fn discard(&mut self) {
        let Ok(command) = orphan::discardable(&self.memory.view, &name("office"), self.newest()) else {
            return;
        };
        let change = orphan::discard(&self.memory.view, &command, &admin(7));
        assert!(self.commit(change), "nobody gets in between here");
        let id = OrphanId { vdisk: name("office"), number: command.number, epoch: command.to_epoch };
        self.memory.must(orphan::settle(&self.memory.view, &id, OrphanState::Kept));
        self.discarded.push(command);
    }

    /// Whether an admin gave this write up by name.
    fn given_up(&self, acknowledged: &Acknowledged) -> bool {
        let Lease { number, server, epoch, .. } = &acknowledged.lease;
        self.discarded.iter().any(|discard| {
            discard.number == *number
                && discard.server == *server
                && (discard.from_epoch..=discard.to_epoch).contains(epoch)
        })
    }

    /// A version and those that it was made from.
    fn ancestry(&self, number: VersionNumber) -> BTreeSet<VersionNumber> {
        let parent = |number: &VersionNumber| self.memory.version(number.0).parent;
        std::iter::successors(Some(number), parent).collect()
    }

    /// What a production device that boots now lacks of what was acknowledged.
    fn lost(&self) -> Vec<u32> {
        let mut lost = Vec::new();
        for version in self.memory.view.versions_of(&name("office")) {
            if version.access != AccessMode::Production {
                continue;
            }
            let bytes = &self.contents[&version.root];
            let made_from = self.ancestry(version.number);
            let of_version = self.acknowledged.iter().filter(|write| made_from.contains(&write.lease.number));
            let missing = of_version.filter(|write| !bytes.contains(&write.write) && !self.given_up(write));
            lost.extend(missing.map(|write| write.write));
        }
        lost
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.lost(), Vec::<u32>::new());
        for (id, draft) in &self.memory.view.drafts {
            prop_assert!(draft.holder.is_none() || draft.epoch > Epoch(0));
            prop_assert!(draft.dirty.as_ref().is_none_or(|dirty| dirty.from_epoch <= draft.epoch));
            prop_assert_eq!(self.memory.view.versions[id].root, draft.checkpoint);
            prop_assert!(self.memory.view.copies_of(draft.checkpoint).next().is_some());
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn in_every_order_production_sees_what_was_acknowledged_or_the_promotion_was_refused(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check()?;
        }
    }
}

#[test]
fn the_trap_step_by_step_before_during_and_after() {
    let mut world = World::new();
    let steps = |world: &mut World, steps: &[Step]| steps.iter().for_each(|step| world.take(step));
    steps(&mut world, &[Step::Create, Step::Hydrate { server: 2 }, Step::Look]);
    let mut impatient = world.screen.clone();
    steps(&mut world, &[Step::Promote]);
    assert_eq!(world.memory.production(), 1, "before: it is not sealed");
    steps(
        &mut world,
        &[Step::Boot { server: 2, device: 0 }, Step::Write { server: 2 }, Step::Seal { server: 0 }],
    );
    world.screen = impatient.take();
    steps(&mut world, &[Step::Promote]);
    assert_eq!(world.memory.production(), 1, "during: it is neither sealed nor what was on the screen");
    steps(&mut world, &[Step::Detach { server: 2 }, Step::Seal { server: 0 }, Step::Seal { server: 1 }]);
    assert_eq!(
        world.memory.view.drafts.len(),
        1,
        "the bytes are on hw3, no other server can seal without them"
    );
    steps(&mut world, &[Step::Seal { server: 2 }, Step::Look, Step::Promote]);
    assert_eq!(world.memory.production(), 2, "after");
    let booted = &world.contents[&world.memory.version(2).root];
    assert_eq!(booted, &Bytes::from([1]), "the file is there");
}
