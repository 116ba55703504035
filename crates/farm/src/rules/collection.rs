//! Making, changing and deleting collections.

use super::setup::template;
use super::vdisk::{refer_all, some_of};
use crate::change::{Change, Refusal, RefusalKind};
use crate::collection::{Collection, MAX_GENERATED_NAME, WhenFull};
use crate::event::{EventKind, NewEvent};
use crate::key::{Guard, Key};
use crate::timestamp::Timestamp;
use crate::view::{FarmView, Stored};
use model::Name;

/// The smallest write cache: below it no init gets through its start.
pub const MIN_CACHE_BYTES: u64 = 1 << 20;
/// The longest addition to a kernel command line (the kernel's own limit is 2,048 on x86).
pub const MAX_BOOT_ARGS: usize = 1024;
/// The most collections in a farm.
pub const MAX_COLLECTIONS: usize = 1000;

/// What to change of a collection; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionPatch {
    /// The vDisks, the default first; none takes them away.
    pub vdisks: Option<Vec<Name>>,
    /// The write cache's limit in bytes.
    pub cache_limit_bytes: Option<u64>,
    /// What a full write cache does.
    pub when_full: Option<WhenFull>,
    /// Kernel parameters added to the image's own.
    pub boot_args: Option<String>,
    /// What stands before the counter of generated names.
    pub prefix: Option<String>,
    /// How many digits the counter has.
    pub digits: Option<u8>,
    /// What stands behind the counter.
    pub suffix: Option<String>,
    /// Whether unknown devices are added by themselves.
    pub auto_add: Option<bool>,
    /// Whether devices get an identity of their own at boot.
    pub identity: Option<bool>,
}

/// Makes a collection from the usual template and a patch.
pub fn create(
    view: &FarmView,
    name: Name,
    patch: CollectionPatch,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if view.collections.contains_key(&name) {
        return Err(Refusal::new(
            RefusalKind::Exists,
            format!("there is a collection {name} already"),
            format!("choose another name, or change it with `headwater collection set {name}`"),
        ));
    }
    if view.collections.len() >= MAX_COLLECTIONS {
        return Err(Refusal::new(
            RefusalKind::Limit,
            format!("a farm has at most {MAX_COLLECTIONS} collections"),
            "delete those without devices",
        ));
    }
    let mut change = Change::default();
    change.absent(Key::Collection(name.clone()));
    change.event(NewEvent::new(
        EventKind::CollectionChanged,
        &name,
        format!("collection {name} was created"),
    ));
    write(view, change, template(name, now), patch)
}

/// Changes a collection; its devices follow at their next boot.
pub fn update(view: &FarmView, name: &Name, patch: CollectionPatch) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    let mut change = Change::default();
    change.unchanged(Key::Collection(name.clone()), seen);
    change.event(NewEvent::new(EventKind::CollectionChanged, name, format!("collection {name} was changed")));
    write(view, change, seen.record.clone(), patch)
}

/// Deletes a collection that has no devices.
pub fn delete(view: &FarmView, name: &Name) -> Result<Change, Refusal> {
    let seen = find(view, name)?;
    let mut devices = view.devices.values().filter(|d| d.collection == *name).map(|d| &d.name).peekable();
    if devices.peek().is_some() {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("collection {name} has devices: {}", some_of(devices)),
            "move them with `headwater device set NAME --collection OTHER`, or remove them",
        ));
    }
    let mut change = Change::default();
    change.unchanged(Key::Collection(name.clone()), seen);
    change.unguarded(Guard::Collection(name.clone()), view.guard(&Guard::Collection(name.clone())));
    change.delete(Key::Collection(name.clone()));
    change.delete(Key::Guard(Guard::Collection(name.clone())));
    change.event(NewEvent::new(EventKind::CollectionChanged, name, format!("collection {name} was deleted")));
    Ok(change)
}

/// The collection of a name, or a refusal.
pub(super) fn find<'a>(view: &'a FarmView, name: &Name) -> Result<&'a Stored<Collection>, Refusal> {
    view.collections.get(name).ok_or_else(|| Refusal::not_found("collection", name, "collection list"))
}

