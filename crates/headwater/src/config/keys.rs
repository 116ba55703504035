//! Every key of the configuration, what it means, and how it is shown.

use super::nearest::nearest;
use std::fmt::Write;
use toml::{Table, Value};

/// A key and its documentation.
pub(crate) struct KeyDoc {
    /// `section.key`.
    pub(crate) key: &'static str,
    /// What it means, one sentence to a line.
    pub(crate) doc: &'static str,
    /// How it would be written where it has no default.
    pub(crate) example: &'static str,
}

const fn key(key: &'static str, example: &'static str, doc: &'static str) -> KeyDoc {
    KeyDoc { key, doc, example }
}

/// Sections that may stand several times.
const REPEATED: [&str; 2] = ["store", "dhcp.reservation"];

/// Every key, in the order in which they are shown.
pub(crate) const KEYS: &[KeyDoc] = &[
    key("server.name", "\"hw1\"", "This server's name in the farm. Default: the host's name."),
    key(
        "server.state_dir",
        "\"/var/lib/headwater\"",
        "Where the farm database, the admin's token and caches lie.\nDefault: /var/lib/headwater, or ~/.local/share/headwater where the server does not run as root.",
    ),
    key(
        "farm.database",
        "\"embedded\"",
        "What keeps the farm's records: \"embedded\" (a file in state_dir; a farm of one server), \"etcd\" (a cluster\nof the farm's own, that all of its servers reach).",
    ),
    key("farm.endpoints", "[\"https://10.0.0.5:2379\"]", "Where etcd's members are, the nearest first."),
    key(
        "farm.ca",
        "\"/etc/headwater/etcd-ca.crt\"",
        "Who signed etcd's certificates, a PEM file; for https.",
    ),
    key("farm.cert", "\"/etc/headwater/etcd.crt\"", "This server's certificate for etcd, a PEM file."),
    key("farm.key", "\"/etc/headwater/etcd.key\"", "The certificate's key, a PEM file."),
    key(
        "mesh.listen",
        "\"0.0.0.0:6910\"",
        "Where the other servers of the farm connect to; nobody listens there in a farm of one.",
    ),
    key("store.name", "\"default\"", "The store's name in the farm. Repeat [[store]] for more stores."),
    key(
        "store.path",
        "\"/srv/headwater\"",
        "This server's share of the store: a directory of its own. Default: STATE_DIR/store.",
    ),
    key("store.scrub_rate", "\"20MiB\"", "How many bytes a second are read to verify what is stored."),
    key("store.scrub_days", "30", "All of the store is verified once in so many days; 0 = only when asked."),
    key(
        "store.space_low_percent",
        "5",
        "With less than this part of the file system free, an event says so; 0 = never.",
    ),
    key("store.space_high_percent", "10", "With this much free again, another event says so."),
    key("http.listen", "\"0.0.0.0:6900\"", "Where the boot endpoints, the API and the status page listen."),
    key(
        "http.advertise",
        "\"10.0.0.5\"",
        "The address that devices are told to come back to.\nDefault: the one that their request came to.",
    ),
    key("nbd.listen", "\"0.0.0.0:10809\"", "Where disks are streamed from."),
    key("nbd.workers", "0", "How many threads serve connections; 0 = one for each core."),
    key(
        "nbd.mapped_cache_bytes",
        "\"256MiB\"",
        "The most memory that frequently read parts of disks may take, beside the system's page cache.",
    ),
    key("nbd.tls", "\"off\"", "Whether NBD connections are encrypted: \"off\", \"optional\", \"required\"."),
    key("nbd.cert", "\"/etc/headwater/nbd.crt\"", "The server's certificate chain, a PEM file."),
    key("nbd.key", "\"/etc/headwater/nbd.key\"", "The certificate's key, a PEM file."),
    key(
        "dhcp.mode",
        "\"off\"",
        "What part of DHCP this server answers: \"off\" (another one names it), \"proxy\" (what to boot,\nbeside another server that gives the addresses), \"full\" (addresses too).",
    ),
    key("dhcp.interface", "\"eth1\"", "The interface to answer on. Default: every one that can broadcast."),
    key("dhcp.pool_start", "\"10.0.0.100\"", "The first address to give; for mode \"full\"."),
    key("dhcp.pool_end", "\"10.0.0.199\"", "The last address to give; for mode \"full\"."),
    key("dhcp.netmask", "\"255.255.255.0\"", "The netmask to give; for mode \"full\"."),
    key("dhcp.gateway", "\"10.0.0.1\"", "The router to give; for mode \"full\"."),
    key("dhcp.dns", "[]", "The name servers to give; for mode \"full\"."),
    key("dhcp.lease_s", "3600", "How long an address is given for, in seconds; for mode \"full\"."),
    key(
        "dhcp.reservation.mac",
        "\"52:54:00:12:34:56\"",
        "A machine that always gets the same address; for mode \"full\". Repeat [[dhcp.reservation]] for more.",
    ),
    key(
        "dhcp.reservation.address",
        "\"10.0.0.20\"",
        "Its address: in the subnet, inside or outside of the pool.",
    ),
    key("dhcp.reservation.name", "\"till-1\"", "What people call it; only for them."),
    key(
        "tftp.enabled",
        "true",
        "Whether boot loaders are served by TFTP. Default: where dhcp.mode is not \"off\".",
    ),
    key("tftp.listen", "\"0.0.0.0:69\"", "Where TFTP listens."),
    key(
        "boot.loader_dir",
        "\"/usr/lib/ipxe\"",
        "Where the boot loaders of the package `ipxe` lie: undionly.kpxe, snponly.efi and others.",
    ),
    key(
        "boot.agent",
        "\"/usr/lib/headwater/headwater-agent\"",
        "The agent that is put into the devices' initrds.\nDefault: headwater-agent beside this program, then in /usr/lib/headwater.",
    ),
    key("boot.extra_args", "\"\"", "Kernel parameters for every device, such as \"console=ttyS0\"."),
    key(
        "boot.profile_s",
        "180",
        "What a device reads in so many seconds from its first read is its boot, which is noted; 0 = not.",
    ),
    key(
        "boot.profile_calm_s",
        "20",
        "A boot is over before that when it has read nothing new for so many seconds.",
    ),
    key(
        "hooks.dir",
        "\"/etc/headwater/hooks\"",
        "Programs that may be run against a draft before it is sealed; need not exist.\nOnly root or the server's user may be able to write there.",
    ),
    key("hooks.timeout_s", "1800", "How long one hook may take, in seconds, before it is stopped."),
    key("events.keep_records", "2000", "How many events the farm keeps, 100 to 20000."),
    key("events.keep_days", "90", "For how many days at most."),
    key("audit.keep_records", "10000", "How many records of the audit the farm keeps, 100 to 100000."),
    key("audit.keep_days", "365", "For how many days at most."),
    key(
        "draft.checkpoint_s",
        "600",
        "After how many seconds what a maintenance machine has written becomes a checkpoint, from which\nanother server can go on.",
    ),
    key("draft.checkpoint_bytes", "\"4GiB\"", "After how many bytes, if that is earlier."),
    key(
        "draft.reconnect_s",
        "300",
        "How many seconds a maintenance machine may be away before its draft is given back.\nOne that has shut down gives it back at once.",
    ),
    key("access.session_hours", "12", "How many hours a login is good for, 1 to 720."),
    key(
        "access.metrics_from",
        "[]",
        "Networks from which /metrics may be read without a token, such as [\"10.0.0.0/24\"].",
    ),
];

