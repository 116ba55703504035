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

/// Every key, in the order in which they are shown.
pub(crate) const KEYS: &[KeyDoc] = &[
    key("server.name", "\"hw1\"", "This server's name in the farm. Default: the host's name."),
    key(
        "server.state_dir",
        "\"/var/lib/headwater\"",
        "Where the farm database, the admin's token and caches lie.\nDefault: /var/lib/headwater, or ~/.local/share/headwater where the server does not run as root.",
    ),
    key("store.name", "\"default\"", "The store's name in the farm. Repeat [[store]] for more stores."),
    key(
        "store.path",
        "\"/srv/headwater\"",
        "This server's share of the store: a directory of its own. Default: STATE_DIR/store.",
    ),
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
        "hooks.dir",
        "\"/etc/headwater/hooks\"",
        "Programs that may be run against a draft before it is sealed; need not exist.\nOnly root or the server's user may be able to write there.",
    ),
    key("hooks.timeout_s", "1800", "How long one hook may take, in seconds, before it is stopped."),
];

/// The first key of a file that is not in [`KEYS`]; a section counts as a key.
pub(super) fn first_unknown(file: &Table) -> Option<String> {
    file.iter().find_map(|(section, content)| {
        if !KEYS.iter().any(|known| section_of(known) == section) {
            return Some(section.clone());
        }
        let tables: Vec<&Table> = match content {
            Value::Table(table) => vec![table],
            Value::Array(tables) => tables.iter().filter_map(Value::as_table).collect(),
            _ => return None,
        };
        let keys = tables.into_iter().flat_map(Table::keys).map(|key| format!("{section}.{key}"));
        keys.into_iter().find(|key| !KEYS.iter().any(|known| known.key == key))
    })
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
    let mut section = "";
    for known in KEYS {
        let (in_section, name) = known.key.split_once('.').expect("section.key");
        if in_section != section {
            section = in_section;
            let head = if in_section == "store" { "[[store]]" } else { &format!("[{section}]") };
            writeln!(text, "\n{head}").expect("a string");
        }
        known.doc.lines().for_each(|line| writeln!(text, "# {line}").expect("a string"));
        let value = match config.get(section) {
            Some(Value::Array(stores)) => stores.first().and_then(|store| store.get(name)),
            Some(table) => table.get(name),
            None => None,
        };
        match value {
            Some(value) => writeln!(text, "{name} = {value}"),
            None => writeln!(text, "# {name} = {}", known.example),
        }
        .expect("a string");
        if known.key == "store.path" {
            more_stores(&mut text, config);
        }
    }
    text
}

fn more_stores(text: &mut String, config: &Table) {
    let stores = config.get("store").and_then(Value::as_array).into_iter().flatten();
    for store in stores.skip(1) {
        writeln!(text, "\n[[store]]").expect("a string");
        for (name, value) in store.as_table().into_iter().flatten() {
            writeln!(text, "{name} = {value}").expect("a string");
        }
    }
}

fn section_of(known: &KeyDoc) -> &'static str {
    known.key.split('.').next().expect("split answers at least once")
}