fn write(
    view: &FarmView,
    mut change: Change,
    mut collection: Collection,
    patch: CollectionPatch,
) -> Result<Change, Refusal> {
    if let Some(vdisks) = &patch.vdisks {
        refer_all(view, &mut change, vdisks)?;
    }
    if patch.auto_add == Some(true) {
        only_auto_add(view, &mut change, &collection.name)?;
    }
    apply(&mut collection, patch);
    check(&collection)?;
    change.put(Key::Collection(collection.name.clone()), &collection);
    Ok(change)
}

/// One collection at most takes unknown devices: with two it would be chance which one does.
fn only_auto_add(view: &FarmView, change: &mut Change, name: &Name) -> Result<(), Refusal> {
    let other = view.collections.values().find(|other| other.auto_add && other.name != *name);
    if let Some(other) = other {
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("collection {} adds unknown devices already, and only one may", other.name),
            format!("`headwater collection set {} --auto-add off` first", other.name),
        ));
    }
    change.unguarded(Guard::AutoAdd, view.guard(&Guard::AutoAdd));
    change.guard(Guard::AutoAdd);
    Ok(())
}

fn apply(collection: &mut Collection, patch: CollectionPatch) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut collection.vdisks, patch.vdisks);
    set(&mut collection.write_cache.limit_bytes, patch.cache_limit_bytes);
    set(&mut collection.write_cache.when_full, patch.when_full);
    set(&mut collection.boot_args, patch.boot_args);
    set(&mut collection.naming.prefix, patch.prefix);
    set(&mut collection.naming.digits, patch.digits);
    set(&mut collection.naming.suffix, patch.suffix);
    set(&mut collection.auto_add, patch.auto_add);
    set(&mut collection.identity, patch.identity);
}

fn check(collection: &Collection) -> Result<(), Refusal> {
    let invalid = |message: String, hint: &str| Err(Refusal::new(RefusalKind::Invalid, message, hint));
    if collection.write_cache.limit_bytes < MIN_CACHE_BYTES {
        return invalid(
            format!("a write cache of {} bytes is too small", collection.write_cache.limit_bytes),
            "give it at least 1MiB",
        );
    }
    let naming = &collection.naming;
    if naming.name(1).is_none() {
        return invalid(
            format!(
                "prefix {:?}, {} digits and suffix {:?} make no device name",
                naming.prefix, naming.digits, naming.suffix
            ),
            &format!(
                "use a-z, 0-9, '-', '.', '_', 1 to 9 digits, and at most {MAX_GENERATED_NAME} characters in all"
            ),
        );
    }
    check_boot_args(&collection.boot_args)
}

/// Kernel parameters go through an iPXE script: what would be more than text there is refused.
fn check_boot_args(args: &str) -> Result<(), Refusal> {
    let invalid = |message: String| {
        let hint = "give kernel parameters separated by spaces, such as \"quiet console=ttyS0\"";
        Err(Refusal::new(RefusalKind::Invalid, message, hint))
    };
    if args.len() > MAX_BOOT_ARGS {
        return invalid(format!("boot arguments of {} bytes: {MAX_BOOT_ARGS} is the limit", args.len()));
    }
    if let Some(bad) = args.chars().find(|c| !matches!(c, ' '..='~')) {
        return invalid(format!("{bad:?} may not stand in boot arguments"));
    }
    if args.contains("${") {
        return invalid("\"${\" may not stand in boot arguments: iPXE would replace it".to_owned());
    }
    let word = |word: &&str| matches!(*word, "||" | "&&") || word.starts_with('#');
    match args.split(' ').find(word) {
        Some(bad) => invalid(format!("{bad:?} may not stand in boot arguments: it means something to iPXE")),
        None => match args.split(' ').find(|word| word.starts_with("headwater.")) {
            Some(bad) => invalid(format!("{bad:?} is set by headwater itself")),
            None => Ok(()),
        },
    }
}