/// The first key of a file that is not in [`KEYS`]; a section counts as a key.
pub(super) fn first_unknown(file: &Table) -> Option<String> {
    file.iter().find_map(|(name, value)| unknown_in(name.clone(), value))
}

/// The unknown key at or below `path`. What is a section here and no table there is told by the
/// parser, with its line.
fn unknown_in(path: String, value: &Value) -> Option<String> {
    let is_section = KEYS.iter().any(|known| within(known.key, &path));
    if !is_section {
        return (!KEYS.iter().any(|known| known.key == path)).then_some(path);
    }
    tables_of(value)
        .into_iter()
        .flatten()
        .find_map(|(name, value)| unknown_in(format!("{path}.{name}"), value))
}

/// Whether a key lies in a section or in one of its sections.
fn within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// A section's table, or the tables of one that is repeated.
fn tables_of(value: &Value) -> Vec<&Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(tables) => tables.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    }
}

/// What was probably meant by an unknown key.
pub(super) fn hint(unknown: &str) -> String {
    let names = |full: bool| KEYS.iter().map(move |known| if full { known.key } else { section_of(known) });
    let last = |known: &&KeyDoc| known.key.rsplit('.').next() == unknown.rsplit('.').next();
    let elsewhere = || KEYS.iter().find(last).map(|known| known.key);
    match nearest(unknown, names(unknown.contains('.'))).or_else(elsewhere) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`headwater config show` lists every key".to_owned(),
    }
}

/// A file that means what `config` says, with the documentation of each key above it; keys without
/// a value are shown as comments.
pub(super) fn explain(config: &Table) -> String {
    let mut text = String::from("# headwater serve --config THIS\n");
    for keys in KEYS.chunk_by(|a, b| parent_of(a.key) == parent_of(b.key)) {
        let section = parent_of(keys[0].key);
        let tables = lookup(config, section).map(tables_of).unwrap_or_default();
        let (open, close) = if REPEATED.contains(&section) { ("[[", "]]") } else { ("[", "]") };
        let comment = if tables.is_empty() && REPEATED.contains(&section) { "# " } else { "" };
        write_line(&mut text, format_args!("\n{comment}{open}{section}{close}"));
        keys.iter().for_each(|known| explain_key(&mut text, known, tables.first().copied()));
        for more in tables.iter().skip(1) {
            write_line(&mut text, format_args!("\n{open}{section}{close}"));
            more.iter().for_each(|(name, value)| write_line(&mut text, format_args!("{name} = {value}")));
        }
    }
    text
}

fn explain_key(text: &mut String, known: &KeyDoc, table: Option<&Table>) {
    known.doc.lines().for_each(|line| write_line(text, format_args!("# {line}")));
    let name = known.key.rsplit('.').next().expect("split answers at least once");
    match table.and_then(|table| table.get(name)) {
        Some(value) => write_line(text, format_args!("{name} = {value}")),
        None => write_line(text, format_args!("# {name} = {}", known.example)),
    }
}

fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string");
}

/// What a dotted path names.
pub(super) fn lookup<'a>(config: &'a Table, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = config.get(first)?;
    match rest {
        Some(rest) => lookup(value.as_table()?, rest),
        None => Some(value),
    }
}

/// The section that a key stands in.
pub(super) fn parent_of(key: &'static str) -> &'static str {
    key.rsplit_once('.').expect("section.key").0
}

fn section_of(known: &KeyDoc) -> &'static str {
    known.key.split('.').next().expect("split answers at least once")
}
